"""Integer tables of tanh and of the sigmoid, made by decimal arithmetic, and the gate that looks them up."""

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.exact.arithmetic import WIDE_BITS

ENTRIES = 2048
"""Of a table; entry i stands for the wide numbers from (i - 1024) / 128 on, the first and the last for all beyond."""
INDEX_SHIFT = 3
"""A wide integer's index is floor(x / 2^3) + 1024, clipped to 0 .. 2047."""
TANH_BITS = 12
"""tanh in units of 2^-12: -4096 .. 4096."""
SIGMOID_BITS = 11
"""The sigmoid in units of 2^-11: 0 .. 2048. So a product of both is at most 2^23."""

_DIGITS = 50


@cache
def tanh_table() -> tuple[int, ...]:
    """Give round(2^12 tanh((i - 1024 + 1/2) / 128)) for i = 0 .. 2047."""
    with localcontext(Context(prec=_DIGITS)):
        return tuple(_integer(_tanh(_middle(index)) * 2**TANH_BITS) for index in range(ENTRIES))


@cache
def sigmoid_table() -> tuple[int, ...]:
    """Give round(2^11 / (1 + exp(-(i - 1024 + 1/2) / 128))) for i = 0 .. 2047."""
    with localcontext(Context(prec=_DIGITS)):
        return tuple(_integer(2**SIGMOID_BITS / (1 + (-_middle(index)).exp())) for index in range(ENTRIES))


def _middle(index: int) -> Decimal:
    """Give the middle of the numbers that an entry stands for."""
    return Decimal(2 * (index - ENTRIES // 2) + 1) / 256


def _tanh(x: Decimal) -> Decimal:
    return 1 - 2 / ((2 * x).exp() + 1)


def _integer(x: Decimal) -> int:
    return int(x.to_integral_value(ROUND_HALF_EVEN))


def _index(x: Tensor) -> Tensor:
    """Give the entry of each wide integer."""
    half = ENTRIES // 2
    return ((x * 2.0**-INDEX_SHIFT).floor() + half).clamp(0, ENTRIES - 1).long()


class Tables(nn.Module):
    """tanh and the sigmoid of wide integers; one is shared by all gates of a network."""

    tanh: Tensor
    sigmoid: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, table in (("tanh", tanh_table()), ("sigmoid", sigmoid_table())):
            self.register_buffer(name, torch.tensor(table, dtype=torch.float32)[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Give tanh(first half) * sigmoid(second half) of the last axis, in units of 2^-23.

        Args:
            x: wide integers.

        Returns:
            Integers of at most 2^23, half as many.
        """
        if x.requires_grad:
            return cast("Tensor", _Gated.apply(x, self.looked_up))  # type: ignore[no-untyped-call]
        value, opening = self.looked_up(x)
        return value * opening

    def looked_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the entries of both tables."""
        value, opening = _index(x).chunk(2, dim=-1)
        found = functional.embedding(value, self.tanh), functional.embedding(opening, self.sigmoid)
        return found[0].squeeze(-1), found[1].squeeze(-1)


class _Gated(torch.autograd.Function):
    """The gate, with the slopes of tanh and of the sigmoid for a gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor, looked_up: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """Look up and multiply."""
        value, opening = looked_up(x)
        context.save_for_backward(value, opening)
        return value * opening

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Multiply by the slopes: of tanh 1 - t^2, of the sigmoid s (1 - s)."""
        value, opening = context.saved_tensors
        t, s = value / 2**TANH_BITS, opening / 2**SIGMOID_BITS
        unit = gradients[0] * 2.0 ** (TANH_BITS + SIGMOID_BITS - WIDE_BITS)
        return torch.cat([unit * s * (1 - t * t), unit * t * s * (1 - s)], dim=-1), None
