"""Two processes that fit together take the steps that one takes alone, and go on from each other's checkpoints."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training import checkpoint
from training.cli import main

_STEPS = 12
pytestmark = pytest.mark.slow


def _fit(recipe: Path, output: Path, *more: str) -> str:
    """Fit by the command line, in a process of its own, which starts the others."""
    options = ["--fit.steps", str(_STEPS), "--fit.validate_every", "6", "--fit.checkpoint_every", "3", *more]
    command = [sys.executable, "-m", "training", "fit", str(recipe), "--output", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _assert_equal(one: Path, other: Path) -> None:
    """Compare all that is in two checkpoints, optimiser and codebook included."""
    first, second = checkpoint.read(one), checkpoint.read(other)
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        torch.testing.assert_close(
            value, second.tensors[name], rtol=2e-3, atol=2e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    assert first.counters["step"] == second.counters["step"]


@pytest.fixture(scope="module")
def fitted(vq_recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Fit alone, and by two processes that share every batch."""
    folder = tmp_path_factory.mktemp("team")
    alone, together = folder / "alone", folder / "together"
    _fit(vq_recipe_file, alone)
    told = _fit(vq_recipe_file, together, "--fit.devices", "2")
    assert told.count("best validation bound") == 1
    return alone, together


def test_two_processes_with_half_a_batch_each_are_one_with_the_whole(fitted: tuple[Path, Path]) -> None:
    alone, together = fitted
    for name in ("last.safetensors", "best.safetensors"):
        _assert_equal(alone / name, together / name)
    moved = checkpoint.read(together / "last.safetensors").tensors["objective.model.bottleneck.quantizer.uses"]
    assert moved.std() > 0.0


def test_they_go_on_where_they_stopped(fitted: tuple[Path, Path], vq_recipe_file: Path, tmp_path: Path) -> None:
    alone, _ = fitted
    run = tmp_path / "run"
    _fit(vq_recipe_file, run, "--fit.devices", "2")
    whole = checkpoint.read(run / "last.safetensors")
    assert whole.counters["step"] == _STEPS
    # Both go on from their end by some steps more, since the schedule is a function of the number of steps.
    more = ["--resume", "--fit.steps", str(_STEPS + 3)]
    for start, devices in ((run, "2"), (alone, "1")):
        options = [str(start), *more, "--fit.devices", devices]
        command = [sys.executable, "-m", "training", "fit", *options]
        subprocess.run(command, capture_output=True, timeout=300, check=True)
    _assert_equal(run / "last.safetensors", alone / "last.safetensors")


def test_a_batch_that_cannot_be_shared_is_refused(
    vq_recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", str(vq_recipe_file), "--output", str(tmp_path / "run"), "--fit.devices", "3"]) == 1
    assert "set fit.batch_size to a multiple of 3" in capsys.readouterr().err
