"""Small inputs of fixed content for any graph: a picture of blocks, a sound, drawn codes, memories of zeros."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from artifact.codes import Signature
from artifact.manifest import Tensor
from artifact.noise import GOLDEN_STREAM, standard_normal, uniform

_PLACES = {"h": 4, "w": 6, "t": 24}
"""Places of a grid of codes, of the coarsest level where there are several."""
_SAMPLES = 3
_BLOCK = 4
_TONES = (0.013, 0.057, 0.171)
"""Of a sound, in cycles a sample."""
_MEMORIES = ("state_", "cache_")


def example_inputs(
    graph: Signature, multiple_of: int, seed: int = 0, downsamplings: Sequence[int] = ()
) -> dict[str, NDArray[np.generic]]:
    """Make one row of every input of a graph: a function of the arguments and nothing else.

    Args:
        graph: its signature.
        multiple_of: pixels or samples of an input of any size for one place of its coarsest grid.
        seed: another one gives other inputs.
        downsamplings: pixels or samples for a place of each level's grid, top first; empty for one level, of
            `multiple_of`.

    Returns:
        The inputs by name, within their declared range.
    """
    sizes = {"B": 1, "S": _SAMPLES}
    scales = tuple(downsamplings) or (multiple_of,)
    for axis, places in _PLACES.items():
        side = places * multiple_of
        sizes |= {axis.upper(): side, axis: side // min(scales)}
        sizes |= {f"{axis}_{level}": side // scale for level, scale in enumerate(scales)}
    return {
        tensor.name: _values(tensor, [axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape], seed, i)
        for i, tensor in enumerate(graph.inputs)
    }


def _values(tensor: Tensor, shape: list[int], seed: int, index: int) -> NDArray[np.generic]:
    """Fill a tensor with what its type and its name stand for."""
    if tensor.name.startswith(_MEMORIES):
        return np.zeros(shape, dtype=tensor.dtype)
    if tensor.dtype == "uint8":
        return _picture(shape, tensor.values, seed, index)
    if tensor.dtype.startswith("int"):
        first, last = int(tensor.minimum or 0), int(tensor.maximum or 0)
        return (first + _uniform(shape, seed, index) * (last - first + 1)).astype(tensor.dtype)
    if tensor.name == "x":
        return _sound(shape, seed, index)
    values = standard_normal(seed, index, tuple(shape), stream=GOLDEN_STREAM).astype(tensor.dtype)
    # Reflected, not clipped: at the least value itself, such as a temperature of 0, much of a graph would not show.
    return values if tensor.minimum is None else tensor.minimum + np.abs(values - tensor.minimum)


def _picture(shape: list[int], values: tuple[int, ...] | None, seed: int, index: int) -> UInt8[np.ndarray, "B H W C"]:
    """Lay grain over blocks of colour; of few allowed values take the nearest ones."""
    height, width = shape[1:3]
    fine = _uniform(shape, seed, index)
    blocks = fine[:, ::_BLOCK, ::_BLOCK].repeat(_BLOCK, axis=1).repeat(_BLOCK, axis=2)[:, :height, :width]
    picture = (255.0 * (0.8 * blocks + 0.2 * fine)).round()
    if values is not None:
        picture = np.asarray(values)[np.abs(picture[..., None] - np.asarray(values)).argmin(-1)]
    return picture.astype(np.uint8)


def _sound(shape: list[int], seed: int, index: int) -> Float32[np.ndarray, "B T"]:
    """Lay grain over a few tones, in [-1, 1], each value that of a 16-bit integer."""
    loudness = _uniform([len(_TONES)], seed, index)
    cycles = np.outer(_TONES, np.arange(shape[-1]))
    tones = loudness @ np.sin(2.0 * np.pi * cycles) / len(_TONES)
    sound = 0.8 * tones + 0.2 * (2.0 * _uniform(shape, seed, index) - 1.0)
    return ((sound * 32767.0).round() / 32768.0).astype(np.float32)


def _uniform(shape: list[int], seed: int, index: int) -> NDArray[np.float64]:
    """Draw numbers in [0, 1)."""
    return uniform(seed, index, int(np.prod(shape)), stream=GOLDEN_STREAM).reshape(shape)
