"""How far pictures are from one another."""

import numpy as np
from jaxtyping import Float64, UInt8

from media.errors import MediaGeometryError


def mse(x: UInt8[np.ndarray, "B H W C"], y: UInt8[np.ndarray, "b h w c"]) -> Float64[np.ndarray, " B"]:
    """Average the squared differences of each pair: MSE_b = mean over h, w, c of (x - y)^2.

    Args:
        x: pictures, in 0 .. 255.
        y: as many of the same size.

    Returns:
        One value a pair, in squared intensity.

    Raises:
        MediaGeometryError: the shapes differ.
    """
    if x.shape != y.shape:
        raise MediaGeometryError(f"found shapes {x.shape} and {y.shape}, expected equal ones: compare like with like")
    difference = x.astype(np.int32) - y
    errors: Float64[np.ndarray, " B"] = np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64)
    return errors


def psnr_db(
    x: UInt8[np.ndarray, "B H W C"], y: UInt8[np.ndarray, "b h w c"], peak: float = 255.0
) -> Float64[np.ndarray, " B"]:
    """Give the peak signal-to-noise ratio of each pair: PSNR_b = 10 log10(peak^2 / MSE_b).

    Args:
        x: pictures, in 0 .. 255.
        y: as many of the same size.
        peak: the largest intensity there can be, above 0.

    Returns:
        One value a pair, in decibels; infinite for identical pictures.

    Raises:
        MediaGeometryError: the shapes differ.
    """
    errors = mse(x, y)
    with np.errstate(divide="ignore"):
        ratios: Float64[np.ndarray, " B"] = 10.0 * np.log10(peak**2 / errors)
    return ratios
