"""Small inputs of fixed content for any graph: a picture of blocks, drawn codes and numbers, states of zeros."""

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from artifact.codes import Signature
from artifact.manifest import Tensor
from artifact.noise import GOLDEN_STREAM, standard_normal, uniform

_AXES = {"B": 1, "S": 3, "h": 4, "w": 6}
"""Sizes of the symbolic axes; H and W are so many times h and w as the model has pixels for a code."""
_BLOCK = 4


def example_inputs(graph: Signature, multiple_of: int, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Make one row of every input of a graph: a function of the arguments and nothing else.

    Args:
        graph: its signature.
        multiple_of: pixels of an image of any size for one place of its grid.
        seed: another one gives other inputs.

    Returns:
        The inputs by name, within their declared range.
    """
    sizes = _AXES | {axis.upper(): _AXES[axis] * multiple_of for axis in ("h", "w")}
    return {
        tensor.name: _values(tensor, [axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape], seed, i)
        for i, tensor in enumerate(graph.inputs)
    }


def _values(tensor: Tensor, shape: list[int], seed: int, index: int) -> NDArray[np.generic]:
    """Fill a tensor with what its type and its name stand for."""
    if tensor.name.startswith("state_"):
        return np.zeros(shape, dtype=tensor.dtype)
    if tensor.dtype == "uint8":
        return _picture(shape, tensor.values, seed, index)
    if tensor.dtype.startswith("int"):
        first, last = int(tensor.minimum or 0), int(tensor.maximum or 0)
        return (first + _uniform(shape, seed, index) * (last - first + 1)).astype(tensor.dtype)
    return standard_normal(seed, index, tuple(shape), stream=GOLDEN_STREAM).astype(tensor.dtype)


def _picture(shape: list[int], values: tuple[int, ...] | None, seed: int, index: int) -> UInt8[np.ndarray, "B H W C"]:
    """Lay grain over blocks of colour; of few allowed values take the nearest ones."""
    height, width = shape[1:3]
    fine = _uniform(shape, seed, index)
    blocks = fine[:, ::_BLOCK, ::_BLOCK].repeat(_BLOCK, axis=1).repeat(_BLOCK, axis=2)[:, :height, :width]
    picture = (255.0 * (0.8 * blocks + 0.2 * fine)).round()
    if values is not None:
        picture = np.asarray(values)[np.abs(picture[..., None] - np.asarray(values)).argmin(-1)]
    return picture.astype(np.uint8)


def _uniform(shape: list[int], seed: int, index: int) -> NDArray[np.float64]:
    """Draw numbers in [0, 1)."""
    return uniform(seed, index, int(np.prod(shape)), stream=GOLDEN_STREAM).reshape(shape)
