"""Multi-scale structural similarity of pictures."""

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray

from media.errors import MediaGeometryError

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, the finest first (Wang et al. 2003, section 3.2)."""
SCALES = len(_WEIGHTS)
_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2


def scales_of(height: int, width: int) -> int:
    """Give the number of scales at which a picture is at least as large as the window.

    Args:
        height: in pixels.
        width: likewise.

    Returns:
        0 .. 5; pictures of at least 176 pixels a side have all 5, those of less than 11 none.
    """
    side, count = min(height, width), 0
    while count < SCALES and side >= _WINDOW:
        side, count = side // 2, count + 1
    return count


def ms_ssim(
    x: UInt8[np.ndarray, "B H W C"], y: UInt8[np.ndarray, "b h w c"], scales: int = SCALES
) -> Float64[np.ndarray, " B"]:
    """Give the multi-scale structural similarity of each pair (Wang, Simoncelli & Bovik 2003, eq. 7).

    MS-SSIM = SSIM_M^{w_M} prod_{j < M} cs_j^{w_j}, where scale j is j - 1 times halved (the mean of 2x2 pixels), each
    cs_j is the mean over the picture of (2 sigma_xy + C2) / (sigma_x^2 + sigma_y^2 + C2), and SSIM that of the product
    with (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1), by a Gaussian window of 11 pixels with sigma 1.5, where it lies
    wholly within the picture. Every channel counts by itself and the result is their mean; a negative cs counts as 0.

    Args:
        x: pictures, in 0 .. 255.
        y: as many of the same size.
        scales: M; of fewer than 5 the first weights are taken, and enlarged to the sum of all, which is 1.0001.

    Returns:
        One value a pair, 0 .. 1; 1 for identical pictures.

    Raises:
        MediaGeometryError: the shapes differ, or the pictures are too small for so many scales.
    """
    if x.shape != y.shape:
        raise MediaGeometryError(f"found shapes {x.shape} and {y.shape}, expected equal ones: compare like with like")
    fitting = scales_of(*x.shape[1:3])
    if not 1 <= scales <= fitting:
        raise MediaGeometryError(
            f"found pictures of {x.shape[2]}x{x.shape[1]} pixels and {scales} scales, of which they have {fitting}: "
            f"ask for 1 .. {fitting}"
            if fitting
            else f"found pictures of {x.shape[2]}x{x.shape[1]} pixels, expected at least {_WINDOW} a side: enlarge them"
        )
    weights = np.array(_WEIGHTS[:scales]) * (sum(_WEIGHTS) / sum(_WEIGHTS[:scales]))
    values: Float64[np.ndarray, " B"] = np.array([_pair(*pair, weights) for pair in zip(x, y, strict=True)])
    return values


def _pair(a: UInt8[np.ndarray, "H W C"], b: UInt8[np.ndarray, "H W C"], weights: NDArray[np.float64]) -> float:
    """Compare two pictures."""
    planes = np.stack([a, b]).transpose(0, 3, 1, 2).astype(np.float32)
    product = np.ones(planes.shape[1])
    for weight in weights[:-1]:
        product *= np.maximum(_similarity(planes)[1], 0.0) ** weight
        planes = _halved(planes)
    product *= np.maximum(_similarity(planes)[0], 0.0) ** weights[-1]
    return float(product.mean())


def _similarity(planes: Float32[np.ndarray, "2 C H W"]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the mean SSIM and the mean cs of each channel, `[C]`."""
    # Second moments around the middle of the range, where they lose the fewest digits against the squared means.
    x, y = centred = planes - np.float32(128.0)
    mean_x, mean_y = (_smooth(plane) for plane in centred)
    energy = _smooth(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    contrast = (2.0 * covariance + _C2) / (energy + _C2)
    mean_x, mean_y = mean_x + np.float32(128.0), mean_y + np.float32(128.0)
    luminance = (2.0 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    ssim = (luminance * contrast).mean(axis=(1, 2), dtype=np.float64)
    return ssim, contrast.mean(axis=(1, 2), dtype=np.float64)


def _smooth(planes: Float32[np.ndarray, "C H W"]) -> Float32[np.ndarray, "C h w"]:
    """Average within the Gaussian window, down and then across."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    for axis in (1, 2):
        length = planes.shape[axis] - _WINDOW + 1
        total = np.zeros_like(planes[_span(axis, 0, length)])
        for at, weight in enumerate(window / window.sum()):
            total += np.float32(weight) * planes[_span(axis, at, length)]
        planes = total
    return planes


def _span(axis: int, first: int, length: int) -> tuple[slice, ...]:
    """Index so many places along one axis."""
    return (slice(None),) * axis + (slice(first, first + length),)


def _halved(planes: Float32[np.ndarray, "2 C H W"]) -> Float32[np.ndarray, "2 C h w"]:
    """Average 2x2 pixels; an odd last row or column is left out."""
    count, channels, height, width = planes.shape
    whole = planes[..., : height // 2 * 2, : width // 2 * 2]
    return whole.reshape(count, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
