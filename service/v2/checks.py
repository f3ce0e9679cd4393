"""Whether a graph may be run on inputs: sizes, numbers of elements, and what the elements may be."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.manifest import DiscreteLevel, ImageGeometry, Tensor
from service.bodies import takes
from service.discrete import check_codes
from service.engine.batcher import Key
from service.engine.sizes import row_values
from service.errors import ParameterError, TooLargeError
from service.limits import check_pixels, check_rows
from service.operations import find_other
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
    for tensor in target.graph.inputs:
        if _is_grid(target, tensor):
            check_codes(settings, target.model, inputs[tensor.name])
        else:
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
    """Refuse pictures that the model does not take, or that are too large."""
    manifest, level = target.model.manifest, target.model.manifest.latent[0]
    geometry = manifest.geometry
    if not isinstance(geometry, ImageGeometry):
        return
    height, width = sizes.get("H", geometry.height), sizes.get("W", geometry.width)
    if height is None or width is None:
        return
    if not takes(geometry, height, width):
        raise ParameterError(
            f"pictures are {height} x {width}, {target.name} takes sides that are multiples of {geometry.multiple_of} "
            f"up to {geometry.maximum}; pad or crop them"
        )
    check_pixels(settings, height, width, total=sizes["B"] * height * width)
    if isinstance(level, DiscreteLevel) and "H" in sizes and "h" in sizes:
        grid = height // level.downsampling, width // level.downsampling
        if (sizes["h"], sizes["w"]) != grid:
            raise ParameterError(
                f"codes are {sizes['h']} x {sizes['w']} a picture, pictures of {height} x {width} have {list(grid)}"
            )


def _is_grid(target: Target, tensor: Tensor) -> bool:
    """Tell whole grids of codes."""
    return target.model.code_level is not None and tensor.unit == "code" and len(tensor.shape) == 3


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
