"""The parameters of a residual: chosen by the encoder, in floating point; decoders only read them."""

import numpy as np
from jaxtyping import Float64, Int64, Integer, UInt8

from codec import logistic
from codec.logistic import MEAN_STEPS, SCALES
from codec.probabilities import PRECISION
from codec.residual import CONTEXTS, WEIGHT_STEPS, Parameters, Plane, Planes, framed, order_of

_RIDGE = 0.01
_ROBUST = MEAN_STEPS
"""Errors count as their logarithm would, from about one value on."""
_MOST = 4
"""Largest magnitude of a weight."""
_ROUNDS = 3
_TRIED = range(-3, 4)
_ROWS = 64
"""The places of so many rows are weighed at a time, which bounds the memory."""


def fit(picture: UInt8[np.ndarray, "H W C"], decoded: Integer[np.ndarray, "H W C"]) -> tuple[Parameters, float]:
    """Choose weights by reweighted least squares, and then the scale of each context that takes the fewest bits.

    Args:
        picture: any.
        decoded: what a decoder makes of its codes, in units of 1/16, 0 .. 4080.

    Returns:
        The parameters, and the bits that the values take under them.
    """
    planes, weights, scales, bits = Planes(*picture.shape[:2]), [], [], 0.0
    for channel in order_of(picture.shape[2]):
        values, means = picture[..., channel].astype(np.int64), decoded[..., channel].astype(np.int64)
        weights.append(_weights(planes, MEAN_STEPS * values, means))
        found = planes.predict(values, means, weights[-1])
        best, cost = _scales(values.ravel(), found.means.ravel(), found.contexts.ravel())
        scales.append(best)
        bits += cost
    return Parameters(tuple(weights), tuple(scales)), bits


def bits_under(
    picture: UInt8[np.ndarray, "H W C"], decoded: Integer[np.ndarray, "H W C"], parameters: Parameters
) -> float:
    """Give the bits that the values of a picture take under given parameters."""
    planes, bits = Planes(*picture.shape[:2]), 0.0
    for number, channel in enumerate(order_of(picture.shape[2])):
        values, means = picture[..., channel].astype(np.int64), decoded[..., channel].astype(np.int64)
        found = planes.predict(values, means, parameters.weights[number])
        scales = np.array(parameters.scales[number])[found.contexts]
        bits += float(_bits(values.ravel(), found.means.ravel(), scales.ravel()).sum())
    return bits


def _weights(planes: Planes, values: Plane, decoded: Plane) -> tuple[int, ...]:
    """Choose the weights of the next plane."""
    features, errors = list(planes.features(framed(values), decoded)), values - decoded
    solution = None
    for _ in range(_ROUNDS):
        solution = _least_squares(features, errors, solution)
    if solution is None:
        return ()
    most = _MOST * WEIGHT_STEPS
    return tuple(np.clip(np.rint(solution * WEIGHT_STEPS), -most, most).astype(int).tolist())


def _least_squares(
    features: list[Plane], errors: Plane, before: Float64[np.ndarray, " K"] | None
) -> Float64[np.ndarray, " K"]:
    """Solve the normal equations, each place weighed by how much happens around it and by what was left over."""
    size = len(features)
    gram, moment = _RIDGE * np.eye(size), np.zeros(size)
    for first in range(0, len(errors), _ROWS):
        rows = slice(first, first + _ROWS)
        inputs = np.stack([feature[rows].ravel() for feature in features], axis=1).astype(np.float64)
        target = errors[rows].ravel().astype(np.float64)
        left, above, corner = inputs[:, 0], inputs[:, 1], inputs[:, 2]
        activity = (np.abs(left - corner) + np.abs(above - corner)) / 2
        missed = activity if before is None else np.abs(target - inputs @ before)
        weighed = inputs / ((missed + _ROBUST) * (activity + _ROBUST))[:, None]
        gram += weighed.T @ inputs
        moment += weighed.T @ target
    solution: Float64[np.ndarray, " K"] = np.linalg.solve(gram, moment)
    return solution


def _scales(
    values: Int64[np.ndarray, " N"], means: Int64[np.ndarray, " N"], contexts: Int64[np.ndarray, " N"]
) -> tuple[tuple[int, ...], float]:
    """Choose the scale of every context among those around what the mean error suggests."""
    counts = np.bincount(contexts, minlength=CONTEXTS)
    sums = np.bincount(contexts, np.abs(MEAN_STEPS * values - means), minlength=CONTEXTS)
    # E|x| = 2 ln 2 s of a logistic distribution.
    suggested = np.rint(4 * np.log2(np.maximum(sums / np.maximum(counts, 1) / (2 * np.log(2)), 1))).astype(np.int64)
    best, least = np.zeros(CONTEXTS, dtype=np.int64), np.full(CONTEXTS, np.inf)
    for change in _TRIED:
        scales = np.clip(suggested + change, 0, SCALES - 1)
        costs = np.bincount(contexts, _bits(values, means, scales[contexts]), minlength=CONTEXTS)
        best, least = np.where(costs < least, scales, best), np.minimum(costs, least)
    return tuple(best.tolist()), float(least.sum())


def _bits(
    values: Int64[np.ndarray, " N"], means: Int64[np.ndarray, " N"], scales: Int64[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Give -log2 of the probability of every value."""
    _, sizes = logistic.intervals(values, means, scales)
    bits: Float64[np.ndarray, " N"] = PRECISION - np.log2(sizes)
    return bits
