"""A classifier's judgement of a model: how far its samples are from data, and whether classes survive it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray

from artifact.noise import CODES_STREAM, PRIOR_STREAM, batch_normal, batch_uniform
from models.bottleneck import DiscreteBottleneck, GaussianBottleneck
from models.chain import Chain, joined
from models.model import LatentVariableModel
from training.data import Examples, Splits
from training.errors import RunError
from training.evaluation.classifier import Classifier, SoundClassifier
from training.evaluation.fit_classifier import accuracy, classify
from training.evaluation.frechet import frechet_distance
from training.evaluation.reconstruct import Reconstructor
from training.graphs.prior import Asked, draw
from training.pictures import intensities

Data = NDArray[Any]
Labels = Int64[np.ndarray, " N"]
_BATCH = 50


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

    Args:
        model: in evaluation mode, on the CPU.
        chain: the prior over its codes; None for none.
        splits: its data.
        examples: the first `draws` of them are reconstructed, and samples are compared with them.
        classifier: of the same kind of data.
        classes: what it tells apart.
        draws: samples, as many of each class where the prior takes classes.
        seed: of the noise.

    Returns:
        Figures by name: `accuracy` of the classifier on the examples, on their reconstructions, and on samples whose
        class was asked for, the latter two also over the first; and Frechet distances to the examples, of samples, of
        reconstructions and, for comparison, of as many examples of the training split.

    Raises:
        RunError: the classifier is of other data or other classes.
    """
    if (len(splits.train.shape) == 1) != isinstance(classifier, SoundClassifier):
        raise RunError(
            "the classifier is of pictures and the model of sounds, or the other way; take another classifier"
        )
    if splits.classes and splits.classes != tuple(classes):
        raise RunError(
            f"the classifier tells {', '.join(classes)} apart, {splits.name} has {', '.join(splits.classes)}; fit a "
            "classifier to the same classes"
        )
    count = min(draws, len(examples))
    given = [examples[index] for index in _spread(len(examples), count, seed)]
    features, logits = classify(classifier, given)
    again, again_logits = classify(classifier, _reconstructed(model, given))
    others = [splits.train[index] for index in _spread(len(splits.train), count, seed)]
    figures = {
        "frechet_distance_of_training_split": frechet_distance(features, classify(classifier, others)[0]),
        "frechet_distance_of_reconstructions": frechet_distance(features, again),
    }
    if examples.labels is not None:
        labels = examples.labels[_spread(len(examples), count, seed)]
        figures["accuracy"] = accuracy(logits, labels)
        figures["accuracy_on_reconstructions"] = accuracy(again_logits, labels)
        figures["accuracy_kept_on_reconstructions"] = _ratio(
            figures["accuracy_on_reconstructions"], figures["accuracy"]
        )
    drawn = _samples(model, chain, count, seed)
    if drawn is None:
        return figures
    samples, asked = drawn
    features_of_samples, logits_of_samples = classify(classifier, samples)
    figures["frechet_distance_of_samples"] = frechet_distance(features, features_of_samples)
    if asked is not None and "accuracy" in figures:
        figures["accuracy_on_samples"] = accuracy(logits_of_samples, asked)
        figures["accuracy_kept_on_samples"] = _ratio(figures["accuracy_on_samples"], figures["accuracy"])
    return figures


def _spread(length: int, count: int, seed: int) -> Labels:
    """Choose examples at random, since many data sets are sorted by class."""
    return np.sort(np.random.Generator(np.random.Philox(key=[seed, length])).permutation(length)[:count])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


@torch.inference_mode()
def _reconstructed(model: LatentVariableModel, given: Sequence[Data]) -> list[Data]:
    """Send examples through the model, one by one, since they may differ in size."""
    if isinstance(model.bottleneck, DiscreteBottleneck):
        reconstructor = Reconstructor(model)
        return [list(reconstructor.each_rate(x))[-1].answer for x in given]
    return [intensities(model.reconstruct(torch.from_numpy(x[None])))[0] for x in given]


@torch.inference_mode()
def _samples(
    model: LatentVariableModel, chain: Chain | None, count: int, seed: int
) -> tuple[list[Data], Labels | None] | None:
    """Draw from the model; give the samples and the classes that were asked for, or None where it has no prior."""
    if isinstance(model.bottleneck, GaussianBottleneck):
        noise = batch_normal(seed, 0, count, (1, model.bottleneck.dimensions), stream=PRIOR_STREAM)[:, 0]
        means = model.mean(model.bottleneck.prior.sample(torch.from_numpy(noise)))
        return list(intensities(means)), None
    if chain is None or not isinstance(model.bottleneck, DiscreteBottleneck):
        return None
    classes = chain.conditions.get("label", 0)
    labels = np.arange(count) % classes if classes else None
    places = sum(math.prod(grid.shape) for grid in chain.grids)
    samples: list[Data] = []
    for first in range(0, count, _BATCH):
        size = min(_BATCH, count - first)
        uniform = batch_uniform(seed, first, size, places, stream=CODES_STREAM)
        known = {} if labels is None else {"label": labels[first : first + size]}
        codes = [torch.from_numpy(grid) for grid in draw(chain, Asked(uniform, known))]
        means = model.mean(model.bottleneck.point(joined(model.bottleneck, codes)))
        samples += list(intensities(means) if means.dim() == 4 else means.clamp(-1.0, 1.0).float().numpy())
    return samples, labels
