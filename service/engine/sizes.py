"""The sizes of a graph's tensors, where its model takes pictures of any size."""

import math

import numpy as np

from artifact.manifest import DiscreteLevel, ImageGeometry, Manifest
from service.engine.batcher import Arrays, Key

_EXAMPLE_MULTIPLES = 8
"""The side of an example, in the smallest steps that a side can have."""


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


def row_values(manifest: Manifest, key: Key) -> int:
    """Count the values of the largest input or output that one row of a run has; what lies between is not seen.

    Args:
        manifest: the model's.
        key: of the run.

    Returns:
        Values of an input or an output, times the importance samples where the graph makes one for each.
    """
    graph = manifest.graphs[key.operation]
    shapes = {name: shape for name, shape, _ in key.signature}
    sizes: dict[str, int] = {}
    for tensor in graph.inputs:
        axes = zip(tensor.shape[1:], shapes[tensor.name], strict=True)
        sizes |= {axis: size for axis, size in axes if isinstance(axis, str)}
    samples = sizes.pop("S", 1)
    sizes = _of_both_scales(manifest, sizes)
    shapes_of_one = [tensor.shape[1:] for tensor in (*graph.inputs, *graph.outputs)]
    return samples * max(
        math.prod(sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in shape) for shape in shapes_of_one
    )


def _of_both_scales(manifest: Manifest, sizes: dict[str, int]) -> dict[str, int]:
    """Complete the sides of a picture by those of its grid of codes, or the other way round."""
    level = manifest.latent[0]
    if not isinstance(level, DiscreteLevel):
        return sizes
    scale, sides = level.downsampling, (("h", "H"), ("w", "W"))
    grid = {small: sizes[large] // scale for small, large in sides if large in sizes}
    picture = {large: sizes[small] * scale for small, large in sides if small in sizes}
    return grid | picture | sizes
