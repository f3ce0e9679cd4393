"""The logarithmic scale of ITU-T G.711 as a formula: 256 classes of the 16-bit values of a sound."""

from functools import cache

import numpy as np
from jaxtyping import Float32, Int32

_FULL_SCALE = 32768
_MU = 255


def classes(sound: Float32[np.ndarray, "*batch T"]) -> Int32[np.ndarray, "*batch T"]:
    """Give the class of every sample: round((f(x) + 1) 255 / 2), f(x) = sign(x) ln(1 + 255 |x|) / ln 256.

    Args:
        sound: in [-1, 1]; what is no 16-bit value counts as the nearest one.

    Returns:
        0 .. 255.
    """
    levels = np.clip(np.round(np.float64(sound) * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    x = levels / _FULL_SCALE
    bent = np.sign(x) * np.log1p(_MU * np.abs(x)) / np.log1p(_MU)
    return np.round((bent + 1.0) / 2.0 * _MU).astype(np.int32)


def expanded(found: Int32[np.ndarray, "*batch T"]) -> Float32[np.ndarray, "*batch T"]:
    """Give the middle of the 16-bit values of each class.

    Args:
        found: classes, 0 .. 255.

    Returns:
        Amplitudes, in [-1, 1].
    """
    return _middles()[found]


@cache
def _middles() -> Float32[np.ndarray, "256"]:
    levels = np.arange(-_FULL_SCALE, _FULL_SCALE)
    found = classes((levels / _FULL_SCALE).astype(np.float32))
    sums, counts = np.bincount(found, levels), np.bincount(found)
    return (sums / counts / _FULL_SCALE).astype(np.float32)
