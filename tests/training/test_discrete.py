"""A model of codes and its prior, from pictures in class folders to a published artifact."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from artifact.codes import Arrays, surprise_nats
from artifact.manifest import ImageGeometry
from artifact.noise import CODES_STREAM, batch_uniform
from artifact.sampling import complete, sample
from artifact.store import Artifact, Store
from media.images import write_png
from models.bottleneck import VectorQuantizedBottleneck
from models.likelihoods import DiscretizedGaussian
from training.cli import main
from training.codes import encode, statistics
from training.data import Photographs, load
from training.errors import ExportError
from training.evaluate_codes import evaluate_codes
from training.export import export
from training.fit_prior import LinkTask
from training.fit_prior import encode as encode_all
from training.graphs import graphs
from training.graphs import prior as prior_graphs
from training.parity import Comparison, Graphs, measure_parity
from training.pictures import to_show
from training.prior_parity import measure_prior_parity
from training.run import Run

K, SIDE, GRID = 16, 8, 4


def test_the_codebook_is_used_and_the_prior_has_learned(vq_run: Run) -> None:
    recipe = vq_run.recipe()
    splits = load(recipe.data)
    model = vq_run.model(recipe, splits.train.shape)
    prior = vq_run.fitted_prior(recipe, model, splits)
    assert prior is not None
    assert prior.conditions == {"label": 2}
    assert isinstance(model.bottleneck, VectorQuantizedBottleneck)
    metrics = evaluate_codes(model, model.bottleneck, prior, splits.test)
    codes, labels = torch.from_numpy(encode(model, splits.test.fixed())["codes"]), torch.from_numpy(splits.test.labels)
    tokens = codes.numel() * np.log(2)
    for name, condition in (("prior", torch.full_like(labels, 2)), ("prior_given_class", labels)):
        expected = -prior.log_probs((codes,), {"label": condition}).sum().item() / tokens
        assert metrics[f"{name}_bits_per_token"] == pytest.approx(expected, rel=1e-5)
    assert recipe.prior is not None
    task = LinkTask(encode_all("bars", recipe.prior, model, splits, ""), 0)
    watched = torch.from_numpy(encode(model, splits.validation.fixed())["codes"])
    expected = prior.log_probs((watched,), {"label": torch.from_numpy(splits.validation.labels)}).mean().item()
    assert task.score_nats(prior.links[0]) == pytest.approx(expected, rel=1e-5)
    assert metrics["bits_per_dim"] < metrics["bits_per_dim_under_uniform"]
    assert metrics["perplexity"] > K / 2
    assert metrics["prior_bits_per_token"] < metrics["entropy_bits_per_token"] < metrics["raw_bits_per_token"]
    assert metrics["prior_given_class_bits_per_token"] < metrics["prior_bits_per_token"] + 0.05


@torch.no_grad()
def test_figures_equal_direct_formulas(vq_run: Run) -> None:
    recipe = vq_run.recipe()
    splits = load(recipe.data)
    images = splits.test.fixed()
    model = vq_run.model(recipe, splits.train.shape)
    assert isinstance(model.bottleneck, VectorQuantizedBottleneck)
    metrics = evaluate_codes(model, model.bottleneck, None, splits.test)
    codes = encode(model, images)["codes"]
    params = model.decode(model.bottleneck.point({"codes": torch.from_numpy(codes)}))
    location = params["location"].double().numpy() * 127.5 + 127.5
    scale = params["log_scale"].double().exp().numpy() * 127.5
    upper = np.where(images == 255, np.inf, images + 0.5)
    lower = np.where(images == 0, -np.inf, images - 0.5)
    log_p = np.log(stats.norm.cdf(upper, location, scale) - stats.norm.cdf(lower, location, scale))
    reconstruction = log_p.sum((1, 2, 3)).mean()
    assert metrics["reconstruction_nats"] == pytest.approx(reconstruction, rel=1e-5)
    assert metrics["elbo_nats"] == pytest.approx(reconstruction - GRID * GRID * np.log(K), rel=1e-5)
    assert metrics["bits_per_dim_under_uniform"] == metrics["bits_per_dim"]
    assert metrics["bits_per_dim"] == pytest.approx(-metrics["elbo_nats"] / (images[0].size * np.log(2)))
    assert metrics["usage"] == len(np.unique(codes)) / K
    shares = np.unique(codes, return_counts=True)[1] / codes.size
    assert metrics["perplexity"] == pytest.approx(np.exp(stats.entropy(shares)))
    assert metrics["raw_bits_per_pixel"] == pytest.approx(4 * GRID * GRID / SIDE**2)


def test_photographs_count_their_own_pixels_alone(vq_run: Run) -> None:
    """A picture of odd size is padded for the model; its figures are those of its own pixels."""
    recipe = vq_run.recipe()
    model = vq_run.model(recipe, (SIDE, SIDE, 3))
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


def test_the_artifact_says_what_it_can(vq_artifact: Artifact) -> None:
    manifest = vq_artifact.manifest
    assert set(manifest.graphs) == {
        "encode", "embed", "decode", "log_likelihood", "prior", "prior_row", "prior_pixel"
    }  # fmt: skip
    assert manifest.capabilities == (
        "encode", "decode", "reconstruct", "sample", "likelihood", "compress", "decompress"
    )  # fmt: skip
    assert manifest.prior is not None
    assert manifest.prior.classes == ("lying", "standing")
    (link,) = manifest.prior.links
    assert (link.grid, link.order, link.any_size) == ((GRID, GRID), "raster", False)
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
    card = (vq_artifact.path / "MODEL_CARD.md").read_text()
    assert "prior" in card
    assert "reconstructions.png" in card


def test_another_prior_leaves_the_models_hash(vq_artifact: Artifact, vq_run: Run, tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare")
    bare.path.mkdir()
    for name in ("recipe.toml", "best.safetensors"):
        (bare.path / name).write_bytes((vq_run.path / name).read_bytes())
    without = export(bare, load(bare.recipe().data), Store(tmp_path / "store")).manifest
    assert without.prior is None
    assert "sample" not in without.capabilities
    assert without.model_hash == vq_artifact.manifest.model_hash


def test_drawing_step_by_step_equals_drawing_by_whole_passes(vq_artifact: Artifact) -> None:
    manifest = vq_artifact.manifest
    specs = Graphs.__new__(Graphs)
    specs.outputs = {role: [tensor.name for tensor in graph.outputs] for role, graph in manifest.graphs.items()}
    import onnxruntime

    specs.sessions = {
        role: onnxruntime.InferenceSession(vq_artifact.file(role), providers=["CPUExecutionProvider"])
        for role in ("prior", "prior_row", "prior_pixel")
    }
    uniform = batch_uniform(3, 0, 12, GRID * GRID, stream=CODES_STREAM)
    condition = np.arange(12) % 3
    assert manifest.prior is not None
    rows = {"uniform": uniform, "condition": condition}
    drawn = complete(sample(manifest.graphs, manifest.prior.links[0], rows), specs.run)
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


def test_a_prior_that_differs_is_refused(vq_run: Run, vq_artifact: Artifact) -> None:
    recipe = vq_run.recipe()
    model = vq_run.model(recipe, (SIDE, SIDE, 3))
    prior = vq_run.fitted_prior(recipe, model, load(recipe.data))
    assert prior is not None
    specs = prior_graphs.graphs(prior, (1,), any_size=False)
    right = Graphs(specs, vq_artifact.path).run
    codes = encode(model, load(recipe.data).test.fixed())["codes"]
    for role, told in (("prior", "the exported prior differs"), ("prior_pixel", "its steps from its parallel pass")):

        def flawed(asked: str, feeds: Arrays, role: str = role) -> Arrays:
            found = right(asked, feeds)
            return found | {"logits": found["logits"] + 0.01} if asked == role else found

        with pytest.raises(ExportError, match=told):
            measure_prior_parity(Comparison(specs, [flawed]), prior, [[codes]])
    parity = measure_prior_parity(Comparison(specs, [right]), prior, [[codes]])
    assert vq_artifact.manifest.parity.prior == parity


def test_pictures_of_ones_own_are_shown(vq_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)
    (tmp_path / "one" / "a.png").write_bytes(write_png(image))
    geometry = ImageGeometry(channels=3, height=8, width=12)
    shown = to_show(tmp_path / "one", geometry)
    assert shown.shape == (5, 8, 12, 3)
    assert to_show(tmp_path / "one", ImageGeometry(channels=3)).shape == (1, 256, 256, 3)
    for name, told in (("empty", "holds no pictures"), ("none", "is not a folder")):
        assert (
            main(["export", str(vq_run.path), "--show", str(tmp_path / name), "--store", str(tmp_path / "store")]) == 1
        )
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("role", "flaw", "told"),
    [
        ("encode", lambda codes: (codes + 1) % K, "give other codes than the model"),
        ("decode", lambda mean: mean * np.float32("nan"), "tensors by nan"),
        ("log_likelihood", lambda nats: nats + 1e-3, "bounds by"),
    ],
)
def test_graphs_that_differ_are_refused(
    vq_run: Run, vq_artifact: Artifact, role: str, flaw: Callable[[np.ndarray], np.ndarray], told: str
) -> None:
    recipe = vq_run.recipe()
    model = vq_run.model(recipe, (SIDE, SIDE, 3))
    specs = graphs(model, vq_artifact.manifest.geometry)
    right = Graphs(specs, vq_artifact.path).run

    def flawed(asked: str, feeds: Arrays) -> Arrays:
        found = right(asked, feeds)
        return {name: flaw(value) for name, value in found.items()} if asked == role else found

    images = load(recipe.data).test.fixed()
    assert measure_parity(model, Comparison(specs, [right]), [images]).codes == vq_artifact.manifest.parity.codes
    with pytest.raises(ExportError, match=told):
        measure_parity(model, Comparison(specs, [flawed]), [images])


def test_a_model_of_any_size_exports_symbolic_axes(vq_recipe_file: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops.toml"
    crops.write_text(vq_recipe_file.read_text().replace(f"size = {SIDE}", f"crop = {SIDE}"))
    assert main(["fit", str(crops), "--output", str(tmp_path / "run"), "--fit.steps", "20"]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--store", str(tmp_path / "store")]) == 0
    exported = Store(tmp_path / "store").open("bars-vq")
    geometry = exported.manifest.geometry
    assert (geometry.height, geometry.multiple_of) == (None, 2)
    assert exported.manifest.graphs["encode"].inputs[0].shape == ("B", "H", "W", 3)
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.file("encode"), providers=["CPUExecutionProvider"])
    for height, width in ((2, 2), (4, 18), (64, 30)):
        assert session.run(None, {"x": np.zeros((1, height, width, 3), dtype=np.uint8)})[0].shape == (
            1,
            height // 2,
            width // 2,
        )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert metrics["examples"] == 20
