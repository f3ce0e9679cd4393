"""The sizes of a graph's tensors, where its model takes pictures of any size."""

import math
from typing import Any

import numpy as np

from artifact.codes import STEP_ROLES
from artifact.manifest import DiscreteLevel, ImageGeometry, Manifest, Tensor
from service.engine.batcher import Key
from service.engine.work import Arrays
from service.settings import Settings

_EXAMPLE_MULTIPLES = 8
"""The side of an example, in the smallest steps that a side can have."""

_LEAST_SLOTS = 2
"""One for urgent grids and one for the others."""


def example(manifest: Manifest, role: str, samples: int) -> Arrays:
    """Make a row of zeros for a graph, of a small picture where any size is taken; unknown axes have one element.

    Args:
        manifest: the model's.
        role: of the graph.
        samples: S, where the graph takes importance samples.

    Returns:
        Every input by name, `[1, ...]`.
    """
    sizes = {"B": 1, "S": samples}
    geometry = manifest.geometry
    if isinstance(geometry, ImageGeometry):
        side = min(_EXAMPLE_MULTIPLES, geometry.maximum // geometry.multiple_of) * geometry.multiple_of
        sizes = _of_both_scales(manifest, sizes | {"H": side, "W": side})
    return {
        tensor.name: np.zeros(
            [sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in tensor.shape], dtype=tensor.dtype
        )
        for tensor in manifest.graphs[role].inputs
    }


def row_values(manifest: Manifest, key: Key[Any]) -> int:
    """Count the values of the largest input or output that one row of a run has; what lies between is not seen.

    Args:
        manifest: the model's.
        key: of the run.

    Returns:
        Values of an input or an output, times the importance samples where the graph makes one for each.
    """
    return max(_values(tensor, sizes) for tensor, sizes in _sized(manifest, key))


def row_bytes(manifest: Manifest, key: Key[Any]) -> int:
    """Count the bytes of all inputs and outputs that one row of a run has."""
    return sum(_values(tensor, sizes) * np.dtype(tensor.dtype).itemsize for tensor, sizes in _sized(manifest, key))


def example_values(manifest: Manifest, role: str) -> int:
    """Count the values of the largest input or output of an example's row."""
    return row_values(manifest, Key.of(None, role, example(manifest, role, 1)))


def slots(manifest: Manifest, settings: Settings) -> int:
    """Give the batch size of a prior's steps: that of the settings, unless the grids are too large.

    Args:
        manifest: of a model with a learned prior.
        settings: how many are wanted, and how large a run may be.

    Returns:
        Grids, at least 2.
    """
    values = max(example_values(manifest, role) for role in STEP_ROLES)
    return max(_LEAST_SLOTS, min(settings.slots, settings.max_run_values // values))


def _sized(manifest: Manifest, key: Key[Any]) -> list[tuple[Tensor, dict[str, int]]]:
    """Give the inputs and outputs of a graph with the sizes of their symbolic axes."""
    graph = manifest.graphs[key.operation]
    shapes = {name: shape for name, shape, _ in key.signature}
    sizes: dict[str, int] = {}
    for tensor in graph.inputs:
        axes = zip(tensor.shape[1:], shapes[tensor.name], strict=True)
        sizes |= {axis: size for axis, size in axes if isinstance(axis, str)}
    sizes = _of_both_scales(manifest, sizes)
    return [(tensor, sizes) for tensor in (*graph.inputs, *graph.outputs)]


def _values(tensor: Tensor, sizes: dict[str, int]) -> int:
    """Count the values of one row, and of each importance sample that the graph makes such a tensor for."""
    samples = sizes.get("S", 1)
    axes = [axis for axis in tensor.shape[1:] if axis != "S"]
    return samples * math.prod(sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in axes)


def _of_both_scales(manifest: Manifest, sizes: dict[str, int]) -> dict[str, int]:
    """Complete the sides of a picture by those of its grid of codes, or the other way round."""
    level = manifest.latent[0]
    if not isinstance(level, DiscreteLevel):
        return sizes
    scale, sides = level.downsampling, (("h", "H"), ("w", "W"))
    grid = {small: sizes[large] // scale for small, large in sides if large in sizes}
    picture = {large: sizes[small] * scale for small, large in sides if small in sizes}
    return grid | picture | sizes
