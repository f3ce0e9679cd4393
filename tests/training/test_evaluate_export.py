"""Evaluation against direct formulas, and export: parity with the model, refusal beyond tolerance."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy import special

from artifact.manifest import ImageGeometry
from artifact.noise import POSTERIOR_STREAM, batch_normal
from artifact.store import Store
from models.families.parts import GaussianConfig
from models.families.vae import ConvConfig, VAEConfig
from models.networks import ImageShape
from training import export as export_module
from training.cli import main
from training.data import load
from training.errors import ExportError
from training.evaluate import active_units, bounds, evaluate
from training.graphs import graphs
from training.graphs.write import write_graphs
from training.parity import LIMITS, Comparison, Graphs, measure_parity
from training.recipe import read_recipe
from training.run import Run


@pytest.fixture(scope="module")
def run(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "bars"
    assert main(["fit", str(recipe_file), "--output", str(path)]) == 0
    return Run(path)


@torch.no_grad()
def test_bounds_equal_direct_formulas(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load(run.recipe().data).test.fixed(7)
    model = run.model(run.recipe(), images.shape[1:])
    noise = batch_normal(5, 0, 7, (50, 4), stream=POSTERIOR_STREAM)
    x = torch.from_numpy(images)
    weights = model.log_weight(x, model.encode(x), torch.from_numpy(noise))
    log_weights = (weights.log_p_x_given_z + weights.log_p_z - weights.log_q).numpy()
    monkeypatch.setattr("training.evaluate._DECODER_ROWS", 16)
    found = bounds(model, images, samples=50, seed=5)
    np.testing.assert_allclose(found.elbo_nats, log_weights.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.iwae_nats, special.logsumexp(log_weights, axis=1) - np.log(50), rtol=1e-6)


def test_the_command_prints_and_stores_figures(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run.path), "--samples", "20", "--limit", "30", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    stored = json.loads(run.metrics_file.read_text())
    metrics = stored["metrics"]
    assert "the first 30 examples of the test split of bars" in stored["note"]
    assert "noise seed 3" in stored["note"]
    for name in ("elbo_nats", "iwae_nats", "bits_per_dim", "mse", "psnr_db", "active_units"):
        assert re.search(rf"^{name} +{metrics[name]:.4f}$", printed, re.M)
    assert metrics["iwae_nats"] >= metrics["elbo_nats"]
    assert metrics["elbo_nats"] == pytest.approx(metrics["reconstruction_nats"] - metrics["kl_nats"])
    assert metrics["bits_per_dim"] == pytest.approx(-metrics["iwae_nats"] / (64 * np.log(2)))
    assert metrics["kl_nats"] == pytest.approx(metrics["kl_closed_form_nats"], rel=0.2)


def test_a_run_is_found_by_its_recipe(
    run: Run, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("training.cli._RUNS", tmp_path)
    (tmp_path / "bars-vae").symlink_to(run.path)
    assert main(["evaluate", str(recipe_file), "--samples", "1", "--limit", "3"]) == 0
    assert "elbo_nats" in capsys.readouterr().out


def test_active_units_are_those_whose_mean_moves() -> None:
    means = np.random.default_rng(0).normal(size=(1000, 3)) * np.array([1.0, 0.05, 0.2])
    assert active_units(means) == 2


def test_published_artifact_is_whole_and_agrees(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run.path), "--store", str(tmp_path)]) == 0
    assert main(["export", str(run.path), "--store", str(tmp_path)]) == 0
    assert "published bars-vae@2" in capsys.readouterr().out
    artifact = Store(tmp_path).open("bars-vae@1")
    manifest = artifact.manifest
    assert set(manifest.graphs) == {"encode", "decode", "draw", "log_weight"}
    assert manifest.parity.tensor_error <= 1e-4
    assert manifest.parity.bound_error_nats_per_dim <= 1e-6
    assert manifest.graphs["encode"].inputs[0].values == (0, 255)
    files = {"weights.data", "recipe.toml", "metrics.json", "MODEL_CARD.md", "samples.png", "reconstructions.png"}
    assert files <= set(manifest.files)
    assert manifest.model_hash in (artifact.path / "MODEL_CARD.md").read_text()
    assert Store(tmp_path).open("bars-vae").manifest.model_hash == manifest.model_hash


def test_graphs_share_their_weights(run: Run, tmp_path: Path) -> None:
    model = run.model(run.recipe(), (8, 8, 1))
    write_graphs(graphs(model, ImageGeometry(channels=1, height=8, width=8)), tmp_path / "weights.data")
    places: dict[str, set[tuple[str, ...]]] = {}
    for role in ("decode", "log_weight"):
        graph = onnx.load(tmp_path / f"{role}.onnx", load_external_data=False).graph
        places[role] = {
            tuple(entry.value for entry in tensor.external_data) for tensor in graph.initializer if tensor.external_data
        }
    assert places["decode"]
    assert places["decode"] <= places["log_weight"]
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    assert (tmp_path / "weights.data").stat().st_size < 1.1 * size + 4096


@pytest.mark.parametrize("variance", ["fixed", "shared", "learned"])
def test_colour_graphs_with_integrated_bins_agree(variance: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = VAEConfig(
        latent=5,
        network=ConvConfig(encoder_channels=(6, 8), decoder_channels=(8, 6), hidden=24),
        likelihood=GaussianConfig(variance=variance, scale=60.0),
    )
    model = config.build(ImageShape(3, 16, 12)).eval().requires_grad_(False)
    images = np.random.default_rng(0).integers(0, 256, (120, 16, 12, 3), dtype=np.uint8)
    specs = graphs(model, ImageGeometry(channels=3, height=16, width=12))
    write_graphs(specs, tmp_path / "weights.data")
    parity = measure_parity(model, Comparison(specs, [Graphs(specs, tmp_path).run]), [images])
    assert parity.examples == 120
    session = onnxruntime.InferenceSession(tmp_path / "encode.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        assert session.run(None, {"x": images[:batch]})[0].shape == (batch, 5)


def test_a_graph_beyond_tolerance_is_not_published(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIMITS, None, replace(LIMITS[None], tensor=0.0, bound=0.0))
    with pytest.raises(ExportError, match="nothing was published"):
        export_module.export(run, load(run.recipe().data), Store(tmp_path))
    assert Store(tmp_path).names() == []
    assert list((tmp_path / "bars-vae").iterdir()) == []


def test_without_figures_the_card_says_so(run: Run, tmp_path: Path) -> None:
    bare = Run(tmp_path / "bare")
    bare.path.mkdir()
    for name in ("recipe.toml", "best.safetensors"):
        (bare.path / name).write_bytes((run.path / name).read_bytes())
    artifact = export_module.export(bare, load(bare.recipe().data), Store(tmp_path / "store"))
    assert "Not evaluated." in (artifact.path / "MODEL_CARD.md").read_text()


def test_command_line_mistakes_are_told(run: Run, recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["fit", str(recipe_file), "--steps", "3"], "unknown argument '--steps'"),
        (["fit", str(recipe_file), "--fit.steps"], "needs a value"),
        (["evaluate", str(run.path), "--samples", "0"], "at least 1"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err


@pytest.mark.data
def test_the_shipped_recipes_data_are_read(data_root: Path) -> None:
    path = Path("training/recipes/digits-vae.toml")
    recipe = read_recipe(path, {"data.root": str(data_root / "binarized-mnist")})
    splits = load(recipe.data)
    assert splits.train.shape == (28, 28, 1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (50_000, 10_000, 10_000)
    assert set(np.unique(splits.test.fixed())) == {0, 255}


def test_constant_images_have_infinite_psnr_but_finite_figures() -> None:
    model = VAEConfig(latent=2, network=ConvConfig(encoder_channels=(4,), decoder_channels=(4,), hidden=8)).build(
        ImageShape(1, 4, 4)
    )
    result = evaluate(model.eval(), np.zeros((3, 4, 4, 1), dtype=np.uint8), samples=2, seed=0)
    assert all(np.isfinite(list(result.metrics.values())))
