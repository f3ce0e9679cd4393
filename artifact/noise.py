"""The noise convention: what is random in an answer is a function of (seed, item index, stream) and nothing else.

Philox4x64-10 (Salmon et al. 2011) under the key `seed` counts through a 256-bit counter whose highest word is
the item's index and whose third word is the stream. Only NumPy's raw 64-bit output is used, which its
compatibility policy fixes, and the transform to normals is this module's own. So an item's noise does
not depend on its neighbours, the batch size or NumPy's version, and any range of its samples can be drawn alone.
"""

import secrets

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

POSTERIOR_STREAM = 0
"""Noise of z given x: importance samples of a bound."""
PRIOR_STREAM = 1
"""Noise of z: samples from the prior."""
CODES_STREAM = 2
"""Noise of the codes of a prior's first link: a uniform number for each place of the grid, in the order of drawing."""
GOLDEN_STREAM = 3
"""Inputs of the golden outputs; the index is that of the input."""
SOUND_STREAM = 4
"""Noise of a sound that a decoder draws sample by sample: a uniform number for each sample."""

_LATER_CODES_STREAM = 256

MAX_SEED = 2**63 - 1

_WORDS_PER_BLOCK = 4
_TO_UNIT = 2.0**-53


def codes_stream(link: int) -> int:
    """Give the stream of the codes of a prior's link: `CODES_STREAM` of the first, 256 + i of link i after it."""
    return _LATER_CODES_STREAM + link if link else CODES_STREAM


def draw_seed() -> int:
    """Draw a seed for a request that brought none: 53 bits, so that every JSON reader keeps it exactly."""
    return secrets.randbits(53)


def standard_normal(
    seed: int,
    index: int,
    shape: tuple[int, ...],
    *,
    stream: int,
    first_sample: int = 0,
) -> Float32[np.ndarray, " S *shape"]:
    """Draw samples `first_sample .. first_sample + shape[0] - 1` of one item.

    Box & Muller (1958): z = sqrt(-2 ln u1) (cos 2 pi u2, sin 2 pi u2) in float64, rounded to float32. Every sample
    starts at a counter of its own, so any range of samples equals the same rows of a longer draw.

    Args:
        seed: 0 .. 2^63 - 1.
        index: the item's number, 0 .. 2^63 - 1; row i of a request has index first_index + i.
        shape: S samples, then the shape of one.
        stream: which use of noise this is; streams of one item are independent.
        first_sample: the number of the first sample wanted.

    Returns:
        Standard normal values of the given shape.

    Raises:
        ValueError: seed, index or first_sample is out of range.
    """
    _check(seed=seed, index=index, first_sample=first_sample)
    samples, size = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    blocks = -(-size // _WORDS_PER_BLOCK)
    words = _words(seed, index, stream, first_sample * blocks, samples * blocks)
    normals = _box_muller(words).reshape(samples, blocks * _WORDS_PER_BLOCK)
    return normals[:, :size].reshape(shape)


def _check(**numbers: int) -> None:
    """Refuse what does not fit into a signed 64-bit number."""
    for name, value in numbers.items():
        if not 0 <= value <= MAX_SEED:
            raise ValueError(f"{name} is {value}, expected 0 .. 2^63 - 1")


def _words(seed: int, index: int, stream: int, first_block: int, blocks: int) -> NDArray[np.uint64]:
    """Give the raw words of an item's stream."""
    counter = np.array([first_block, 0, stream, index], dtype=np.uint64)
    words: NDArray[np.uint64] = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter).random_raw(
        blocks * _WORDS_PER_BLOCK
    )
    return words


def uniform(seed: int, index: int, count: int, *, stream: int) -> Float64[np.ndarray, " count"]:
    """Draw the first numbers of one item's stream, uniform in [0, 1): the upper 53 bits of each word.

    Args:
        seed: 0 .. 2^63 - 1.
        index: the item's number, 0 .. 2^63 - 1.
        count: how many; a longer draw begins with the same numbers.
        stream: which use of noise this is.

    Returns:
        The numbers.

    Raises:
        ValueError: seed or index is out of range.
    """
    _check(seed=seed, index=index)
    words = _words(seed, index, stream, 0, -(-count // _WORDS_PER_BLOCK))
    return (words[:count] >> np.uint64(11)) * _TO_UNIT


def batch_uniform(
    seed: int, first_index: int, batch: int, count: int, *, stream: int
) -> Float64[np.ndarray, "B count"]:
    """Stack `uniform` of items `first_index .. first_index + batch - 1`."""
    return np.stack([uniform(seed, first_index + row, count, stream=stream) for row in range(batch)])


def _box_muller(words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Turn pairs of raw words into pairs of normals; u1 lies in (0, 1], so that its logarithm is finite."""
    bits = words >> np.uint64(11)
    radius = np.sqrt(-2.0 * np.log((bits[0::2] + np.uint64(1)) * _TO_UNIT))
    angle = bits[1::2] * (2.0 * np.pi * _TO_UNIT)
    normals = np.empty(words.shape, dtype=np.float32)
    normals[0::2] = radius * np.cos(angle)
    normals[1::2] = radius * np.sin(angle)
    return normals


def batch_normal(
    seed: int, first_index: int, batch: int, shape: tuple[int, ...], *, stream: int, first_sample: int = 0
) -> Float32[np.ndarray, " B S *shape"]:
    """Stack `standard_normal` of items `first_index .. first_index + batch - 1`, each of the given shape."""
    noise = np.empty((batch, *shape), dtype=np.float32)
    for row in range(batch):
        noise[row] = standard_normal(seed, first_index + row, shape, stream=stream, first_sample=first_sample)
    return noise
