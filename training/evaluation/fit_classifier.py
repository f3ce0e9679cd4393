"""Fitting a classifier to the classes of a data set, and what it makes of data."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from training import checkpoint
from training.data import DataConfig, Examples, Splits, load
from training.data.sounds import Recordings
from training.errors import RunError
from training.evaluation.classifier import Classifier, ClassifierConfig, SoundClassifier
from training.fit import Fit, Progress, batch_indices
from training.objectives import Objective, Step
from training.recipe import FitConfig, read_table
from training.run import Run, write_text
from training.team import leads

_BATCH = 100
_SHIFTS = 2
"""Key of the random flips, shifts and gains, apart from that of the order of examples."""
_QUIETEST, _LOUDEST = 0.25, 2.0

Data = NDArray[Any]


class ClassifierRecipe(BaseModel):
    """The recipe of a classifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    data: DataConfig
    classifier: ClassifierConfig = ClassifierConfig()
    fit: FitConfig = FitConfig()


class CrossEntropy(Objective):
    """Least surprise at the class: loss = -log p(class given x).

    Args:
        model: the classifier.
    """

    model: Classifier

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def steps(self, *batch: Tensor) -> Iterator[Step]:
        """Give the one step of a batch of data and their classes."""
        x, labels = batch
        logits = self.model(x).float()
        loss = cross_entropy(logits, labels)
        yield Step("model", loss, -loss.detach(), {"accuracy": (logits.argmax(1) == labels).float().mean()})


class ClassifierTask:
    """A classifier and its data; see `training.fit.Task`.

    Args:
        recipe: what is fitted.
        splits: the data.

    Raises:
        RunError: the data have no classes, or pictures that differ in size.
    """

    def __init__(self, recipe: ClassifierRecipe, splits: Splits) -> None:
        if len(splits.classes) < 2 or splits.train.labels is None:
            raise RunError(f"{splits.name} has no classes to tell apart; a classifier needs two or more")
        self.name, self.config, self.recipe, self.splits = recipe.name, recipe.fit, recipe, splits
        one = splits.train[0]
        if one.ndim == 3 and not splits.train.uniform:
            raise RunError(f"the pictures of {splits.name} differ in size; set data.size in place of data.crop")
        self.geometry: dict[str, Any] = (
            {"modality": "image", "channels": one.shape[-1]}
            if one.ndim == 3
            else {"modality": "audio", "sample_rate_hz": sample_rate_hz(splits.train)}
        )
        self.origin = {"classes": json.dumps(splits.classes), "geometry": json.dumps(self.geometry)}

    def objective(self) -> CrossEntropy:
        """Make the objective with a fresh classifier."""
        return CrossEntropy(self.recipe.classifier.build(len(self.splits.classes), **self.geometry))

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Give the data of a step and their classes: pictures flipped as the recipe says, sounds shifted and scaled."""
        examples, config = self.splits.train, self.config
        indices = batch_indices(config.seed, step, config.batch_size, len(examples))
        random = np.random.Generator(np.random.Philox(key=[config.seed, step], counter=[0, 0, 0, _SHIFTS]))
        if self.geometry["modality"] == "image":
            x = examples.batch(indices, random)
        else:
            length = round(self.recipe.classifier.seconds * self.geometry["sample_rate_hz"])
            x = shifted([examples[index] for index in indices], length, random)
        labels = cast("Int64[np.ndarray, ' N']", examples.labels)[indices]
        return torch.from_numpy(x), torch.from_numpy(labels)

    def score_nats(self, model: nn.Module) -> float:
        """Give the mean log p(class given x) over the validation split."""
        examples = self.splits.validation
        logits = classify(cast("Classifier", model), [examples[index] for index in range(len(examples))])[1]
        labels = torch.from_numpy(cast("Int64[np.ndarray, ' N']", examples.labels))
        return -float(cross_entropy(torch.from_numpy(logits), labels))

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show nothing."""
        del model
        return {}


def sample_rate_hz(examples: Examples) -> int:
    """Give the sample rate of sounds.

    Raises:
        RunError: they are no sounds.
    """
    if not isinstance(examples, Recordings):
        raise RunError(f"found {type(examples).__name__}, expected sounds; set data.source to a set of sounds")
    return examples.sample_rate_hz


