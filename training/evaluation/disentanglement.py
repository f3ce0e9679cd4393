"""Whether each latent stands for one factor of the data: scores of representations whose factors are known."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

from models.model import LatentVariableModel
from training.data import Examples, Splits
from training.errors import DataError
from training.evaluate import Split
from training.evaluation.latents import continuous
from training.evaluation.store import add_figures
from training.run import Run

_BATCH = 500
_BINS = 20
_POINTS = 4000
_PAIRS = 64
_ITERATIONS = 200
_PENALTY = 1e-4

Factors = Mapping[str, Int64[np.ndarray, " N"]]


def disentanglement_of_run(run: Run, splits: Splits, split: Split, seed: int) -> dict[str, float]:
    """Score the latents of a run's best weights, and store the figures with its others.

    Args:
        run: of a model of real-valued latents.
        splits: its data, of which two factors or more are known.
        split: which to encode.
        seed: of the pairs.

    Returns:
        The beta-VAE metric, the mutual information gap and that of each factor.

    Raises:
        DataError: the factors of the data are not known.
        RunError: the run is not complete, or its latents are of another kind.
    """
    examples: Examples = getattr(splits, split)
    if len(examples.conditions) < 2:
        raise DataError(
            f"of {splits.name} {len(examples.conditions)} factors are known, and a score of disentanglement needs two "
            "or more; fit and evaluate on data.source = 'sprites'"
        )
    z = representations(run.model(run.recipe(), splits.train.shape), examples)
    gaps = mutual_information_gaps(z, examples.conditions)
    found = {
        "beta_vae_metric": beta_vae_metric(z, examples.conditions, seed),
        "mutual_information_gap": float(np.mean(list(gaps.values()))),
        **{f"mutual_information_gap_{name}": gap for name, gap in gaps.items()},
    }
    note = f"Disentanglement: of the posteriors' centres of {len(z)} examples of the {split} split, seed {seed}."
    add_figures(run, found, note)
    return found


@torch.inference_mode()
def representations(model: LatentVariableModel, examples: Examples) -> Float64[np.ndarray, "N D"]:
    """Give the one z that stands for each example."""
    data, bottleneck = examples.fixed(), continuous(model)
    parts = (torch.from_numpy(data[first : first + _BATCH]) for first in range(0, len(data), _BATCH))
    return np.concatenate([bottleneck.point(model.encode(part)).double().numpy() for part in parts])


def beta_vae_metric(z: Float64[np.ndarray, "N D"], factors: Factors, seed: int) -> float:
    """Give the beta-VAE metric (Higgins et al. 2017, section 3): a linear classifier's accuracy.

    A point is the mean of |z - z'| over 64 pairs of examples that share the value of one factor, chosen at random, and
    differ freely in the others. A latent that stands for this factor alone hardly moves, so that a linear classifier
    tells the factor from the point. Half of the points fit it, its accuracy is that on the others.

    Args:
        z: of each example.
        factors: the value of each factor, by name.
        seed: of the pairs.

    Returns:
        0 .. 1; chance is one over the number of factors.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    chosen = random.integers(0, len(factors), 2 * _POINTS)
    points = np.empty((len(chosen), z.shape[1]))
    for index, values in enumerate(factors.values()):
        those = np.flatnonzero(chosen == index)
        first, second = _pairs(values, len(those) * _PAIRS, random)
        moved = np.abs(z[first] - z[second]).reshape(len(those), _PAIRS, -1)
        points[those] = moved.mean(axis=1)
    points /= points[:_POINTS].std(axis=0) + 1e-12
    return _linear_accuracy(points[:_POINTS], chosen[:_POINTS], points[_POINTS:], chosen[_POINTS:], len(factors))


def _pairs(
    values: Int64[np.ndarray, " N"], count: int, random: np.random.Generator
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
    """Draw examples, and to each another of the same value."""
    order = np.argsort(values, kind="stable")
    sizes = np.bincount(values)
    starts = np.cumsum(sizes) - sizes
    first = random.integers(0, len(values), count)
    of_value = values[first]
    second = order[starts[of_value] + (random.random(count) * sizes[of_value]).astype(np.int64)]
    return first, second


def _linear_accuracy(
    x: NDArray[np.float64],
    y: Int64[np.ndarray, " N"],
    other_x: NDArray[np.float64],
    other_y: Int64[np.ndarray, " N"],
    classes: int,
) -> float:
    """Fit a multinomial logistic regression, and give its accuracy on other points."""
    inputs, target = torch.from_numpy(x), torch.from_numpy(y)
    layer = nn.Linear(x.shape[1], classes, dtype=torch.float64)
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        value = cross_entropy(layer(inputs), target) + _PENALTY * layer.weight.square().sum()
        torch.autograd.backward(value)
        return float(value.detach())

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        right = layer(torch.from_numpy(other_x)).argmax(1) == torch.from_numpy(other_y)
    return float(right.double().mean())


def mutual_information_gaps(z: Float64[np.ndarray, "N D"], factors: Factors) -> dict[str, float]:
    """Give the mutual information gap of each factor (Chen et al. 2018, section 4): (I_1 - I_2) / H(v).

    I_1 and I_2 are those of the two latents that say most of the factor v. As in Locatello et al. 2019, a latent is one
    number for each example, counted in 20 bins of equal width: from N examples, each I is too large by about
    19 (values - 1) / 2N nats, an unused latent's as well, since its bins follow its range.

    Args:
        z: of each example.
        factors: the value of each factor, by name.

    Returns:
        0 .. 1 by factor.
    """
    bins = [_binned(column) for column in z.T]
    found = {}
    for name, values in factors.items():
        shares = np.bincount(values) / len(values)
        entropy = -float(np.sum(shares * np.log(np.where(shares > 0, shares, 1.0))))
        told = [*sorted((_mutual_information(column, values) for column in bins), reverse=True), 0.0]
        found[name] = (told[0] - told[1]) / entropy if entropy > 0 else 0.0
    return found


def _binned(column: Float64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """Number the bins of a latent."""
    edges = np.linspace(column.min(), column.max(), _BINS + 1)
    return np.digitize(column, edges[1:-1]).astype(np.int64)


def _mutual_information(a: Int64[np.ndarray, " N"], b: Int64[np.ndarray, " N"]) -> float:
    """Give I(a; b) of counts, nats."""
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1.0 / len(a))
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / apart[there])))
