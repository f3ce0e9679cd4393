"""Chains of priors: of a hierarchy of residual codes, and of pictures of any size."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from artifact.codes import Arrays, surprise_nats
from artifact.golden import read
from artifact.noise import CODES_STREAM, batch_uniform
from artifact.sampling import complete, sample
from artifact.store import Artifact, Store
from media.images import write_png
from service.engine.engine import Engine
from service.sampling import sample_codes
from service.settings import Settings
from tests.service.serving import with_engine
from training.cli import main
from training.code_sets import CodeSet, code_set
from training.codes import codebooks, encode
from training.data import ImageArray, load
from training.errors import RunError
from training.graphs.prior import Asked, draw
from training.links import codes_of
from training.run import Run

FIT = "steps = 30\nbatch_size = 32\nlearning_rate = 5e-3\nwarmup_steps = 5\nvalidate_every = 15\nthreads = 1\n"
PRIOR = "channels = 4, layers = 2, hidden = 8, features = 4, feature_blocks = 1"
ATTENTION = 'kind = "pixelsnail", heads = 2, attention_every = 1'
LINK = "[[prior.links]]\nmodel = {{ {} }}\n[prior.links.fit]\n{}"
LINKS = LINK.format(f"{ATTENTION}, {PRIOR}", FIT) + 3 * LINK.format(PRIOR, FIT)
GRIDS = ((2, 2), (2, 2), (4, 4), (4, 4))


@pytest.fixture(scope="module")
def chain_run(bars_by_class: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fit a hierarchy of two levels with two codebooks each, and the four links of its prior."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "recipe.toml").write_text(f"""
name = "bars-chain"
data = {{ source = "folder", root = "{bars_by_class}", size = 8 }}

[model]
family = "hierarchical-vqvae"
network = {{ downsamplings = [4, 2], features = 6, hidden = 8, residual_hidden = 4, residual_blocks = 1 }}
quantizer = {{ num_embeddings = 8, embedding_dim = 3, num_codebooks = 2, initialisation = "kmeans" }}
likelihood = {{ kind = "gaussian", scale = 60.0 }}

[fit]  # no more than the codebooks' beginning, where all codes are in use
steps = 1
batch_size = 160
learning_rate = 1e-6
threads = 1

[prior]
{LINKS}""")
    assert main(["fit", str(folder / "recipe.toml"), "--output", str(folder / "run")]) == 0
    assert main(["fit-prior", str(folder / "run")]) == 0
    return Run(folder / "run")


@pytest.fixture(scope="module")
def chain_artifact(chain_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    assert main(["evaluate", str(chain_run.path)]) == 0
    store = tmp_path_factory.mktemp("store")
    assert main(["export", str(chain_run.path), "--store", str(store)]) == 0
    return Store(store).open("bars-chain")


class Sessions:
    """The graphs of an artifact, opened by the runtime itself."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact, self.sessions = artifact, dict[str, onnxruntime.InferenceSession]()

    def run(self, role: str, feeds: Arrays) -> Arrays:
        if role not in self.sessions:
            path = self.artifact.file(role)
            self.sessions[role] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in self.sessions[role].get_outputs()]
        return dict(zip(names, self.sessions[role].run(names, feeds), strict=True))


@pytest.mark.slow
def test_every_grid_of_codes_has_a_link_in_the_manifest(chain_artifact: Artifact) -> None:
    manifest = chain_artifact.manifest
    assert manifest.prior is not None
    assert [(link.level, link.codebook) for link in manifest.prior.links] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert tuple(link.grid for link in manifest.prior.links) == GRIDS
    assert manifest.prior.conditions == {"label": ("lying", "standing")}
    roles = {role for role in manifest.graphs if role.startswith("prior")}
    steps = {f"prior_{i}{kind}" for i in (1, 2, 3) for kind in ("", "_given", "_row", "_pixel")}
    assert roles == {"prior", "prior_row", "prior_pixel"} | steps
    assert {"cache_keys_0", "cache_values_1"} <= {tensor.name for tensor in manifest.graphs["prior_pixel"].inputs}
    assert manifest.parity.prior is not None
    assert manifest.parity.prior.drawn == 32 * (4 + 4 + 16 + 16)
    read(chain_artifact).check(Sessions(chain_artifact).run)


