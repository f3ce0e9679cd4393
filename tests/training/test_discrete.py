"""A model of codes and its prior, from pictures in class folders to a published artifact."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from artifact.codes import sample_raster, surprise_nats
from artifact.noise import CODES_STREAM, batch_uniform
from artifact.store import Artifact, Store
from media.images import write_png
from models.bottleneck import VectorQuantizedBottleneck
from models.likelihoods import DiscretizedGaussian
from training import fit_prior as fit_prior_module
from training import parity as parity_module
from training.cli import main
from training.codes import encode, statistics
from training.data import Photographs, load
from training.errors import ExportError
from training.evaluate_codes import evaluate_codes
from training.export import export
from training.parity import Graphs
from training.recipe import read_recipe
from training.run import Run, codes_of

K, SIDE, GRID = 16, 8, 4


@pytest.fixture(scope="module")
def bars_by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 200 colour pictures of one bar each, in folders `lying` and `standing`."""
    root = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for index in range(200):
        image = np.full((SIDE, SIDE, 3), 60, dtype=np.uint8)
        name, place = ("lying", "standing")[index % 2], random.integers(0, SIDE)
        bar = image[place] if name == "lying" else image[:, place]
        bar[:] = random.integers(0, 256, 3)
        folder = root / name
        folder.mkdir(exist_ok=True)
        (folder / f"{index}.png").write_bytes(write_png(image))
    return root


@pytest.fixture(scope="module")
def recipe_file(bars_by_class: Path) -> Path:
    path = bars_by_class.with_name("bars-vq.toml")
    path.write_text(f"""
name = "bars-vq"

[data]
source = "folder"
root = "{bars_by_class}"
size = {SIDE}

[model]
family = "vqvae"
network = {{ downsampling = 2, hidden = 12, residual_hidden = 8, residual_blocks = 1 }}
quantizer = {{ num_embeddings = {K}, embedding_dim = 4 }}
likelihood = {{ kind = "gaussian", variance = "shared", scale = 60.0 }}

[fit]
steps = 150
batch_size = 32
learning_rate = 3e-3
warmup_steps = 10
validate_every = 75
threads = 1

[prior]
model = {{ channels = 8, layers = 4, hidden = 16 }}

[prior.fit]
steps = 60
batch_size = 32
learning_rate = 5e-3
warmup_steps = 5
validate_every = 30
checkpoint_every = 7
threads = 1
""")
    return path


