"""Scale-invariant signal-to-distortion ratio of sounds."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from media.errors import MediaGeometryError

_BLOCK = 2**18


def si_sdr_db(x: Float32[np.ndarray, "B T"], y: Float32[np.ndarray, "b t"]) -> Float64[np.ndarray, " B"]:
    """Give the scale-invariant signal-to-distortion ratio of each pair (Le Roux et al. 2019, eqs. 2 and 3).

    SI-SDR_b = 10 log10(|a x|^2 / |a x - y|^2) with a = <y, x> / |x|^2: how loud y is does not count.

    Args:
        x: the sounds as they were.
        y: as many of the same length, as they have become.

    Returns:
        One value a pair, in decibels; infinite where y is x but for its loudness, minus infinity where nothing of x is
        in y, 0 where both are silent.

    Raises:
        MediaGeometryError: the shapes differ.
    """
    if x.shape != y.shape:
        raise MediaGeometryError(f"found shapes {x.shape} and {y.shape}, expected equal ones: compare like with like")
    energy = _sum(lambda given, _: given * given, x, y)
    scale = _sum(lambda given, found: given * found, x, y) / np.where(energy > 0.0, energy, 1.0)
    signal = np.square(scale) * energy
    distortion = _sum(lambda given, found: np.square(scale[:, None] * given - found), x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = 10.0 * (np.log10(signal) - np.log10(distortion))
    values: Float64[np.ndarray, " B"] = np.where((signal == 0.0) & (distortion == 0.0), 0.0, ratios)
    return values


def _sum(
    term: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
    x: Float32[np.ndarray, "B T"],
    y: Float32[np.ndarray, "B T"],
) -> Float64[np.ndarray, " B"]:
    """Sum a term over time in float64, block by block: an hour of sound would be large in it."""
    total = np.zeros(len(x))
    for start in range(0, x.shape[1], _BLOCK):
        block = slice(start, start + _BLOCK)
        total += term(x[:, block].astype(np.float64), y[:, block].astype(np.float64)).sum(axis=1)
    return total
