"""A classifier's judgement of a model: how far its samples are from data, and whether classes survive it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from artifact.noise import PRIOR_STREAM, batch_normal
from models.bottleneck import DiscreteBottleneck
from models.chain import Chain, joined
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from training.data import Examples, Recordings, Splits
from training.errors import RunError
from training.evaluation.classifier import Classifier, PictureClassifier, SoundClassifier
from training.evaluation.fit_classifier import accuracy, classify
from training.evaluation.frechet import frechet_distance
from training.evaluation.reconstruct import Reconstructor
from training.graphs.prior import Asked, draw
from training.pictures import intensities

Data = NDArray[Any]
Labels = Int64[np.ndarray, " N"]
Classes = Mapping[str, Labels]
_BATCH = 50
_LABEL = "label"


@dataclass(frozen=True)
class _Reference:
    """What answers are compared with.

    Attributes:
        classifier: that looks at them.
        features: of the examples.
        accuracy: of the classifier on the examples; None where they have no classes.
    """

    classifier: Classifier
    features: Float64[np.ndarray, "N F"]
    accuracy: float | None

    def figures(self, kind: str, data: Sequence[Data], labels: Labels | None, given: str = "") -> dict[str, float]:
        """Measure data of a kind, whose classes should be these."""
        features, logits = classify(self.classifier, data)
        found = {f"frechet_distance_of_{kind}{given}": frechet_distance(self.features, features)}
        if labels is not None and self.accuracy is not None:
            right = accuracy(logits, labels)
            found[f"accuracy_on_{kind}{given}"] = right
            found[f"accuracy_kept_on_{kind}{given}"] = right / self.accuracy if self.accuracy else 0.0
        return found


def judge(
    model: LatentVariableModel,
    chain: Chain | None,
    splits: Splits,
    examples: Examples,
    classifier: Classifier,
    classes: Sequence[str],
    draws: int,
    seed: int,
) -> dict[str, float]:
    """Judge a model's reconstructions and samples.

    What a model or its prior can be told besides the class, as the speaker of a sound, counts as not known, but for the
    figures whose names say that it is given: to the decoder of reconstructions, and to the prior and the decoder of
    samples alike.

    Args:
        model: in evaluation mode, on the CPU.
        chain: the prior over its codes; None for none.
        splits: its data.
        examples: as many of them as `draws`, chosen at random, are reconstructed, and samples are compared with them.
        classifier: of the same kind of data.
        classes: what it tells apart.
        draws: samples, as many of each class where the prior takes classes.
        seed: of the choice and of the noise.

    Returns:
        Figures by name: `accuracy` of the classifier on the examples, on their reconstructions, and on samples whose
        class was asked for, the latter two also over the first; and Frechet distances to the examples, of samples, of
        reconstructions and, for comparison, of as many examples of the training split.

    Raises:
        RunError: the classifier is of other data or other classes.
    """
    _check(classifier, classes, splits)
    chosen = _spread(len(examples), min(draws, len(examples)), seed)
    given = [examples[index] for index in chosen]
    known = {name: labels[chosen] for name, labels in examples.conditions.items()}
    labels = known.get(_LABEL)
    features, logits = classify(classifier, given)
    reference = _Reference(classifier, features, None if labels is None else accuracy(logits, labels))
    others = [splits.train[index] for index in _spread(len(splits.train), len(given), seed)]
    figures = {} if reference.accuracy is None else {"accuracy": reference.accuracy}
    figures |= reference.figures("training_split", others, None)
    figures |= reference.figures("reconstructions", _reconstructed(model, given, {}), labels)
    told = {name: known[name] for name in getattr(model, "conditions", {}) if name in known}
    if told:
        again = _reconstructed(model, given, told)
        figures |= reference.figures("reconstructions", again, labels, _given(told))
    if isinstance(model.bottleneck, ContinuousBottleneck):
        return figures | reference.figures("samples", _samples(model, len(given), seed), None)
    if chain is None:
        return figures
    asked = _asked(chain.conditions, len(given))
    besides = [name for name in asked if name != _LABEL]
    alone = {name: asked[name] for name in asked if name == _LABEL}
    for conditions, title in [(alone, ""), *([(asked, _given(besides))] if besides else [])]:
        drawn = _conditional_samples(model, chain, conditions, len(given), seed)
        figures |= reference.figures("samples", drawn, asked.get(_LABEL), title)
    return figures


def _check(classifier: Classifier, classes: Sequence[str], splits: Splits) -> None:
    """Refuse a classifier of other data or other classes."""
    if (len(splits.train.shape) == 1) != isinstance(classifier, SoundClassifier):
        raise RunError(
            "the classifier is of pictures and the model of sounds, or the other way; take another classifier"
        )
    if isinstance(classifier, SoundClassifier) and isinstance(splits.train, Recordings):
        heard, rate = classifier.sample_rate_hz, splits.train.sample_rate_hz
        if heard != rate:
            raise RunError(
                f"the classifier hears {heard} samples a second, {splits.name} has {rate}; fit one to {rate}"
            )
    elif isinstance(classifier, PictureClassifier) and classifier.channels != splits.train.shape[2]:
        raise RunError(
            f"the classifier is of pictures of {classifier.channels} channels, {splits.name} has "
            f"{splits.train.shape[2]}; fit a classifier to such pictures"
        )
    if splits.classes and splits.classes != tuple(classes):
        raise RunError(
            f"the classifier tells {', '.join(classes)} apart, {splits.name} has {', '.join(splits.classes)}; fit a "
            "classifier to the same classes"
        )


def _spread(length: int, count: int, seed: int) -> Labels:
    """Choose examples at random, since many data sets are sorted by class."""
    return np.sort(np.random.Generator(np.random.Philox(key=[seed, length])).permutation(length)[:count])


def _given(names: Sequence[str] | Classes) -> str:
    """Name what is given, as part of the name of a figure."""
    return f"_given_{'_and_'.join(names)}"


def _asked(conditions: Mapping[str, int], count: int) -> dict[str, Labels]:
    """Ask for as many samples of each class, and of each class as many of each speaker."""
    found, repeats = dict[str, Labels](), 1
    for name in sorted(conditions, key=lambda name: name != _LABEL):
        found[name] = np.arange(count) // repeats % conditions[name]
        repeats *= conditions[name]
    return found


def _tensors(classes: Classes, rows: slice) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values[rows]) for name, values in classes.items()}


@torch.inference_mode()
def _reconstructed(model: LatentVariableModel, given: Sequence[Data], known: Classes) -> list[Data]:
    """Send examples through the model, one by one, since they may differ in size."""
    if not isinstance(model.bottleneck, DiscreteBottleneck):
        return [intensities(model.reconstruct(torch.from_numpy(x[None])))[0] for x in given]
    reconstructor = Reconstructor(model)
    rows = [_tensors(known, slice(index, index + 1)) for index in range(len(given))]
    return [list(reconstructor.each_rate(x, row))[-1].answer for x, row in zip(given, rows, strict=True)]


@torch.inference_mode()
def _samples(model: LatentVariableModel, count: int, seed: int) -> list[Data]:
    """Draw from the prior over real-valued latents."""
    if not isinstance(model.bottleneck, ContinuousBottleneck):
        raise TypeError("the model has no prior over real-valued latents")
    noise = batch_normal(seed, 0, count, (1, model.bottleneck.prior_noise_dimensions), stream=PRIOR_STREAM)[:, 0]
    return list(intensities(model.mean(model.bottleneck.sample(torch.from_numpy(noise), torch.ones(count)))))


@torch.inference_mode()
def _conditional_samples(model: LatentVariableModel, chain: Chain, asked: Classes, count: int, seed: int) -> list[Data]:
    """Draw codes of what is asked for, and decode them with what of it the decoder takes."""
    if not isinstance(model.bottleneck, DiscreteBottleneck):
        raise TypeError("the model has no codes")
    samples: list[Data] = []
    for first in range(0, count, _BATCH):
        rows = slice(first, min(first + _BATCH, count))
        part = {name: values[rows] for name, values in asked.items()}
        codes = draw(chain, Asked(seed, rows.stop - first, part, first_index=first))
        point = model.bottleneck.point(joined(model.bottleneck, [torch.from_numpy(grid) for grid in codes]))
        means = model.mean(point, _tensors(asked, rows))
        samples += list(intensities(means) if means.dim() == 4 else means.clamp(-1.0, 1.0).float().numpy())
    return samples
