"""How far sounds are from one another on the ear's scale of frequencies, at several resolutions in time."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from media.errors import MediaGeometryError

WINDOWS = ((0.008, 8), (0.016, 16), (0.032, 32), (0.064, 64), (0.128, 128))
"""Lengths in seconds, and how many bands each can tell apart."""
_HOPS = 4
_FLOOR = 1e-8
"""Power of a band below which it counts as silent: 80 dB under that of a full-scale sine."""


def mel_distance_db(
    x: Float32[np.ndarray, "B T"], y: Float32[np.ndarray, "b t"], sample_rate_hz: int
) -> Float64[np.ndarray, " B"]:
    """Give the multi-resolution log-mel distance of each pair.

    D_b = mean over windows r of the mean over times t and bands m of |L_r(x)[t, m] - L_r(y)[t, m]|, where
    L_r(x)[t, m] = 10 log10 max(sum_k w_r[m, k] |X_r[t, k]|^2, 1e-8). X_r is the short-time Fourier transform with a
    Hann window of 8, 16, 32, 64 or 128 ms, moved by a quarter of itself, centred from the first sample on with zeros
    around the sound, and scaled so that a full-scale sine has |X| = 1; w_r are 8, 16, 32, 64 or 128 triangles, even on
    the scale mel(f) = 2595 log10(1 + f / 700) from 0 to half the sample rate.

    Args:
        x: the sounds as they were, full scale is 1.
        y: as many of the same length, as they have become.
        sample_rate_hz: of both.

    Returns:
        One value a pair, in decibels; 0 for identical sounds.

    Raises:
        MediaGeometryError: the shapes differ.
    """
    if x.shape != y.shape:
        raise MediaGeometryError(f"found shapes {x.shape} and {y.shape}, expected equal ones: compare like with like")
    distances = np.zeros(len(x))
    for seconds, bands in WINDOWS:
        length = 2 * round(seconds * sample_rate_hz / 2)
        for row, pair in enumerate(zip(x, y, strict=True)):
            before, after = (log_mel_db(sound, sample_rate_hz, length, bands) for sound in pair)
            distances[row] += np.abs(before - after).mean() / len(WINDOWS)
    return distances


def log_mel_db(
    sound: Float32[np.ndarray, " T"], sample_rate_hz: int, length: int, bands: int
) -> Float64[np.ndarray, "t M"]:
    """Give the level of each band at each time; see `mel_distance_db`.

    Args:
        sound: full scale is 1.
        sample_rate_hz: of it.
        length: of the window in samples, even.
        bands: M.

    Returns:
        Decibels, -80 and above; frame t is centred at sample t * length / 4.
    """
    hop = max(1, length // _HOPS)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, length // 2), length)[::hop]
    window = np.hanning(length + 1)[:-1]
    spectrum = np.fft.rfft(frames * (2.0 * window / window.sum()), axis=1)
    power = np.square(np.abs(spectrum)) @ _triangles(sample_rate_hz, length, bands)
    return 10.0 * np.log10(np.maximum(power, _FLOOR))


@lru_cache(maxsize=32)
def _triangles(sample_rate_hz: int, length: int, bands: int) -> NDArray[np.float64]:
    """Give the weight of each frequency in each band, `[length / 2 + 1, M]`."""
    frequencies = np.arange(length // 2 + 1) * (sample_rate_hz / length)
    top = 2595.0 * np.log10(1.0 + 0.5 * sample_rate_hz / 700.0)
    corners = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    return np.stack([np.interp(frequencies, corners[m : m + 3], [0.0, 1.0, 0.0]) for m in range(bands)], axis=1)
