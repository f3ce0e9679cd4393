"""What a graph is before it is written, and the tensors that all models share."""

from collections.abc import Iterable
from dataclasses import dataclass

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
        downsampling: how many times longer the axes H and W are than h and w.
        precision: of the networks in it; None for the full one.
    """

    role: str
    module: nn.Module
    inputs: tuple[schema.Tensor, ...]
    outputs: tuple[schema.Tensor, ...]
    downsampling: int = 1
    precision: schema.Precision | None = None

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


def image(model: LatentVariableModel, geometry: schema.ImageGeometry) -> schema.Tensor:
    """Declare the images that a model takes."""
    shape = ("B", geometry.height or "H", geometry.width or "W", geometry.channels)
    values = model.likelihood.values
    return schema.Tensor(name="x", dtype="uint8", shape=shape, minimum=0, maximum=255, values=values, unit="intensity")


def decoded(x: schema.Tensor, params: Params) -> tuple[schema.Tensor, ...]:
    """Declare what `decode` gives for images like x: the mean, and the likelihood's parameters."""
    mean = schema.Tensor(name="mean", dtype="float32", shape=x.shape, minimum=0, maximum=255, unit="intensity")
    units = ((name, _PARAMETER_UNITS[name]) for name in params)
    return mean, *(schema.Tensor(name=name, dtype="float32", shape=x.shape, unit=unit) for name, unit in units)


def axes(downsampling: int) -> dict[str, torch.export.Dim]:
    """Give the symbolic axes of the exporter."""
    plain = {name: torch.export.Dim(name, min=1, max=2**20) for name in ("B", "S")}
    grid = {name: torch.export.Dim(name, min=1, max=2**14) for name in ("h", "w")}
    return plain | grid | {name.upper(): downsampling * axis for name, axis in grid.items()}


def example(tensor: schema.Tensor, downsampling: int) -> Tensor:
    """Make an input of a tensor's declared type and shape for the exporter to trace with."""
    # Neither 0 nor 1, which the exporter would take for constants, and all different.
    sizes = {"B": 3, "S": 5, "h": 4, "w": 6, "H": 4 * downsampling, "W": 6 * downsampling}
    shape = [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))
