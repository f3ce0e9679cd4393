"""The command line's figures of real-valued latents, on one small run that is not fitted."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from models.continuous import VectorBottleneck
from models.families import build
from models.model import LatentVariableModel
from training import card, checkpoint, description
from training.cli import main
from training.recipe import read_recipe
from training.run import Run, write_text


def write_run(path: Path, data: Path, seed: int) -> Run:
    """Write a run whose weights are those of the seed."""
    run = Run(path)
    path.mkdir()
    write_text(
        run.recipe_file,
        f"""
name = "{path.name}"
data = {{ source = "npy", root = "{data}", channels = 1 }}
model = {{ family = "vae", latent = 2, network = {{ kind = "mlp", hidden = [6] }} }}
""",
    )
    torch.manual_seed(seed)
    model = build(read_recipe(run.recipe_file).model, (4, 4, 1))
    checkpoint.write(run.best, {"model": model.state_dict()}, {})
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    root = tmp_path_factory.mktemp("latents")
    images = np.random.default_rng(0).integers(0, 2, (80, 4, 4), dtype=np.uint8) * 255
    np.save(root / "data.npy", images)
    return write_run(root / "one", root / "data.npy", 0), write_run(root / "two", root / "data.npy", 1)


def test_every_estimate_is_stored_with_how_it_was_made(
    runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[0]
    words = "--samples 30 --monte-carlo 3000 --ais 4 --ais-steps 20 --leapfrogs 3 --bdmc --estimated 6"
    assert main(["evaluate", str(run.path), *words.split()]) == 0
    captured = capsys.readouterr()
    stored = json.loads(run.metrics_file.read_text())
    metrics = stored["metrics"]
    assert "4 chains of 20 steps, each of 3 leapfrogs, from the prior" in stored["note"]
    assert metrics["estimated_examples"] == 6
    for name in ("iwae", "monte_carlo", "ais", "bdmc", "bdmc_upper"):
        assert metrics[f"{name}_standard_error_nats"] > 0
    # Fresh weights say little of x: every estimate of log p(x) is near to every other.
    assert metrics["ais_nats"] == pytest.approx(metrics["monte_carlo_nats"], abs=0.2)
    assert abs(metrics["ais_minus_iwae_nats"]) < 0.2
    assert metrics["bdmc_gap_nats"] == pytest.approx(metrics["bdmc_upper_nats"] - metrics["bdmc_nats"])
    assert re.search(rf"^ais_nats +{metrics['ais_nats']:.4f}$", captured.out, re.M)
    assert {"mutual_information_nats", "aggregate_kl_nats", "kl_closed_form_nats"} <= set(metrics)
    assert json.loads((run.path / "collapse.json").read_text())["kl_per_dimension_nats"]
    collapsed = metrics["kl_closed_form_nats"] < 0.1
    assert ("posterior collapsed" in captured.err) == collapsed


def test_runs_are_drawn_by_rate_and_distortion(
    runs: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(run.path) for run in runs]
    picture = tmp_path / "both.png"
    assert main(["rate-distortion", *paths[::-1], "--output", str(picture)]) == 1
    assert "run `python -m training evaluate" in capsys.readouterr().err
    for path in paths:
        assert main(["evaluate", path, "--samples", "3"]) == 0
    assert main(["rate-distortion", *paths, "--output", str(picture)]) == 0
    points = json.loads(picture.with_suffix(".json").read_text())["points"]
    metrics = json.loads(runs[1].metrics_file.read_text())["metrics"]
    assert points[1]["rate_nats"] == metrics["kl_nats"]
    assert points[1]["elbo_nats"] == pytest.approx(metrics["elbo_nats"])
    with Image.open(picture) as opened:
        assert opened.format == "PNG"
    assert main(["evaluate", paths[0], "--samples", "3", "--limit", "5"]) == 0
    assert main(["rate-distortion", *paths, "--output", str(picture)]) == 1
    assert "measured on different examples" in capsys.readouterr().err


def test_a_code_that_is_not_weighed_has_a_distortion_alone(
    runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(VectorBottleneck, "bounds_log_p", False)
    path = str(runs[0].path)
    assert main(["evaluate", path]) == 0
    metrics = json.loads(runs[0].metrics_file.read_text())["metrics"]
    assert set(metrics) == {"examples", "mse", "psnr_db", "active_units"}
    assert main(["rate-distortion", path]) == 1
    assert main(["evaluate", path, "--samples", "3"]) == 1
    assert main(["evaluate", path, "--ais", "3"]) == 1
    assert capsys.readouterr().err.count("no bound on log p(x)") == 2


def test_where_log_p_is_known_it_is_stored(runs: tuple[Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LatentVariableModel, "exact_log_prob", lambda model, x: -torch.arange(len(x)).double())
    assert main(["evaluate", str(runs[0].path), "--limit", "4"]) == 0
    metrics = json.loads(runs[0].metrics_file.read_text())["metrics"]
    assert metrics["exact_nats"] == -1.5
    assert metrics["bits_per_dim"] == pytest.approx(1.5 / (16 * np.log(2)))


def test_mistakes_are_told(runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    path = str(runs[0].path)
    for words, message in (
        (["evaluate", path, "--bdmc"], "--bdmc needs chains"),
        (["evaluate", path, "--ais", "2", "--ais-steps", "0"], "--ais-steps"),
        (["evaluate", path, "--disentanglement"], "0 factors are known"),
        (["rate-distortion", path, "--data.root", "x"], "cannot be set here"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err


def test_a_collapsed_posterior_is_in_the_manifests_warnings(runs: tuple[Run, Run]) -> None:
    model = runs[0].model(runs[0].recipe(), (4, 4, 1))
    for parameter in model.encoder.parameters():
        parameter.zero_()
    images = [np.zeros((3, 4, 4, 1), dtype=np.uint8)]
    (warning,) = description._warnings(SimpleNamespace(model=model, images=images))
    assert "posterior collapsed: mean KL 0 nats" in warning
    assert f"**Warning:** {warning}." in card._warnings(SimpleNamespace(warnings=(warning,)))
