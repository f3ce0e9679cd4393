"""Models of several levels and codebooks, from a recipe to a published artifact; the alarm for collapsed codebooks."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from artifact.golden import read
from artifact.manifest import DiscreteLevel
from artifact.store import Artifact, Store
from models.bottleneck import DiscreteBottleneck
from training.cli import main
from training.codes import codebooks, collapse_warnings, encode, first_codebooks
from training.collapse import CodeWatch, collapse_warning, evenness
from training.data import load
from training.run import Run

K, SIDE = 16, 8
MODELS = {
    "residual": """
family = "vqvae"
network = { downsampling = 4, hidden = 12, residual_hidden = 8, residual_blocks = 1 }
quantizer = { num_embeddings = 16, embedding_dim = 4, num_codebooks = 3, codebook_dropout = 0.5 }
""",
    "finite-scalar": """
family = "vqvae"
network = { downsampling = 2, hidden = 12, residual_hidden = 8, residual_blocks = 1 }
quantizer = { kind = "fsq", levels = [4, 2, 2] }
""",
    "hierarchy": """
family = "hierarchical-vqvae"
network = { downsamplings = [4, 2], features = 8, hidden = 12, residual_hidden = 8, residual_blocks = 1 }
quantizer = { num_embeddings = 16, embedding_dim = 4, num_codebooks = 2, gradient = "rotation" }
""",
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name == "hierarchy" else [pytest.mark.slow]) for name in MODELS],
)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def run(name: str, vq_recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fit a model for a moment."""
    folder = tmp_path_factory.mktemp(name)
    before, rest = vq_recipe_file.read_text().split("[model]")
    fit = rest.split("[fit]")[1].split("[prior]")[0]
    likelihood = 'likelihood = { kind = "gaussian", variance = "shared", scale = 60.0 }'
    text = before.replace("bars-vq", name) + f"[model]{MODELS[name]}{likelihood}\n[fit]{fit}"
    if name == "hierarchy":
        text = text.replace(f"size = {SIDE}", f"crop = {SIDE}")
    (folder / "recipe.toml").write_text(text)
    assert main(["fit", str(folder / "recipe.toml"), "--output", str(folder / "run"), "--fit.steps", "40"]) == 0
    assert main(["evaluate", str(folder / "run")]) == 0
    return Run(folder / "run")


@pytest.fixture(scope="module")
def artifact(name: str, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store = tmp_path_factory.mktemp("store")
    variants = ["--variants", "fp16"] if name == "residual" else []
    assert main(["export", str(run.path), "--store", str(store), *variants]) == 0
    return Store(store).open(name)


def session(artifact: Artifact, role: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(artifact.file(role), providers=["CPUExecutionProvider"])


def test_graphs_take_and_give_every_level(name: str, run: Run, artifact: Artifact) -> None:
    recipe = run.recipe()
    splits = load(recipe.data)
    model = run.model(recipe, splits.train.shape)
    assert isinstance(model.bottleneck, DiscreteBottleneck)
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3) if name == "hierarchy" else (5, 8, 8, 3), np.uint8)
    codes = encode(model, x)
    graph = artifact.manifest.graphs["encode"]
    found = dict(zip(codes, session(artifact, "encode").run(list(codes), {"x": x}), strict=True))
    assert [tensor.name for tensor in graph.outputs] == list(codes)
    same = [np.mean(found[level] == codes[level]) for level in codes]
    assert min(same) > 0.97, "all but near-ties and what follows from them"
    with torch.no_grad():
        for kept in (codes, first_codebooks(model.bottleneck, codes, 1)):
            point = model.bottleneck.point({level: torch.from_numpy(value) for level, value in kept.items()})
            decoded = session(artifact, "decode").run(["mean"], kept)[0]
            np.testing.assert_allclose(decoded, model.mean(point).numpy(), rtol=1e-4, atol=1e-2)
            vectors = session(artifact, "embed").run(None, kept)
            expected = model.bottleneck.vectors({level: torch.from_numpy(value) for level, value in kept.items()})
            for one, other in zip(vectors, expected, strict=True):
                np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
            log_p = session(artifact, "log_likelihood").run(None, {"x": x} | kept)[0]
            params = model.decode(point)
            np.testing.assert_allclose(
                log_p, model.likelihood.pixel_log_prob(torch.from_numpy(x), params).numpy(), rtol=1e-4, atol=1e-3
            )


