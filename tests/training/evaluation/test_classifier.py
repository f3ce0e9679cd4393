"""Classifiers: they learn classes that can be told apart, and judge what a model makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.cli import main
from training.data import load
from training.errors import RunError
from training.evaluation.classifier import ClassifierConfig
from training.evaluation.fit_classifier import accuracy, classify, read_classifier, shifted
from training.evaluation.judge import judge
from training.recipe import read_recipe
from training.run import Run


@pytest.fixture(scope="module")
def classifier(bars_by_class: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fit a classifier of lying and standing bars."""
    folder = tmp_path_factory.mktemp("classifier")
    recipe = folder / "bars.toml"
    recipe.write_text(f"""
name = "bars-classifier"

[data]
source = "folder"
root = "{bars_by_class}"
size = 8

[classifier]
channels = [8, 16]

[fit]
steps = 150
batch_size = 32
learning_rate = 1e-2
warmup_steps = 5
ema_decay = 0.9
validate_every = 50
threads = 1
""")
    assert main(["fit-classifier", str(recipe), "--output", str(folder / "run")]) == 0
    return Run(folder / "run")


def test_it_tells_classes_apart_and_is_read_back(classifier: Run) -> None:
    model, classes = read_classifier(classifier)
    metrics = json.loads(classifier.metrics_file.read_text())["metrics"]

    assert classes == ("lying", "standing")
    assert metrics["accuracy"] > 0.9
    bar = np.full((2, 8, 8, 3), 60, dtype=np.uint8)
    bar[0, 3], bar[1, :, 5] = 250, 250
    assert classify(model, list(bar))[1].argmax(axis=1).tolist() == [0, 1]


def test_judgement_of_a_model(classifier: Run, vq_run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(vq_run.path), "--classifier", str(classifier.path), "--draws", "20"]) == 0

    stored = json.loads(vq_run.metrics_file.read_text())["metrics"]
    assert stored["accuracy"] > 0.9
    assert stored["accuracy_kept_on_reconstructions"] == stored["accuracy_on_reconstructions"] / stored["accuracy"]
    assert 0.0 <= stored["accuracy_on_samples"] <= 1.0
    assert stored["frechet_distance_of_training_split"] < stored["frechet_distance_of_samples"]
    assert "psnr_db" in stored
    assert "frechet_distance_of_samples" in capsys.readouterr().out


def test_a_perfect_model_keeps_everything(classifier: Run, vq_recipe_file: Path) -> None:
    splits = load(read_recipe(vq_recipe_file).data)
    judging, classes = read_classifier(classifier)

    class Perfect(torch.nn.Module):
        bottleneck = None

        def reconstruct(self, x):
            return x.float()

    found = judge(Perfect(), None, splits, splits.test, judging, classes, 20, 0)

    assert found["accuracy_kept_on_reconstructions"] == 1.0
    assert found["frechet_distance_of_reconstructions"] == pytest.approx(0.0, abs=1e-8)
    assert "frechet_distance_of_samples" not in found


def test_a_classifier_of_other_classes_is_refused(classifier: Run, vq_recipe_file: Path) -> None:
    splits = load(read_recipe(vq_recipe_file).data)
    judging, _ = read_classifier(classifier)
    with pytest.raises(RunError, match=r"tells left, right apart, classes.* has lying, standing"):
        judge(torch.nn.Module(), None, splits, splits.test, judging, ("left", "right"), 20, 0)


def test_a_model_is_no_classifier(vq_run: Run) -> None:
    with pytest.raises(RunError, match="is no classifier"):
        read_classifier(vq_run)


def test_a_sound_is_heard_wherever_it_lies_and_silence_is_not() -> None:
    torch.manual_seed(0)
    model = ClassifierConfig(channels=(4, 8), seconds=0.5).build(2, modality="audio", sample_rate_hz=8000).eval()
    tone = np.sin(2 * np.pi * 440 * np.arange(1600) / 8000).astype(np.float32)

    features, logits = classify(model, [tone, np.pad(tone, (0, 5000)), np.zeros(10, dtype=np.float32)])

    assert features.shape == (3, 8)
    assert logits.shape == (3, 2)
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert not np.allclose(features[0], features[2], atol=1e-2)


def test_levels_of_a_tone_are_highest_in_its_band() -> None:
    model = ClassifierConfig(channels=(4,), seconds=0.5).build(2, modality="audio", sample_rate_hz=8000)
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(4000) / 8000)[None]

    band = int(model.planes(tone)[0, 0].mean(1).argmax())

    edges = 700 * (10 ** (np.linspace(0, np.log10(1 + 4000 / 700), 42)) - 1)
    assert edges[band] < 1000 < edges[band + 2]


def test_shifted_sounds_are_whole_or_parts() -> None:
    random = np.random.default_rng(0)
    short, long = np.arange(1, 4, dtype=np.float32) / 10, np.linspace(0.1, 0.2, 50, dtype=np.float32)

    found = shifted([short, long], 10, random)

    sounding = found[0][found[0] != 0.0]
    np.testing.assert_allclose(sounding / sounding[0], [1, 2, 3], rtol=1e-5)
    steps = np.diff(found[1])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-2)
    assert accuracy(np.eye(3), np.array([0, 1, 1])) == pytest.approx(2 / 3)
