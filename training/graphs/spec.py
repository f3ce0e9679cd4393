"""What a graph is before it is written, and the tensors that all models share."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from artifact import manifest as schema
from artifact.codes import Arrays
from artifact.golden import Run
from models.likelihoods import Params
from models.model import LatentVariableModel


@dataclass(frozen=True)
class GraphSpec:
    """A graph to be written.

    Attributes:
        role: its name in the manifest.
        module: what it computes.
        inputs: the signature.
        outputs: likewise.
        downsampling: how many times longer the axes H, W and T are than those of the coarsest grid.
        precision: of the networks in it; None for the full one.
        strides: how many times more places a side the finest grid has than that of each level, top first.
    """

    role: str
    module: nn.Module
    inputs: tuple[schema.Tensor, ...]
    outputs: tuple[schema.Tensor, ...]
    downsampling: int = 1
    precision: schema.Precision | None = None
    strides: tuple[int, ...] = (1,)

    @property
    def file(self) -> str:
        """The name of the file that it is written to."""
        return f"{self.role}.{self.precision}.onnx" if self.precision else f"{self.role}.onnx"

    @torch.inference_mode()
    def run(self, feeds: Arrays) -> Arrays:
        """Run the module as the graph would be: inputs and outputs by name."""
        outputs = self.module(*(torch.from_numpy(np.asarray(feeds[tensor.name])) for tensor in self.inputs))
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        return {tensor.name: value.numpy() for tensor, value in zip(self.outputs, outputs, strict=True)}


def run_modules(specs: Iterable[GraphSpec]) -> Run:
    """Give a function that runs the modules of graphs by role; of two of one role the later."""
    roles = {spec.role: spec for spec in specs}
    return lambda role, feeds: roles[role].run(feeds)


_PARAMETER_UNITS = {"logits": "logit", "location": "network", "log_scale": "log_network"}


def data(model: LatentVariableModel, geometry: schema.Geometry) -> schema.Tensor:
    """Declare the images or sounds that a model takes."""
    if isinstance(geometry, schema.AudioGeometry):
        length = geometry.length or "T"
        return schema.Tensor(name="x", dtype="float32", shape=("B", length), minimum=-1, maximum=1, unit="amplitude")
    shape = ("B", geometry.height or "H", geometry.width or "W", geometry.channels)
    values = model.likelihood.values
    return schema.Tensor(name="x", dtype="uint8", shape=shape, minimum=0, maximum=255, values=values, unit="intensity")


def decoded(x: schema.Tensor, params: Params) -> tuple[schema.Tensor, ...]:
    """Declare what `decode` gives for data like x: the mean, and the likelihood's parameters."""
    mean = x.model_copy(update={"name": "mean", "dtype": "float32", "values": None})
    return mean, *(
        # What is of one value among several, or of one component of a mixture, has a last axis of its own.
        schema.Tensor(
            name=name, dtype="float32", shape=(*x.shape, *value.shape[len(x.shape) :]), unit=_PARAMETER_UNITS[name]
        )
        for name, value in params.items()
    )


_PLACES = {"h": 4, "w": 6, "t": 7}
"""Places of the coarsest grid to trace with: not 0 or 1, which the exporter takes for constants, and all different."""


def axes(spec: GraphSpec) -> dict[str, torch.export.Dim]:
    """Give the symbolic axes of the exporter: all sides are multiples of those of the coarsest grid."""
    found = {name: torch.export.Dim(name, min=1, max=2**20) for name in ("B", "S")}
    for axis in _PLACES:
        coarsest = torch.export.Dim(_grid_axis(axis, 0, spec), min=1, max=2**14)
        for level, stride in enumerate(spec.strides):
            factor = spec.strides[0] // stride
            found[_grid_axis(axis, level, spec)] = factor * coarsest if factor > 1 else coarsest
        found[axis.upper()] = spec.downsampling * coarsest
    return found


def example(tensor: schema.Tensor, spec: GraphSpec) -> Tensor:
    """Make an input of a tensor's declared type and shape for the exporter to trace with."""
    sizes = {"B": 3, "S": 5}
    for axis, places in _PLACES.items():
        sizes |= {
            _grid_axis(axis, i, spec): places * spec.strides[0] // stride for i, stride in enumerate(spec.strides)
        }
        sizes[axis.upper()] = places * spec.downsampling
    shape = [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def _grid_axis(axis: str, level: int, spec: GraphSpec) -> str:
    """Name an axis of the grid of a level."""
    return f"{axis}_{level}" if len(spec.strides) > 1 else axis


def by_parameter(module: nn.Module, values: Sequence[Any]) -> tuple[Any, ...]:
    """Group one value an input as the exporter wants them: those of a parameter `*name` are one tuple.

    Args:
        module: of a graph.
        values: one for each of its inputs.

    Returns:
        One for each parameter of its `forward`.
    """
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(values)
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    # The exporter knows of a parameter that takes nothing only where something is given to it.
    return (*values[:first], tuple(values[first:])) if values[first:] else tuple(values)
