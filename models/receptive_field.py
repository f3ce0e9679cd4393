"""Receptive fields: how far beyond a place its codes and its pixels or samples depend on the input.

A copy of the model that is linear and whose weights are all positive carries every dependency forward, none cancelled
by another, so the gradient of an output is non-zero at just those inputs that its layers reach.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.bottleneck import DiscreteBottleneck
from models.model import LatentVariableModel

_CELLS = 256
_MOST_CELLS = 2**14
_SMALL = 1e-6
"""Size of the probe's input: bounded quantizers do not saturate, so that their gradient stays."""


class Halos(NamedTuple):
    """What lies beyond a piece on either side, and is needed for the piece to come out as of the whole input.

    Attributes:
        encode: pixels or samples.
        decode: places of the finest grid.
    """

    encode: int
    decode: int


def halos(model: LatentVariableModel, bottleneck: DiscreteBottleneck, channels: int, cell: int) -> Halos:
    """Give the halos of a fully convolutional model of codes.

    Args:
        model: whose.
        bottleneck: the model's.
        channels: of its encoder's input.
        cell: pixels a side, or samples, that a place of its coarsest grid stands for.

    Returns:
        The larger of both sides and all axes.

    Raises:
        ValueError: it depends on the whole input, so that no halo is enough.
    """
    probe = _positive(model).eval()
    fine = cell // bottleneck.strides[0]
    joined = bottleneck.point(bottleneck.example(1)).shape[1]

    def encode(x: Tensor) -> Tensor:
        noise = torch.zeros(1, 1, 0)
        z: Tensor = probe.bottleneck(probe.encoder(x), noise)[-1].z
        return z.squeeze(1)

    def decode(z: Tensor) -> Tensor:
        conditions = (torch.full((1,), count) for count in model.conditions.values())
        mean: Tensor = probe.decoder(z, *conditions)
        return mean

    axes = bottleneck.grid_axes
    return Halos(
        encode=receptive_halo(encode, channels, axes, cell),
        decode=receptive_halo(decode, joined, axes, cell // fine),
    )


def receptive_halo(run: Callable[[Tensor], Tensor], channels: int, axes: int, cell: int) -> int:
    """Give how far beyond a cell of its input the outputs that lie over the cell depend on it.

    Args:
        run: `[1, C, *sides] -> [1, K, *sides]`, of layers with positive weights; both sides have as many cells.
        channels: C.
        axes: how many sides there are.
        cell: elements of the input along a side of a cell, after which the dependencies repeat.

    Returns:
        Elements of the input, the most of all sides.

    Raises:
        ValueError: the outputs depend on the whole input.
    """
    return max(_halo_along(run, channels, axes, axis, cell) for axis in range(axes))


def _halo_along(run: Callable[[Tensor], Tensor], channels: int, axes: int, axis: int, cell: int) -> int:
    """Look along one axis of ever longer inputs, until twice as long a one shows no more."""
    cells, before = _CELLS, -1
    while cells <= _MOST_CELLS:
        sides = [cell] * axes
        sides[axis] = cells * cell
        x = (_SMALL * (0.5 + torch.rand(1, channels, *sides))).requires_grad_()
        with torch.enable_grad():
            y = run(x)
            scale = y.shape[2 + axis] // cells
            middle = cells // 2
            (gradient,) = torch.autograd.grad(y.narrow(2 + axis, middle * scale, scale).sum(), x)
        reached = gradient.movedim(2 + axis, 0).flatten(1).any(1).nonzero().flatten()
        first, last = int(reached[0]), int(reached[-1])
        halo = max(middle * cell - first, last + 1 - (middle + 1) * cell, 0)
        if halo == before:
            return halo
        cells, before = 2 * cells, halo
    raise ValueError(f"the outputs depend on more than {_MOST_CELLS * cell} elements, so a model has no windows")


def _positive(model: LatentVariableModel) -> LatentVariableModel:
    """Copy a model without activations, and with positive weights that keep the size of what they are given."""
    probe = deepcopy(model)
    for module in list(probe.modules()):
        for name, child in module.named_children():
            if isinstance(child, _ACTIVATIONS):
                setattr(module, name, nn.Identity())
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor):
            spread = max(1, weight[0].numel() if not isinstance(module, _TRANSPOSED) else weight[:, 0].numel())
            weight.data = (0.5 + torch.rand(weight.shape)) / spread
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            bias.data.zero_()
    return probe.requires_grad_(requires_grad=False)


_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)
