"""The sizes of a graph's tensors, where its model takes pictures of any size or sounds of any length."""

import math
from typing import Any

import numpy as np

from artifact.manifest import DiscreteLevel, Geometry, ImageGeometry, Manifest, Tensor
from artifact.sampling import all_steps, step_roles
from service.engine.batcher import Key
from service.engine.work import Arrays
from service.settings import Settings

_EXAMPLE_MULTIPLES = {"image": 8, "audio": 64}
"""The side of an example, in the smallest steps that a side can have."""

_AXES = (("h", "H"), ("w", "W"), ("t", "T"))
"""The symbols of the axes of a grid of codes, with those of what the codes are of."""

_LEAST_SLOTS = 2
"""One for urgent grids and one for the others."""


def example(manifest: Manifest, role: str, samples: int) -> Arrays:
    """Make a row of zeros for a graph, of a small input where any size is taken; unknown axes have one element.

    Args:
        manifest: the model's.
        role: of the graph.
        samples: S, where the graph takes importance samples.

    Returns:
        Every input by name, `[1, ...]`.
    """
    sizes = _of_all_scales(manifest, {"B": 1, "S": samples, **_example_sides(manifest.geometry)})
    sizes |= _step_sizes(manifest, role)
    return {
        tensor.name: np.zeros(
            [sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in tensor.shape], dtype=tensor.dtype
        )
        for tensor in manifest.graph(role).inputs
    }


def _example_sides(geometry: Geometry) -> dict[str, int]:
    """Give the sides of a small input."""
    multiples = min(_EXAMPLE_MULTIPLES[geometry.modality], geometry.maximum // geometry.multiple_of)
    side = max(1, multiples) * geometry.multiple_of
    return {"H": side, "W": side} if isinstance(geometry, ImageGeometry) else {"T": side}


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
    """Give the batch size of steps: that of the settings, unless the grids are too large.

    Args:
        manifest: of a model that has some.
        settings: how many are wanted, and how large a run may be.

    Returns:
        Grids, at least 2.
    """
    values = max(example_values(manifest, role) for role in all_steps(manifest))
    return max(_LEAST_SLOTS, min(settings.slots, settings.max_run_values // values))


def _sized(manifest: Manifest, key: Key[Any]) -> list[tuple[Tensor, dict[str, int]]]:
    """Give the inputs and outputs of a graph with the sizes of their symbolic axes."""
    graph = manifest.graph(key.operation)
    shapes = {name: shape for name, shape, _ in key.signature}
    sizes: dict[str, int] = {}
    for tensor in graph.inputs:
        axes = zip(tensor.shape[1:], shapes[tensor.name], strict=True)
        sizes |= {axis: size for axis, size in axes if isinstance(axis, str)}
    sizes = _of_all_scales(manifest, sizes)
    return [(tensor, sizes) for tensor in (*graph.inputs, *graph.outputs)]


def _values(tensor: Tensor, sizes: dict[str, int]) -> int:
    """Count the values of one row, and of each importance sample that the graph makes such a tensor for."""
    samples = sizes.get("S", 1)
    axes = [axis for axis in tensor.shape[1:] if axis != "S"]
    return samples * math.prod(sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in axes)


def _of_all_scales(manifest: Manifest, sizes: dict[str, int]) -> dict[str, int]:
    """Complete the sides of an input by those of its grids of codes, or the other way round.

    A grid's axis is `h`, `w` or `t` at the finest level, and at level l also that with `_l` behind it.
    """
    scales = [level.downsampling for level in manifest.latent if isinstance(level, DiscreteLevel)]
    if not scales:
        return sizes
    for small, large in _AXES:
        steps = {small: min(scales)} | {f"{small}_{index}": scale for index, scale in enumerate(scales)}
        side = sizes.get(large) or next((sizes[axis] * scale for axis, scale in steps.items() if axis in sizes), None)
        if side is not None:
            sizes = {large: side} | {axis: side // scale for axis, scale in steps.items()} | sizes
    return sizes


def _step_sizes(manifest: Manifest, role: str) -> dict[str, int]:
    """Give the sides of the grid that a step graph draws; nothing for another graph."""
    links = manifest.prior.links if manifest.prior is not None else ()
    grids = [link.grid for index, link in enumerate(links) if role in step_roles(link, index)]
    return dict(zip("hw", grids[0], strict=False)) if grids else {}
