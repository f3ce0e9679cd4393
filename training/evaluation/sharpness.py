"""Sharpness of pictures: how much fine detail they have, beside that of real ones.

Neither figure knows whether the detail is right: noise is sharp as well. They tell blurred pictures from others, and go
together with a look at the pictures.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from numpy.typing import NDArray


def gradient_energy(pictures: UInt8[np.ndarray, "N H W C"]) -> Float64[np.ndarray, " N"]:
    """Give the mean squared difference between neighbouring pixels, along both axes.

    Args:
        pictures: of at least 2 pixels a side.

    Returns:
        Squared grey levels, one figure a picture.
    """
    values = pictures.astype(np.float64)
    down, right = (np.square(np.diff(values, axis=axis)).mean((1, 2, 3)) for axis in (1, 2))
    energies: NDArray[np.float64] = 0.5 * (down + right)
    return energies


def laplacian_variance(pictures: UInt8[np.ndarray, "N H W C"]) -> Float64[np.ndarray, " N"]:
    """Give the variance of the five-point Laplacian (Pech-Pacheco et al. 2000, section 2.3), over channels as well.

    Args:
        pictures: of at least 3 pixels a side.

    Returns:
        Squared grey levels, one figure a picture.
    """
    values = pictures.astype(np.float64)
    middle = values[:, 1:-1, 1:-1]
    around = values[:, :-2, 1:-1] + values[:, 2:, 1:-1] + values[:, 1:-1, :-2] + values[:, 1:-1, 2:]
    variances: NDArray[np.float64] = (around - 4.0 * middle).var((1, 2, 3))
    return variances


class Ratio(NamedTuple):
    """A mean over pictures, as a share of the mean over real ones.

    Attributes:
        value: 1 for pictures as sharp as real ones.
        standard_error: of the draw of both sets (delta method, as if they were independent).
    """

    value: float
    standard_error: float


def relative(figures: Float64[np.ndarray, " N"], real: Float64[np.ndarray, " M"]) -> Ratio:
    """Compare one figure of pictures with that of real ones.

    Args:
        figures: of the pictures, two or more.
        real: of real pictures, two or more.

    Returns:
        The ratio of the means.
    """
    value = figures.mean() / real.mean()
    spread = sum(part.var(ddof=1) / (len(part) * part.mean() ** 2) for part in (figures, real))
    return Ratio(float(value), float(value * np.sqrt(spread)))