@pytest.fixture(scope="module")
def run(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "bars-vq"
    assert main(["fit", str(recipe_file), "--output", str(path)]) == 0
    assert main(["fit-prior", str(path)]) == 0
    return Run(path)


@pytest.fixture(scope="module")
def artifact(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    store = tmp_path_factory.mktemp("store")
    assert main(["evaluate", str(run.path)]) == 0
    assert main(["export", str(run.path), "--store", str(store)]) == 0
    return Store(store).open("bars-vq")


def test_the_codebook_is_used_and_the_prior_has_learned(run: Run) -> None:
    recipe = run.recipe()
    splits = load(recipe.data)
    model = run.model(recipe, splits.train.shape)
    prior = run.fitted_prior(recipe, model, len(splits.classes))
    assert prior is not None
    assert prior.num_classes == 2
    assert isinstance(model.bottleneck, VectorQuantizedBottleneck)
    metrics = evaluate_codes(model, model.bottleneck, prior, splits.test)
    assert metrics["perplexity"] > 3.0
    assert metrics["prior_bits_per_token"] < metrics["entropy_bits_per_token"] < metrics["raw_bits_per_token"]
    assert metrics["prior_given_class_bits_per_token"] < metrics["prior_bits_per_token"] + 0.1


@torch.no_grad()
def test_figures_equal_direct_formulas(run: Run) -> None:
    recipe = run.recipe()
    splits = load(recipe.data)
    images = splits.test.fixed()
    model = run.model(recipe, splits.train.shape)
    assert isinstance(model.bottleneck, VectorQuantizedBottleneck)
    metrics = evaluate_codes(model, model.bottleneck, None, splits.test)
    codes = encode(model, images)
    params = model.decode(model.bottleneck.point({"codes": torch.from_numpy(codes)}))
    location = params["location"].double().numpy() * 127.5 + 127.5
    scale = params["log_scale"].double().exp().numpy() * 127.5
    upper = np.where(images == 255, np.inf, images + 0.5)
    lower = np.where(images == 0, -np.inf, images - 0.5)
    log_p = np.log(stats.norm.cdf(upper, location, scale) - stats.norm.cdf(lower, location, scale))
    reconstruction = log_p.sum((1, 2, 3)).mean()
    assert metrics["reconstruction_nats"] == pytest.approx(reconstruction, rel=1e-5)
    assert metrics["elbo_nats"] == pytest.approx(reconstruction - GRID * GRID * np.log(K), rel=1e-5)
    assert metrics["bits_per_dim"] == pytest.approx(-metrics["elbo_nats"] / (images[0].size * np.log(2)))
    assert metrics["usage"] == len(np.unique(codes)) / K
    shares = np.unique(codes, return_counts=True)[1] / codes.size
    assert metrics["perplexity"] == pytest.approx(np.exp(stats.entropy(shares)))
    assert metrics["raw_bits_per_pixel"] == pytest.approx(4 * GRID * GRID / SIDE**2)


def test_photographs_count_their_own_pixels_alone(run: Run) -> None:
    """A picture of odd size is padded for the model; its figures are those of its own pixels."""
    recipe = run.recipe()
    model = run.model(recipe, (SIDE, SIDE, 3))
    assert isinstance(model.bottleneck, VectorQuantizedBottleneck)
    assert isinstance(model.likelihood, DiscretizedGaussian)
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    metrics = evaluate_codes(model, model.bottleneck, None, Photographs([image], crop=8))
    whole = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge")
    with torch.no_grad():
        x = torch.from_numpy(whole[None])
        codes = model.encode(x)["codes"]
        log_p = model.likelihood.pixel_log_prob(x, model.decode(model.bottleneck.point({"codes": codes})))
        answer = model.reconstruct(x).round().numpy()[0, :7, :9]
    assert metrics["reconstruction_nats"] == pytest.approx(float(log_p[0, :7, :9].sum()))
    assert metrics["mse"] == pytest.approx(((answer - image) ** 2).mean())
    assert metrics["kl_nats"] == pytest.approx(4 * 5 * np.log(K))


def test_statistics_are_entropies_of_counts() -> None:
    chain = np.array([[[0, 1, 0, 1], [1, 0, 1, 0]]], dtype=np.int32)
    found = statistics([chain], 4)
    assert found.usage == 0.5
    assert found.perplexity == pytest.approx(2.0)
    assert found.order_1_entropy_bits == pytest.approx(0.0, abs=1e-9)
    random = np.random.default_rng(0).integers(0, 4, (500, 8, 8), dtype=np.int32)
    independent = statistics([random], 4)
    assert independent.entropy_bits == pytest.approx(2.0, abs=1e-3)
    assert independent.order_1_entropy_bits == pytest.approx(2.0, abs=1e-3)


def test_the_artifact_says_what_it_can(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert set(manifest.graphs) == {
        "encode", "embed", "decode", "log_likelihood", "prior", "prior_row", "prior_pixel"
    }  # fmt: skip
    assert manifest.capabilities == (
        "encode", "decode", "reconstruct", "sample", "likelihood", "compress", "decompress"
    )  # fmt: skip
    assert manifest.prior is not None
    assert manifest.prior.classes == ("lying", "standing")
    assert (manifest.prior.height, manifest.prior.width) == (GRID, GRID)
    assert {"weights.data", "prior.data"} <= set(manifest.files)
    assert manifest.parity.codes is not None
    assert manifest.parity.codes.compared == 20 * GRID * GRID
    assert manifest.parity.prior is not None
    assert manifest.parity.prior.incremental_error <= 1e-4
    for graph in manifest.graphs.values():
        states = {tensor.name: tensor for tensor in graph.inputs if tensor.name.startswith("state_")}
        following = {tensor.name: tensor for tensor in graph.outputs if tensor.name.startswith("next_state_")}
        assert {f"next_{name}" for name in states} == set(following)
        assert all(following[f"next_{name}"].shape == tensor.shape for name, tensor in states.items())
        assert all(tensor.shape[0] == "B" and all(map(int, tensor.shape[1:])) for tensor in states.values())
    card = (artifact.path / "MODEL_CARD.md").read_text()
    assert "prior" in card
    assert "reconstructions.png" in card


def test_another_prior_leaves_the_models_hash(artifact: Artifact, run: Run, tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare")
    bare.path.mkdir()
    for name in ("recipe.toml", "best.safetensors"):
        (bare.path / name).write_bytes((run.path / name).read_bytes())
    without = export(bare, load(bare.recipe().data), Store(tmp_path / "store")).manifest
    assert without.prior is None
    assert "sample" not in without.capabilities
    assert without.model_hash == artifact.manifest.model_hash


def test_drawing_step_by_step_equals_drawing_by_whole_passes(artifact: Artifact) -> None:
    manifest = artifact.manifest
    specs = Graphs.__new__(Graphs)
    specs.outputs = {role: [tensor.name for tensor in graph.outputs] for role, graph in manifest.graphs.items()}
    import onnxruntime

    specs.sessions = {
        role: onnxruntime.InferenceSession(artifact.file(role), providers=["CPUExecutionProvider"])
        for role in ("prior", "prior_row", "prior_pixel")
    }
    uniform = batch_uniform(3, 0, 12, GRID * GRID, stream=CODES_STREAM)
    condition = np.arange(12) % 3
    drawn = specs.steps(sample_raster(manifest.graphs, GRID, GRID, uniform, condition))
    codes = np.zeros_like(drawn)
    for place in range(GRID * GRID):
        row, column = divmod(place, GRID)
        logits = specs.run("prior", {"codes": codes, "condition": condition})["logits"][:, row, column]
        weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        shares = weights.cumsum(1) / weights.sum(1, keepdims=True)
        codes[:, row, column] = (shares <= uniform[:, place, None]).sum(1)
    assert np.array_equal(drawn, codes)
    logits = specs.run("prior", {"codes": codes, "condition": condition})["logits"]
    log_p = torch.log_softmax(torch.from_numpy(logits).double(), -1).numpy()
    expected = -np.take_along_axis(log_p, codes[..., None].astype(np.int64), -1)[..., 0]
    np.testing.assert_allclose(surprise_nats(logits, codes), expected, rtol=1e-12)


def test_codes_that_differ_are_not_published(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = run.recipe()
    splits = load(recipe.data)
    original = Graphs.run

    def flawed(self: Graphs, role: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = original(self, role, feeds)
        return {"codes": (found["codes"] + 1) % K} if role == "encode" else found

    monkeypatch.setattr(Graphs, "run", flawed)
    with pytest.raises(ExportError, match="give other codes than the model"):
        export(run, splits, Store(tmp_path))
    monkeypatch.setattr(Graphs, "run", original)
    monkeypatch.setattr(parity_module, "TENSOR_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="nothing was published"):
        export(run, splits, Store(tmp_path))


def test_a_prior_is_refused_where_it_makes_no_sense(
    run: Run, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["fit-prior", str(run.path)]) == 1
    assert "holds a prior already; add --resume" in capsys.readouterr().err
    collapsed = Run(tmp_path / "collapsed")
    recipe = read_recipe(recipe_file, {"fit.steps": "1", "fit.validate_every": "1"})
    collapsed.create(recipe)
    (collapsed.path / "best.safetensors").write_bytes(run.best.read_bytes())
    monkeypatch.setattr(fit_prior_module, "encode", lambda *_, **__: np.zeros((50, GRID, GRID), dtype=np.int32))
    assert main(["fit-prior", str(collapsed.path)]) == 1
    told = capsys.readouterr().err
    assert "the codebook has collapsed" in told
    assert "perplexity of 1.00" in told
    assert not collapsed.prior.path.exists()


def test_a_prior_needs_its_table_codes_and_one_size(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "crops"
    words = ["--data.size", "0", "--fit.steps", "1"]
    text = recipe_file.read_text().replace(f"size = {SIDE}", f"crop = {SIDE}")
    crops = tmp_path / "crops.toml"
    crops.write_text(text)
    assert main(["fit", str(crops), "--output", str(path), *words[2:]]) == 0
    assert main(["fit-prior", str(path)]) == 1
    assert "differ in size" in capsys.readouterr().err
    bare = tmp_path / "bare.toml"
    bare.write_text(text[: text.index("[prior]")])
    assert main(["fit", str(bare), "--output", str(tmp_path / "bare"), *words[2:]]) == 0
    assert main(["fit-prior", str(tmp_path / "bare")]) == 1
    assert "has no [prior] table" in capsys.readouterr().err


def test_a_model_of_any_size_exports_symbolic_axes(recipe_file: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops.toml"
    crops.write_text(recipe_file.read_text().replace(f"size = {SIDE}", f"crop = {SIDE}"))
    assert main(["fit", str(crops), "--output", str(tmp_path / "run"), "--fit.steps", "20"]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--store", str(tmp_path / "store")]) == 0
    artifact = Store(tmp_path / "store").open("bars-vq")
    geometry = artifact.manifest.geometry
    assert (geometry.height, geometry.multiple_of) == (None, 2)
    assert artifact.manifest.graphs["encode"].inputs[0].shape == ("B", "H", "W", 3)
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact.file("encode"), providers=["CPUExecutionProvider"])
    for height, width in ((2, 2), (4, 18), (64, 30)):
        assert session.run(None, {"x": np.zeros((1, height, width, 3), dtype=np.uint8)})[0].shape == (
            1,
            height // 2,
            width // 2,
        )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert metrics["examples"] == 20


def test_a_model_without_codes_has_no_quantizer() -> None:
    from models.families.vae import ConvConfig, VAEConfig
    from models.networks import ImageShape
    from training.errors import RunError

    network = ConvConfig(encoder_channels=(4,), decoder_channels=(4,), hidden=8)
    model = VAEConfig(family="vae", latent=2, network=network).build(ImageShape(1, 4, 4))
    with pytest.raises(RunError, match="no codes"):
        codes_of(model)