def test_the_manifest_says_what_the_levels_are(name: str, artifact: Artifact) -> None:
    manifest = artifact.manifest
    downsamplings = {"hierarchy": (4, 2), "residual": (4,), "finite-scalar": (2,)}[name]
    codebooks = {"residual": 3, "hierarchy": 2}.get(name, 1)
    dimensions = 3 if name == "finite-scalar" else 4
    assert manifest.latent == tuple(
        DiscreteLevel(num_embeddings=K, embedding_dim=dimensions, num_codebooks=codebooks, downsampling=downsampling)
        for downsampling in downsamplings
    )
    shapes = {
        "residual": [("B", 3, 2, 2)],
        "finite-scalar": [("B", 4, 4)],
        "hierarchy": [("B", 2, "h_0", "w_0"), ("B", 2, "h_1", "w_1")],
    }[name]
    assert [tensor.shape for tensor in manifest.graphs["decode"].inputs] == shapes
    assert manifest.graphs["decode"].inputs[0].minimum == (-1 if codebooks > 1 else 0)
    assert manifest.parity.codes is not None
    assert manifest.parity.codes.differing <= manifest.parity.codes.near_ties
    sessions = {role: session(artifact, role) for role in manifest.graphs}

    def run(role: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [tensor.name for tensor in manifest.graphs[role].outputs]
        return dict(zip(names, sessions[role].run(names, feeds), strict=True))

    assert set(read(artifact).check(run).errors) == set(manifest.graphs)


def test_figures_tell_of_every_codebook(name: str, run: Run) -> None:
    metrics = json.loads(run.metrics_file.read_text())["metrics"]
    recipe = run.recipe()
    splits = load(recipe.data)
    model = run.model(recipe, splits.train.shape)
    assert isinstance(model.bottleneck, DiscreteBottleneck)
    books = codebooks(model.bottleneck)
    labels = [book.label for book in books]
    assert (
        labels
        == {
            "residual": ["codebook_0", "codebook_1", "codebook_2"],
            "finite-scalar": [""],
            "hierarchy": [f"level_{level}_codebook_{book}" for level in (0, 1) for book in (0, 1)],
        }[name]
    )
    if name == "hierarchy":
        return
    images = splits.test.fixed()
    codes = encode(model, images)
    shares = []
    for book in books:
        grid = book.grid(codes)
        counts = np.bincount(grid.ravel(), minlength=K) / grid.size
        shares.append(np.exp(-(counts[counts > 0] * np.log(counts[counts > 0])).sum()) / K)
        if book.label:
            found = metrics[f"perplexity_over_num_embeddings_{book.label}"]
            assert found == pytest.approx(shares[-1])
            assert metrics[f"usage_{book.label}"] == (counts > 0).mean()
    assert metrics["perplexity_over_num_embeddings"] == pytest.approx(min(shares))
    places = sum(book.grid(codes)[0].size for book in books)
    assert metrics["raw_bits_per_pixel"] == pytest.approx(4 * places / SIDE**2)
    assert metrics["kl_nats"] == pytest.approx(places * np.log(K))
    if name == "residual":
        for count in (1, 2):
            prefix = {"codes": torch.from_numpy(first_codebooks(model.bottleneck, codes, count)["codes"])}
            with torch.no_grad():
                answer = model.mean(model.bottleneck.point(prefix)).numpy().round()
            assert metrics[f"mse_first_{count}"] == pytest.approx(((answer - images) ** 2.0).mean(), rel=1e-5)
            assert metrics[f"raw_bits_per_pixel_first_{count}"] == pytest.approx(4 * count * 4 / SIDE**2)


def test_collapse_is_told_from_few_samples() -> None:
    random = np.random.default_rng(0)
    for count in (50, 512, 50_000):
        shares = np.bincount(random.integers(0, 512, count), minlength=512) / count
        perplexity = float(np.exp(-(shares[shares > 0] * np.log(shares[shares > 0])).sum()))
        assert 0.8 < evenness(perplexity, 512, count) < 1.1
        assert collapse_warning("", perplexity, 512, count) is None
    told = collapse_warning("level_1_codebook_0", 3.0, 512, 50_000)
    assert told is not None
    assert told.startswith("the codebook level 1 codebook 0 has collapsed: its perplexity is 3.0 of 512 codes, 1%")
    assert "fit again with" in told


def test_the_watch_follows_the_last_batches() -> None:
    watch, generator = CodeWatch(), torch.Generator().manual_seed(0)
    for _ in range(100):
        figure = watch.add("", torch.randint(0, 64, (8, 10, 10), generator=generator), 64)
    assert 60 < figure.item() <= 64
    assert watch.warnings() == ()
    for _ in range(1000):
        figure = watch.add("", torch.randint(-1, 2, (8, 10, 10), generator=generator), 64)
    assert figure.item() == pytest.approx(2.0, abs=0.01)
    (told,) = watch.warnings()
    assert "the codebook has collapsed" in told


@pytest.mark.slow
def test_a_collapsed_model_is_published_with_a_warning(
    vq_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Codes far away from everything but one, which nothing revives."""
    recipe = tmp_path / "recipe.toml"
    quantizer = 'num_embeddings = 256, initialisation = "random", revive_below = 0.0, commitment_cost = 1000.0'
    text = vq_recipe_file.read_text().split("[prior]")[0]
    recipe.write_text(re.sub(r"quantizer = {.*}", f"quantizer = {{ embedding_dim = 4, {quantizer} }}", text))
    assert main(["fit", str(recipe), "--output", str(tmp_path / "run"), "--fit.steps", "75"]) == 0
    assert "warning: the codebook has collapsed" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "warning: the codebook has collapsed" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "run"), "--store", str(tmp_path / "store")]) == 0
    exported = Store(tmp_path / "store").open("bars-vq")
    (warning,) = exported.manifest.warnings
    assert warning.startswith("the codebook has collapsed")
    assert f"**Warning:** {warning}" in (exported.path / "MODEL_CARD.md").read_text()
    run = Run(tmp_path / "run")
    model = run.model(run.recipe(), (SIDE, SIDE, 3))
    assert isinstance(model.bottleneck, DiscreteBottleneck)
    held_out = encode(model, load(run.recipe().data).test.fixed())
    assert collapse_warnings(model.bottleneck, [held_out]) == (warning,)
