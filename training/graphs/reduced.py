"""Graphs in reduced precision: networks compute in a smaller type, all that is a distance or a probability does not."""

from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from artifact import manifest as schema
from models.chain import Chain
from models.model import LatentVariableModel
from training.errors import ExportError
from training.graphs import graphs
from training.graphs import prior as prior_graphs
from training.graphs.spec import GraphSpec

_DTYPES: dict[schema.Precision, torch.dtype] = {"fp16": torch.float16}
_Network = TypeVar("_Network", bound=nn.Module)


class Reduced(nn.Module):
    """A chain of layers in a smaller type, between float32 on either side.

    Its first layer stays in float32: all later ones inherit what is rounded there, and it has few channels.

    Args:
        network: in float32.
        dtype: the smaller type.
        emulated: see `reduced_graphs`.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, emulated: bool) -> None:
        super().__init__()
        if not isinstance(network, nn.Sequential):
            raise ExportError(f"a {type(network).__name__} has no first layer; only chains of layers can be reduced")
        self.first, self.rest, self.dtype = network[0], _reduce(network[1:], dtype, emulated), dtype

    def forward(self, x: Tensor) -> Tensor:
        """Run the first layer, round, run the others, and widen the output."""
        compute = next(self.rest.parameters()).dtype
        output: Tensor = self.rest(self.first(x).to(self.dtype).to(compute))
        return output.float()


def reduced_graphs(
    model: LatentVariableModel, geometry: schema.Geometry, precision: schema.Precision, *, emulated: bool = False
) -> tuple[GraphSpec, ...]:
    """List the graphs of a model that have a network in them, with that network in a smaller type.

    Args:
        model: in evaluation mode.
        geometry: of an image.
        precision: of the networks.
        emulated: whether they compute in float32 and round to the smaller type after every layer, as a GPU does, which
            adds up in float32; such graphs are to be measured, not to be written.

    Returns:
        The graphs.

    Raises:
        ExportError: its networks are no chains of layers.
    """
    dtype = _DTYPES[precision]
    encoder, decoder = (Reduced(part, dtype, emulated) for part in (model.encoder, model.decoder))
    smaller = LatentVariableModel(encoder, model.bottleneck, decoder, model.likelihood).eval()
    return tuple(
        replace(spec, precision=precision)
        for spec in graphs(smaller, geometry)
        if any(isinstance(part, Reduced) for part in spec.module.modules())
    )


def reduced_prior_graphs(
    prior: Chain, strides: tuple[int, ...], precision: schema.Precision, *, any_size: bool, emulated: bool = False
) -> tuple[GraphSpec, ...]:
    """List the graphs of a prior that computes in a smaller type.

    Args:
        prior: in evaluation mode.
        strides: see `training.graphs.prior.graphs`.
        precision: of the prior.
        any_size: as for `strides`.
        emulated: see `reduced_graphs`.

    Returns:
        The graphs.
    """
    smaller = _reduce(prior, _DTYPES[precision], emulated)
    specs = prior_graphs.graphs(smaller, strides, any_size=any_size)
    return tuple(replace(spec, precision=precision) for spec in specs)


def _reduce(network: _Network, dtype: torch.dtype, emulated: bool) -> _Network:
    """Copy a network into a smaller type, or into its emulation."""
    smaller = deepcopy(network).to(dtype)
    if not emulated:
        return smaller

    def rounded(_layer: nn.Module, _inputs: Any, output: Any) -> Any:
        return output.to(dtype).float() if isinstance(output, Tensor) else output

    for layer in smaller.float().modules():
        layer.register_forward_hook(rounded)
    return smaller
