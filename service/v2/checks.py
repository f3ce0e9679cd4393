"""Whether a graph may be run on inputs: sizes, numbers of elements, and what the elements may be."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.code_prior import is_of_prior
from artifact.manifest import AudioGeometry, DiscreteLevel, ImageGeometry, Tensor
from service.engine.batcher import Key
from service.engine.sizes import row_values
from service.errors import ParameterError, TooLargeError
from service.levels import (
    CODES,
    axis_names,
    check_codes,
    check_run,
    check_size,
    grid_shapes,
    input_sides,
    levels_of,
    names_of,
)
from service.limits import check_rows, longest_run
from service.operations import find_other
from service.pictures import takes
from service.settings import Settings
from service.v2.names import Target

Arrays = dict[str, NDArray[Any]]


def check(settings: Settings, target: Target, inputs: Arrays) -> None:
    """Refuse inputs that the graph is not made for, or that are too large.

    Args:
        settings: the limits.
        target: the graph.
        inputs: by name, of the declared element types and numbers of axes.

    Raises:
        ParameterError: axes do not agree, or an element is not one that may be.
        TooLargeError: there are too many rows, samples or pixels.
    """
    sizes = _sizes(target, inputs)
    check_rows(settings, sizes["B"])
    _check_samples(settings, target, inputs, sizes)
    _check_sides(settings, target, sizes)
    grids = _code_names(target)
    if grids:
        check_codes(settings, target.model, {name: inputs[name] for name in grids})
        places = inputs[grids[0]].shape[-len(input_sides(target.model)) :]
        _check_whole(target, tuple(side * levels_of(target.model)[grids[0]].downsampling for side in places))
        _check_match(target, inputs)
    for tensor in target.graph.inputs:
        if tensor.name not in grids:
            _check_elements(tensor, inputs[tensor.name])


def _sizes(target: Target, inputs: Arrays) -> dict[str, int]:
    """Give the sizes of the axes of any size, which inputs share."""
    sizes: dict[str, int] = {}
    for tensor in target.graph.inputs:
        for axis, size in zip(tensor.shape, inputs[tensor.name].shape, strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, size) != size:
                raise ParameterError(
                    f"axis {axis} is {sizes[axis]} and, in {tensor.name}, {size}; inputs agree in axes that they share"
                )
    return sizes


def _check_samples(settings: Settings, target: Target, inputs: Arrays, sizes: dict[str, int]) -> None:
    """Refuse more importance samples of a row than are taken, or than one run can hold."""
    if "S" not in sizes:
        return
    values = row_values(target.model.manifest, Key.of(None, target.role, inputs))
    most = min(settings.max_importance_samples, settings.max_run_values * sizes["S"] // values)
    if sizes["S"] > most:
        raise TooLargeError(f"a row has {sizes['S']} samples, at most {most} are taken; send them in several requests")


def _check_sides(settings: Settings, target: Target, sizes: dict[str, int]) -> None:
    """Refuse inputs of a size that the model does not take, or that are too large."""
    manifest = target.model.manifest
    geometry = manifest.geometry
    scales = [level.downsampling for level in manifest.latent if isinstance(level, DiscreteLevel)]
    if isinstance(geometry, AudioGeometry):
        sides: tuple[int | None, ...] = (sizes.get("T", geometry.length),)
    else:
        sides = (sizes.get("H", geometry.height), sizes.get("W", geometry.width))
    extent = tuple(side for side in sides if side is not None)
    if len(extent) == len(sides):
        _check_input(settings, target, extent, sizes["B"])
    elif is_of_prior(target.role) and scales:
        # Of grids alone the largest counts, as one of the finest level.
        axes = axis_names(len(sides))
        largest = [max((sizes[name] for name in _names(axis, scales) if name in sizes), default=1) for axis in axes]
        extent = tuple(places * min(scales) for places in largest)
        _check_whole(target, extent)
        check_size(settings, target.model, extent, total=sizes["B"] * math.prod(extent))


def _check_input(settings: Settings, target: Target, extent: tuple[int, ...], rows: int) -> None:
    """Refuse pictures or sounds of a size that the model does not take, or that are too large."""
    manifest = target.model.manifest
    geometry = manifest.geometry
    maximum = longest_run(manifest)
    if isinstance(geometry, ImageGeometry) and not takes(geometry, maximum, *extent):
        raise ParameterError(
            f"pictures are {extent[0]} x {extent[1]}, {target.name} takes sides that are multiples of "
            f"{geometry.multiple_of} up to {maximum}; pad or crop them"
        )
    if isinstance(geometry, AudioGeometry) and (extent[0] % geometry.multiple_of or extent[0] > maximum):
        raise ParameterError(
            f"sounds are of {extent[0]} samples, {target.name} takes multiples of {geometry.multiple_of} up to "
            f"{maximum}; pad or crop them"
        )
    check_size(settings, target.model, extent, total=rows * math.prod(extent))


def _check_whole(target: Target, sides: tuple[int, ...]) -> None:
    """Refuse what other endpoints run in pieces: a graph that is asked for by itself is run whole."""
    cure = "send it in pieces, or to an endpoint outside of /v2, which cuts it"
    check_run(target.model, sides, f"a run of {target.name}", cure)


def _check_match(target: Target, inputs: Arrays) -> None:
    """Refuse codes that are not those of the pictures or sounds beside them."""
    if "x" not in inputs:
        return
    sides = inputs["x"].shape[1 : 1 + len(input_sides(target.model))]
    for name, shape in grid_shapes(target.model, sides).items():
        if inputs[name].shape[1:] != shape:
            raise ParameterError(
                f"{name} are {list(inputs[name].shape[1:])} an item, items of {' x '.join(map(str, sides))} have "
                f"{list(shape)}"
            )


def _names(axis: str, scales: list[int]) -> list[str]:
    """Name an axis of the grids of all levels."""
    return [axis, *(f"{axis}_{level}" for level in range(len(scales)))]


def _code_names(target: Target) -> tuple[str, ...]:
    """Name the inputs that are all codes of an item together; none of a graph that takes no or other codes."""
    if target.model.code_level is None or is_of_prior(target.role):
        return ()
    names = names_of(target.model, CODES)
    return names if all(name in {tensor.name for tensor in target.graph.inputs} for name in names) else ()


def _check_elements(tensor: Tensor, array: NDArray[Any]) -> None:
    """Refuse elements that the graph is not meant for."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ParameterError(
                f"{tensor.name} holds values that are not finite {array.dtype} numbers; send finite ones"
            )
        return
    if tensor.values is not None and (other := find_other(array, tensor.values)) is not None:
        allowed = " or ".join(map(str, tensor.values))
        raise ParameterError(f"{tensor.name} takes {allowed} alone, one element is {other}")
    limits = np.iinfo(array.dtype)
    low = limits.min if tensor.minimum is None else tensor.minimum
    high = limits.max if tensor.maximum is None else tensor.maximum
    if (low > limits.min and array.min() < low) or (high < limits.max and array.max() > high):
        raise ParameterError(f"{tensor.name} has elements {array.min()} .. {array.max()}, expected {low:g} .. {high:g}")
