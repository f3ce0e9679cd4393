"""The evaluation of a run beside other codecs, and by a classifier."""

import json
from pathlib import Path

import numpy as np
import torch

from media.audio import read_audio
from media.errors import MediaError
from training.data import Splits
from training.data.pictures import read_folder
from training.errors import DataError
from training.evaluate import Split
from training.evaluation.curves import Curves, Item, picture_curves, sound_curves
from training.evaluation.fit_classifier import read_classifier, sample_rate_hz
from training.evaluation.judge import judge
from training.evaluation.plot import plot
from training.evaluation.reconstruct import Reconstructor
from training.evaluation.store import add_figures
from training.run import Run

_SOUND_ENDINGS = {".wav", ".flac"}
_MAX_SECONDS = 3600.0


def curves_of_split(run: Run, splits: Splits, split: Split, limit: int | None) -> Curves:
    """Measure a run and other codecs on a split; write `curves.json` and `curves.png` into the run.

    Args:
        run: of a model of codes.
        splits: its data.
        split: which to measure.
        limit: measure the first so many; None for all.

    Returns:
        What was measured.

    Raises:
        RunError: the run is not complete, or its model has no codes.
    """
    examples = getattr(splits, split)
    count = len(examples) if limit is None else min(limit, len(examples))
    items = [
        Item(
            examples[index],
            {name: torch.from_numpy(labels[index : index + 1]) for name, labels in examples.conditions.items()},
        )
        for index in range(count)
    ]
    curves = _curves(run, splits, items, f"the {split} split of {splits.name}")
    _write(curves, run.path / "curves.json")
    _keep(run, curves)
    return curves


def curves_of_folder(run: Run, splits: Splits, folder: Path, limit: int | None) -> Curves:
    """Measure a run and other codecs on the files of a folder; write `curves-<folder>.json` and `.png` into the run.

    Args:
        run: of a model of codes.
        splits: its data, which say what the model takes.
        folder: of pictures or of sounds.
        limit: measure the first so many in the order of their names; None for all.

    Returns:
        What was measured.

    Raises:
        DataError: the folder holds none, or one cannot be read.
        RunError: the run is not complete, or its model has no codes.
    """
    if len(splits.train.shape) == 3:
        files = read_folder(folder, 1 if splits.train.shape[2] == 1 else 3)
    else:
        files = _read_sounds(folder, sample_rate_hz(splits.train))
    curves = _curves(run, splits, [Item(file, {}) for file in files[:limit]], folder.name)
    _write(curves, run.path / f"curves-{folder.name}.json")
    return curves


def judge_run(run: Run, splits: Splits, split: Split, classifier: Run, draws: int, seed: int) -> dict[str, float]:
    """Let a classifier judge a run's reconstructions and samples, and store the figures with its others.

    Args:
        run: the run.
        splits: its data.
        split: what the samples are compared with, and what is reconstructed.
        classifier: the run of the classifier.
        draws: samples.
        seed: of the draw.

    Returns:
        The figures; see `judge`.

    Raises:
        RunError: a run is not complete, or the classifier is of other classes or data.
    """
    recipe = run.recipe()
    model = run.model(recipe, splits.train.shape)
    judging, classes = read_classifier(classifier)
    chain = run.fitted_prior(recipe, model, splits)
    found = judge(model, chain, splits, getattr(splits, split), judging, classes, draws, seed)
    add_figures(run, found)
    return found


def _curves(run: Run, splits: Splits, items: list[Item], data: str) -> Curves:
    """Measure by the modality of the data."""
    recipe = run.recipe()
    model = run.model(recipe, splits.train.shape)
    measured = Reconstructor(model, run.fitted_prior(recipe, model, splits))
    if len(splits.train.shape) == 3:
        return picture_curves(recipe.name, data, measured, items)
    return sound_curves(recipe.name, data, measured, items, sample_rate_hz(splits.train))


def _write(curves: Curves, path: Path) -> None:
    """Write the numbers and the picture."""
    curves.write(path)
    plot(curves, path.with_suffix(".png"))


def _keep(run: Run, curves: Curves) -> None:
    """Store the distortion at the model's full rate with its other figures, where these do not have it."""
    own = curves.curves[f"{curves.name}, raw"][-1].figures
    known = json.loads(run.metrics_file.read_text("utf-8"))["metrics"] if run.metrics_file.exists() else {}
    add_figures(run, {name: value for name, value in own.items() if name not in known})


def _read_sounds(folder: Path, sample_rate_hz: int) -> list[np.ndarray]:
    """Read the sounds of a folder, in the order of their names."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SOUND_ENDINGS and path.is_file())
    if not paths:
        raise DataError(f"{folder} holds no sounds ({', '.join(sorted(_SOUND_ENDINGS))}); give another path")
    try:
        return [
            read_audio(path.read_bytes(), sample_rate_hz=sample_rate_hz, max_seconds=_MAX_SECONDS) for path in paths
        ]
    except MediaError as error:
        raise DataError(f"a sound of {folder} cannot be read: {error}") from error
