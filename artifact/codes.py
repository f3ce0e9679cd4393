"""The host half of the prior graphs: from logits to code lengths and draws."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy.typing import NDArray

from artifact.manifest import Tensor

Arrays = dict[str, NDArray[np.generic]]

ALL_CODES = int(np.iinfo(np.int64).max)
"""As `top_k`: draw from all codes."""


@runtime_checkable
class Signature(Protocol):
    """Whatever says what a graph takes."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs."""
        ...


def surprise_nats(
    logits: Float32[np.ndarray, "B *grid K"], codes: Int32[np.ndarray, "B *grid"]
) -> Float64[np.ndarray, "B *grid"]:
    """Give -log p of every code given those before it, from the logits of its place.

    Args:
        logits: as `prior` gives them.
        codes: 0 .. K - 1.

    Returns:
        Nats, at least 0.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, codes[..., None].astype(np.int64), axis=-1)[..., 0]
    nats: NDArray[np.float64] = np.log(np.exp(scores).sum(axis=-1)) - chosen
    return nats


def draw_codes(
    logits: Float32[np.ndarray, "B K"],
    uniform: Float64[np.ndarray, " B"],
    *,
    temperature: float | Float64[np.ndarray, " B"] = 1.0,
    top_k: int | Int64[np.ndarray, " B"] | None = None,
    top_p: float | Float64[np.ndarray, " B"] = 1.0,
) -> Int32[np.ndarray, " B"]:
    """Draw a code a row by the inverse of the cumulative distribution, in float64.

    p_k is proportional to exp(logit_k / temperature) over the top_k largest logits, and of these over the nucleus: the
    fewest most probable codes that have at least top_p of their probability (Holtzman et al. 2020). Of equal logits the
    first count.

    Args:
        logits: as a step of a prior gives them.
        uniform: noise in [0, 1).
        temperature: at least 0, of all rows or of each; 0 gives the most probable code.
        top_k: at least 1, likewise; K or more, or None, for all codes.
        top_p: above 0, likewise; 1 for all codes.

    Returns:
        Codes; those of a row do not depend on the other rows.
    """
    scores = logits.astype(np.float64)
    divisor = np.broadcast_to(np.float64(temperature), len(scores))
    is_certain = divisor == 0.0
    with np.errstate(over="ignore"):  # what a temperature near 0 makes infinite has no weight, as is right
        weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / np.where(is_certain, 1.0, divisor)[:, None])
    if top_k is not None:
        _keep_largest(weights, scores, np.broadcast_to(np.int64(top_k), len(scores)))
    _keep_nucleus(weights, scores, np.broadcast_to(np.float64(top_p), len(scores)))
    cumulative = weights.cumsum(axis=1)
    target = uniform * cumulative[:, -1]
    # The first code whose cumulative weight exceeds the target; a product that rounds up to the total takes the last
    # code that has any weight.
    drawn = np.minimum(
        (cumulative <= target[:, None]).sum(axis=1), weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
    )
    if is_certain.any():
        drawn = np.where(is_certain, scores.argmax(axis=1), drawn)
    return drawn.astype(np.int32)


def _keep_largest(
    weights: Float64[np.ndarray, "B K"], scores: Float64[np.ndarray, "B K"], top_k: Int64[np.ndarray, " B"]
) -> None:
    """Take the weight of all but the largest scores of each row away."""
    (cut,) = np.nonzero(top_k < scores.shape[1])
    if not len(cut):
        return
    scores, room = scores[cut], top_k[cut, None]
    place = scores.shape[1] - room
    least = np.take_along_axis(np.partition(scores, np.unique(place), axis=1), place, axis=1)
    larger, equal = scores > least, scores == least
    room = room - larger.sum(axis=1, keepdims=True)
    weights[cut] *= larger | equal & (equal.cumsum(axis=1) <= room)


def _keep_nucleus(
    weights: Float64[np.ndarray, "B K"], scores: Float64[np.ndarray, "B K"], top_p: Float64[np.ndarray, " B"]
) -> None:
    """Take the weight of all codes away before which the more probable ones of their row have enough."""
    (cut,) = np.nonzero(top_p < 1.0)
    if not len(cut):
        return
    order = np.argsort(-scores[cut], axis=1, kind="stable")
    reached = np.take_along_axis(weights[cut], order, axis=1).cumsum(axis=1)
    is_kept = np.ones(reached.shape, dtype=np.bool_)
    is_kept[:, 1:] = reached[:, :-1] < top_p[cut, None] * reached[:, -1:]
    by_code = np.empty_like(is_kept)
    np.put_along_axis(by_code, order, is_kept, axis=1)
    weights[cut] *= by_code
