"""Probabilistic PCA by the command line: closed form and EM, evaluation, and an artifact that knows log p(x)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from artifact.store import Store
from models.ppca import PPCA
from training.cli import main
from training.data import load
from training.graphs import graphs
from training.parity import BOUND_TOLERANCE, Graphs
from training.run import Run

TOLERANCE_NATS = 1e-3


@pytest.fixture(scope="module")
def recipe(bars: Path) -> Path:
    path = bars.with_name("bars-ppca.toml")
    path.write_text(f"""
name = "bars-ppca"

[data]
source = "npy"
root = "{bars}"
channels = 1

[model]
family = "ppca"
latent = 5

[objective]
kind = "ppca-closed-form"
""")
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "bars"
    assert main(["fit", str(recipe), "--output", str(path)]) == 0
    return Run(path)


def model_of(run: Run) -> PPCA:
    model = run.model(run.recipe(), load(run.recipe().data).train.shape)
    assert isinstance(model, PPCA)
    return model


def mean_logpdf(run: Run) -> float:
    """Give the mean log-density of the training split under scipy's normal."""
    given, images = model_of(run).parameters_of_x(), load(run.recipe().data).train.fixed()
    weight = 127.5 * given.weight.numpy()
    covariance = weight @ weight.T + 127.5**2 * given.variance.item() * np.eye(len(weight))
    normal = stats.multivariate_normal(127.5 + 127.5 * given.location.numpy(), covariance)
    return float(normal.logpdf(images.reshape(len(images), -1).astype(np.float64)).mean())


def test_em_ends_at_the_closed_form(run: Run, recipe: Path, tmp_path: Path) -> None:
    words = ["fit", str(recipe), "--output", str(tmp_path / "em"), "--objective.kind", "ppca-em"]
    assert main(words) == 0
    by_em, closed = mean_logpdf(Run(tmp_path / "em")), mean_logpdf(run)
    assert closed - TOLERANCE_NATS < by_em < closed + 1e-6


def test_evaluation_gives_log_p_and_no_bits(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run.path), "--split", "train", "--samples", "2"]) == 0
    assert "exact_nats" in capsys.readouterr().out
    metrics = json.loads(run.metrics_file.read_text())["metrics"]
    assert metrics["exact_nats"] == pytest.approx(mean_logpdf(run), abs=TOLERANCE_NATS)
    assert metrics["iwae_nats"] == pytest.approx(metrics["exact_nats"], abs=TOLERANCE_NATS)
    assert "bits_per_dim" not in metrics


@pytest.mark.slow
def test_the_artifact_knows_log_p(run: Run, tmp_path: Path) -> None:
    assert main(["export", str(run.path), "--store", str(tmp_path)]) == 0
    artifact = Store(tmp_path).open("bars-ppca")
    manifest = artifact.manifest
    assert manifest.bound == "exact"
    assert set(manifest.graphs) == {"encode", "decode", "draw", "log_weight", "exact"}
    assert {tensor.unit for tensor in manifest.graphs["exact"].outputs} == {"nats_density"}
    assert any("no code length" in warning for warning in manifest.warnings)
    model, x = model_of(run), load(run.recipe().data).test.fixed(7)
    specs = [spec for spec in graphs(model, manifest.geometry) if spec.role == "exact"]
    found = Graphs(specs, artifact.path).run("exact", {"x": x})["log_p_x"]
    expected = model.exact_log_prob(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, atol=BOUND_TOLERANCE * x[0].size)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.posterior", "diagonal"], "with posterior 'exact'"),
        (["--model.latent", "64"], "use fewer dimensions"),
    ],
)
def test_what_cannot_be_solved_is_told(
    words: list[str], message: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(recipe), "--output", str(tmp_path / "run"), *words]) == 1
    assert message in capsys.readouterr().err


def test_other_families_cannot_be_solved(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.toml"
    other.write_text(recipe_file.read_text().replace("kl_warmup_steps = 20", 'kind = "ppca-em"'))
    assert main(["fit", str(other), "--output", str(tmp_path / "run")]) == 1
    assert "solves family 'ppca'" in capsys.readouterr().err