@pytest.mark.slow
def test_code_lengths_of_the_links_add_up(chain_artifact: Artifact, chain_run: Run) -> None:
    """The published graphs give the bits that `evaluate` stored, and the joint bound is made of them."""
    recipe, sessions, metrics = chain_run.recipe(), Sessions(chain_artifact), chain_artifact.manifest.metrics
    splits = load(recipe.data)
    x = splits.test.fixed()
    model = chain_run.model(recipe, splits.train.shape)
    books = codebooks(codes_of(model))
    grids = [book.grid(sessions.run("encode", {"x": x})) for book in books]
    total = 0.0
    for index, (book, codes) in enumerate(zip(books, grids, strict=True)):
        role = f"prior_{index}" if index else "prior"
        feeds: Arrays = {"codes": codes, "condition": np.full(len(x), 2)}
        if index:
            feeds |= sessions.run(f"{role}_given", {f"codes_{i}": grids[i] for i in range(index)})
        nats = surprise_nats(sessions.run(role, feeds)["logits"], codes)
        assert metrics[f"prior_bits_per_token_{book.label}"] == pytest.approx(nats.mean() / np.log(2), rel=1e-4)
        total += nats.sum() / len(x)
    assert metrics["kl_nats"] == pytest.approx(total, rel=1e-5)
    assert metrics["elbo_nats"] == pytest.approx(metrics["reconstruction_nats"] - total, rel=1e-6)


@pytest.mark.slow
def test_links_are_drawn_one_after_the_other(chain_artifact: Artifact) -> None:
    """By steps, and again by whole passes from the same noise, given the grids that were drawn before."""
    sessions, manifest = Sessions(chain_artifact), chain_artifact.manifest
    assert manifest.prior is not None
    condition, drawn = np.arange(6) % 3, list[np.ndarray]()
    for index, link in enumerate(manifest.prior.links):
        role = f"prior_{index}" if index else "prior"
        uniform = batch_uniform(index, 0, 6, int(np.prod(link.grid)), stream=CODES_STREAM)
        besides: Arrays = {"condition": condition}
        if index:
            besides |= sessions.run(f"{role}_given", {f"codes_{i}": codes for i, codes in enumerate(drawn)})
        found = complete(sample(manifest.graphs, link, {"uniform": uniform} | besides, index=index), sessions.run)
        codes = np.zeros_like(found)
        for place in range(uniform.shape[1]):
            row, column = divmod(place, link.grid[1])
            logits = sessions.run(role, {"codes": codes} | besides)["logits"][:, row, column].astype(np.float64)
            shares = np.exp(logits - logits.max(1, keepdims=True)).cumsum(1)
            codes[:, row, column] = (shares / shares[:, -1:] <= uniform[:, place, None]).sum(1)
        assert np.array_equal(found, codes)
        drawn.append(found)


def test_a_link_can_be_fitted_alone(chain_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "alone")
    run.path.mkdir()
    for name in ("recipe.toml", "best.safetensors"):
        (run.path / name).write_bytes((chain_run.path / name).read_bytes())
    assert main(["fit-prior", str(run.path), "--link", "4"]) == 1
    assert "no link 4, only 0 .. 3" in capsys.readouterr().err
    assert main(["fit-prior", str(run.path), "--link", "1"]) == 0
    assert [link.path.name for link in run.links] == ["prior_1"]
    assert (run.link(1).best).read_bytes() == chain_run.link(1).best.read_bytes()
    assert main(["evaluate", str(run.path)]) == 1
    assert "link 0 of the prior is not fitted yet" in capsys.readouterr().err
    recipe = run.recipe_file
    recipe.write_text(recipe.read_text().replace("[[prior.links]]", "[[prior.links]]\n[[prior.links]]", 1))
    assert main(["fit-prior", str(run.path), "--link", "0"]) == 1
    assert "5 [[prior.links]], the model has 4 grids" in capsys.readouterr().err