def shifted(
    sounds: Sequence[Float32[np.ndarray, " T"]], length: int, random: np.random.Generator
) -> Float32[np.ndarray, "B L"]:
    """Put each sound at a random place of as much silence as there is room for, at a random loudness.

    Args:
        sounds: of any length; of a longer one a random part is taken.
        length: L in samples.
        random: where places and gains come from.

    Returns:
        The sounds.
    """
    found = np.zeros((len(sounds), length), dtype=np.float32)
    for row, sound in zip(found, sounds, strict=True):
        room = length - len(sound)
        place = int(random.integers(0, abs(room), endpoint=True))
        gain = np.float32(np.exp(random.uniform(np.log(_QUIETEST), np.log(_LOUDEST))))
        if room >= 0:
            row[place : place + len(sound)] = gain * sound
        else:
            row[:] = gain * sound[place : place + length]
    return found.clip(-1.0, 1.0)


@torch.inference_mode()
def classify(model: Classifier, data: Sequence[Data]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Look at data with a classifier.

    Args:
        model: in evaluation mode.
        data: pictures of one size, or sounds of any length; what is longer than the classifier hears is cut.

    Returns:
        Features `[N, F]` and logits `[N, classes]`.
    """
    features, logits = [], []
    device = next(model.parameters()).device
    for first in range(0, len(data), _BATCH):
        batch = list(data[first : first + _BATCH])
        if isinstance(model, SoundClassifier):
            batch = [np.pad(sound[: model.length], (0, max(0, model.length - len(sound)))) for sound in batch]
        found = model.features(torch.from_numpy(np.stack(batch)).to(device))
        features.append(found.double().cpu().numpy())
        logits.append(model.head(found).double().cpu().numpy())
    return np.concatenate(features), np.concatenate(logits)


def accuracy(logits: NDArray[np.float64], labels: Int64[np.ndarray, " N"]) -> float:
    """Give the share of examples whose likeliest class is theirs, 0 .. 1."""
    return float((logits.argmax(axis=1) == labels).mean())


def read_classifier(run: Run) -> tuple[Classifier, tuple[str, ...]]:
    """Build a fitted classifier with its best weights.

    Args:
        run: of the classifier.

    Returns:
        The classifier in evaluation mode, on the CPU, and the names of its classes.

    Raises:
        RunError: the folder holds no fitted classifier.
        RecipeError: its recipe is of something else.
    """
    state = checkpoint.read(run.best)
    if "geometry" not in state.counters:
        raise RunError(f"{run.path} is no classifier; fit one by `python -m training fit-classifier`")
    recipe = read_table(run.recipe_file, ClassifierRecipe)
    classes = tuple(json.loads(state.counters["classes"]))
    model = recipe.classifier.build(len(classes), **json.loads(state.counters["geometry"]))
    checkpoint.load_module(model, state.part("model"), run.best)
    return model.eval().requires_grad_(False), classes


def fit_classifier(run: Run, recipe: ClassifierRecipe, *, resume: bool) -> tuple[Progress, float]:
    """Fit a classifier, and measure it on the test split.

    Args:
        run: the folder; made if it is not there.
        recipe: what is fitted.
        resume: go on with the run in the folder.

    Returns:
        Where the fit ended, and the accuracy on the test split, which is stored in the run as well.

    Raises:
        DataError: the data cannot be had.
        RunError: the data have no classes, or there is a run already.
    """
    if not resume:
        run.check_free()
    return fit_to(run, recipe, load(recipe.data), resume=resume)


def fit_to(run: Run, recipe: ClassifierRecipe, splits: Splits, *, resume: bool) -> tuple[Progress, float]:
    """Fit a classifier to data that are there; see `fit_classifier`."""
    state = Fit(run, ClassifierTask(recipe, splits))
    if resume and run.last.exists():
        state.resume()
    run.write_recipe(recipe)
    progress = state.loop()
    return progress, test_accuracy(run, splits)


def test_accuracy(run: Run, splits: Splits) -> float:
    """Measure a fitted classifier on the test split, and store the figure in its folder."""
    model, _ = read_classifier(run)
    logits = classify(model, [splits.test[index] for index in range(len(splits.test))])[1]
    found = accuracy(logits, cast("Int64[np.ndarray, ' N']", splits.test.labels))
    note = f"Over the test split of {splits.name}, by `python -m training fit-classifier`."
    metrics = {"examples": float(len(splits.test)), "accuracy": found}
    if leads():
        stored = {"note": note, "weights": run.weights(), "metrics": metrics}
        write_text(run.metrics_file, json.dumps(stored, indent=2) + "\n")
    return found
