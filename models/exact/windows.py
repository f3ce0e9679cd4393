"""Convolutions as matrices: the windows that a kernel sees, and channels spread over finer places."""

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor


def windows(
    x: Float[Tensor, "B *places C"], kernel: Sequence[int], stride: int = 1
) -> Float[Tensor, "B *outcome window"]:
    """Put what a kernel sees of each place side by side: its places in reading order, the channels of each together.

    Args:
        x: padded already.
        kernel: places of each axis.
        stride: of all axes.

    Returns:
        One window for each place of the outcome.
    """
    if prod(kernel) == 1 and stride == 1:
        return x
    parts = []
    for offset in product(*(range(size) for size in kernel)):
        cut = tuple(slice(o, (o - size + 1) or None, stride) for o, size in zip(offset, kernel, strict=True))
        parts.append(x[(slice(None), *cut)])
    return torch.cat(parts, dim=-1)


def shuffled(x: Float[Tensor, "B *places wide"], factor: int) -> Float[Tensor, "B *outcome C"]:
    """Spread channels over `factor` times as many places a side, phases first among the channels, each with C.

    Args:
        x: wide integers.
        factor: times; `nn.PixelShuffle` has phases last, so weights and biases made for it are to be reordered
            (`phases_first`).

    Returns:
        The finer grid.
    """
    if factor == 1:
        return x
    axes = x.dim() - 2
    batch, *places, channels = x.shape
    parts = x.reshape(batch, *places, *(factor,) * axes, channels // factor**axes)
    order = [axis for place in range(axes) for axis in (1 + place, 1 + axes + place)]
    return parts.permute(0, *order, 1 + 2 * axes).reshape(batch, *(side * factor for side in places), -1)


def phases_first(x: Tensor, factor: int) -> Tensor:
    """Reorder output channels of weights or biases made for `nn.PixelShuffle` as `shuffled` takes them.

    Args:
        x: `[C * factor^2, ...]`.
        factor: of the shuffle.
    """
    return x.reshape(-1, factor**2, *x.shape[1:]).transpose(0, 1).flatten(0, 1)
