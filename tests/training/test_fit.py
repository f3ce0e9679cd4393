"""The fit loop: it learns, it survives being killed, it skips what is not finite, it stops when nothing gets better."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from training import checkpoint
from training.cli import main
from training.data import load
from training.errors import RunError
from training.fit import Fit, batch_indices, learning_rate
from training.fit_model import ModelTask, fit, variance
from training.recipe import FitConfig, read_recipe
from training.run import Run


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path).tensors


def test_a_fit_raises_the_bound(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file)
    progress = fit(Run(tmp_path / "run"), recipe, resume=False)
    assert progress.step == 120
    assert progress.skipped == 0
    assert progress.best_nats > -38.0 > 64 * math.log(0.5)
    names = {path.name.split(".")[0] for path in (tmp_path / "run").iterdir()}
    assert names == {"recipe", "last", "best", "events"}


def test_killed_in_the_middle_it_resumes_to_identical_weights(recipe_file: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "training", "fit", str(recipe_file), "--output"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, str(whole)], check=True, capture_output=True, env=environment)
    victim = subprocess.Popen(
        [*command, str(killed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    for _ in range(6000):
        if (killed / "last.safetensors").exists() or victim.poll() is not None:
            break
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert 0 < checkpoint.read(killed / "last.safetensors").counters["step"] < 120
    subprocess.run([*command, str(killed), "--resume"], check=True, capture_output=True, env=environment)
    expected, found = tensors(whole / "last.safetensors"), tensors(killed / "last.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert checkpoint.read(whole / "last.safetensors").counters == checkpoint.read(killed / "last.safetensors").counters
    best = tensors(whole / "best.safetensors"), tensors(killed / "best.safetensors")
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def test_sigterm_ends_a_fit_with_a_checkpoint(recipe_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "training", "fit", str(recipe_file), "--output", str(run), "--fit.steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (run / "last.safetensors").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output.decode()
    assert checkpoint.read(run / "last.safetensors").counters["step"] > 0


def test_steps_that_are_not_finite_are_skipped_and_counted(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file)
    state = Fit(Run(tmp_path), ModelTask(recipe, load(recipe.data)))
    before = [parameter.clone() for parameter in state.objective.model.parameters()]
    with torch.no_grad():
        last = list(state.objective.model.parameters())[-1]
        last.fill_(math.nan)
    state.step()
    assert state.progress.skipped == 1
    unchanged = zip(before[:-1], list(state.objective.model.parameters())[:-1], strict=True)
    assert all(torch.equal(old, new) for old, new in unchanged)


def test_it_stops_early_when_the_bound_gets_no_better(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(
        recipe_file,
        {"fit.learning_rate": "1e-12", "fit.ema_decay": "0.0", "fit.validate_every": "2", "fit.patience": "3"},
    )
    state = Fit(Run(tmp_path), ModelTask(recipe, load(recipe.data)))
    state.progress.best_nats, state.progress.best_step = 0.0, 1
    assert state.loop().step == 6


def test_a_run_in_the_way_or_missing_is_told(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text("")
    assert main(["fit", str(recipe_file), "--output", str(tmp_path)]) == 1
    assert "add --resume" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "none")]) == 1
    assert "not the folder of a run" in capsys.readouterr().err
    (tmp_path / "last.safetensors").write_bytes(b"junk")
    with pytest.raises(RunError, match="not a checkpoint"):
        checkpoint.read(tmp_path / "last.safetensors")


def test_weights_of_another_recipe_are_refused(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file, {"fit.steps": "1"})
    fit(Run(tmp_path), recipe, resume=False)
    with pytest.raises(RunError, match="does not fit the recipe"):
        fit(Run(tmp_path), read_recipe(recipe_file, {"model.latent": "5"}), resume=True)


def test_a_likelihood_that_cannot_explain_the_data_is_refused(recipe_file: Path, tmp_path: Path) -> None:
    images = np.full((40, 8, 8), 100, dtype=np.uint8)
    np.save(tmp_path / "grey.npy", images)
    recipe = read_recipe(recipe_file, {"data.root": str(tmp_path / "grey.npy")})
    with pytest.raises(RunError, match="bernoulli likelihood takes pixels of"):
        fit(Run(tmp_path / "run"), recipe, resume=False)


def test_the_variance_is_numpys(recipe_file: Path) -> None:
    splits = load(read_recipe(recipe_file).data)
    assert variance(splits) == pytest.approx(splits.train.fixed().astype(np.float64).var())


def test_every_epoch_sees_every_example_once() -> None:
    drawn = np.concatenate([batch_indices(3, step, 64, 100) for step in range(25)])
    for epoch in range(16):
        assert sorted(drawn[epoch * 100 : (epoch + 1) * 100]) == list(range(100))
    assert list(drawn[:100]) != list(drawn[100:200])


def test_a_batch_may_be_larger_than_the_set() -> None:
    assert sorted(batch_indices(0, 0, 250, 100)[:100]) == list(range(100))
    assert len(batch_indices(0, 7, 250, 100)) == 250


def test_the_learning_rate_rises_and_falls() -> None:
    config = FitConfig(steps=1000, warmup_steps=100, learning_rate=0.1, final_learning_rate=0.001)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.001)
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[550] == pytest.approx((0.1 + 0.001) / 2)
    assert rates[-1] == pytest.approx(0.001, rel=1e-2)


def test_a_fit_can_begin_with_the_weights_of_another_run(recipe_file: Path, tmp_path: Path) -> None:
    recipe, run = read_recipe(recipe_file, {"fit.steps": "2"}), Run(tmp_path / "run")
    fit(run, recipe, resume=False)
    splits = load(recipe.data)
    begun = ModelTask(recipe.model_copy(update={"start_from": run.path}), splits).objective().model
    fitted = run.model(recipe, splits.train.shape).state_dict()
    assert all(torch.equal(value, fitted[name]) for name, value in begun.state_dict().items())
    wider = recipe.model.model_copy(update={"latent": 5})
    with pytest.raises(RunError, match=r"best\.safetensors"):
        ModelTask(recipe.model_copy(update={"start_from": run.path, "model": wider}), splits).objective()
    with pytest.raises(RunError, match=r"best\.safetensors"):
        ModelTask(recipe.model_copy(update={"start_from": tmp_path}), splits).objective()