@pytest.mark.slow
def test_photographs_have_a_prior_of_any_size(
    vq_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, photos = np.random.default_rng(0), tmp_path / "photos"
    photos.mkdir()
    for index in range(30):
        sides = random.integers(9, 20, 2)
        ramp = (np.add.outer(np.arange(sides[0]), np.arange(sides[1])) * 12 + random.integers(0, 80)) % 256
        (photos / f"{index:02}.png").write_bytes(write_png(ramp[..., None].repeat(3, 2).astype(np.uint8)))
    text = vq_recipe_file.read_text()
    folder = text[text.index('root = "') : text.index("size = 8")]
    recipe = tmp_path / "photos.toml"
    recipe.write_text(text.replace(folder, f'root = "{photos}"\n').replace("size = 8", "crop = 8\nflip = true"))
    run, small = Run(tmp_path / "run"), ["--prior.fit.steps", "10", "--prior.fit.validate_every", "10"]
    assert main(["fit", str(recipe), "--output", str(run.path), "--fit.steps", "40"]) == 0
    assert main(["fit-prior", str(run.path), "--prior.crop", "40", *small]) == 1
    assert "no example has room for prior.crop = 40" in capsys.readouterr().err
    assert main(["fit-prior", str(run.path), "--prior.crop", "4", *small, "--prior.model.kind", "pixelsnail"]) == 1
    assert "grids of one size alone" in capsys.readouterr().err
    assert main(["fit-prior", str(run.path), "--prior.crop", "4", *small]) == 0
    assert main(["evaluate", str(run.path)]) == 0
    assert main(["export", str(run.path), "--store", str(tmp_path / "store")]) == 0
    artifact = Store(tmp_path / "store").open("bars-vq")
    manifest, sessions = artifact.manifest, Sessions(artifact)
    assert manifest.prior is not None
    (link,) = manifest.prior.links
    assert (link.grid, link.any_size) == ((4, 4), True)
    nats = tokens = 0.0
    test = load(run.recipe().data).test
    for index in range(len(test)):
        height, width = (side + side % 2 for side in test[index].shape[:2])
        padded = np.zeros((1, height, width, 3), dtype=np.uint8)
        last_row, last_column = (size - 1 for size in test[index].shape[:2])
        padded[0] = test[index][np.minimum(np.arange(height), last_row)][:, np.minimum(np.arange(width), last_column)]
        codes = sessions.run("encode", {"x": padded})["codes"]
        nats += surprise_nats(sessions.run("prior", {"codes": codes})["logits"], codes).sum()
        tokens += codes.size
    assert manifest.metrics["tokens"] == tokens
    assert manifest.metrics["prior_bits_per_token"] == pytest.approx(nats / tokens / np.log(2), rel=2e-2)


def test_parts_of_all_grids_lie_over_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    """Each code is the number of its place, so that a part tells where it was cut."""
    tops = [np.arange(h * w, dtype=np.int32).reshape(h, w) for h, w in ((5, 7), (3, 4))]
    bottoms = [top.repeat(2, 0).repeat(2, 1) for top in tops]
    codes = CodeSet((tops, bottoms), {"label": np.array([4, 6])})
    for random in (None, np.random.default_rng(0)):
        for _ in range(20):
            top, bottom = codes.crops(np.array([0, 1]), [3, 6], random)
            assert torch.equal(top.repeat_interleave(2, 1).repeat_interleave(2, 2), bottom)
            assert (top[0, :, 1:] - top[0, :, :-1] == 1).all()
    left = codes.with_room(4, "training")
    assert "1 of the 2 grids of the training split are left out" in capsys.readouterr().err
    assert len(left) == 1
    assert left.labels["label"].tolist() == [4]
    with pytest.raises(RunError, match="the largest has 5"):
        codes.with_room(6, "training")


def test_mirror_images_are_encoded_where_the_fit_sees_them(chain_run: Run) -> None:
    recipe = chain_run.recipe()
    splits = load(recipe.data)
    model = chain_run.model(recipe, splits.train.shape)
    images = splits.train.fixed(5)
    found = code_set(model, codes_of(model), ImageArray(images, flip=True), {"label": np.arange(5)}, None)
    mirrored = encode(model, np.ascontiguousarray(images[:, :, ::-1]))
    for book, grids in zip(codebooks(codes_of(model)), found.grids, strict=True):
        assert np.array_equal(grids[5:], book.grid(mirrored))
    assert found.labels["label"].tolist() == [*range(5)] * 2


@pytest.mark.slow
def test_the_same_seed_draws_the_same_codes_in_training_and_in_the_service(
    chain_artifact: Artifact, chain_run: Run
) -> None:
    recipe = chain_run.recipe()
    splits = load(recipe.data)
    model = chain_run.model(recipe, splits.train.shape)
    prior = chain_run.fitted_prior(recipe, model, splits)
    assert prior is not None
    labels = np.arange(5) % 3
    expected = draw(prior, Asked(seed=11, count=5, conditions={"label": labels}, first_index=7))

    async def served(engine: Engine) -> dict[str, np.ndarray]:
        named = engine.named("bars-chain")[0]
        return await sample_codes(engine, named, n=5, seed=11, first_index=7, conditions={"condition": labels})

    found = with_engine(Settings(store=chain_artifact.path.parents[1], device="cpu", threads=1), served)
    books = codebooks(codes_of(model))
    assert all(np.array_equal(book.grid(found), grid) for book, grid in zip(books, expected, strict=True))
    assert len({grid.tobytes() for grid in (expected[0], expected[1])}) == 2, "each link has noise of its own"
