"""Latents on a grid: integer scales, and integer parameters of posteriors that a coder turns into integer tables.

A latent is z = j / 16 with an integer j, |j| <= 255; its prior is a normal N(0, 1) and its posterior N(mean, sigma^2),
each integrated over the cells of the grid. A mean is a multiple of 2^-10, and sigma one of 96 scales
sigma(i) = exp((i - 80) / 16).
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from functools import cache
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.exact.arithmetic import NARROW_LIMIT, WIDE_BITS, WIDE_LIMIT, rounded

LATENT_BITS = 4
"""z is a multiple of 2^-4."""
LATENT_LIMIT = 255
"""Largest |j|; a decoder sees it clipped to 127, where the prior has 2e-15 of its mass left."""
MEAN_LIMIT = NARROW_LIMIT << WIDE_BITS - LATENT_BITS
"""Largest magnitude of a mean, in units of 2^-10."""
SCALES = 96
"""How many there are."""
UNIT_SCALE = 80
"""The index of sigma = 1."""
_SHIFT = 7
"""A log-variance's step is 2^7 wide units: 1/8, so that sigma's is exp(1/16)."""
_SCALE_BITS = 12
_DIGITS = 50


@cache
def scale_table() -> tuple[int, ...]:
    """Give round(2^12 exp((i - 80) / 16)) for i = 0 .. 95."""
    with localcontext(Context(prec=_DIGITS)):
        exact = (2**_SCALE_BITS * (Decimal(index - UNIT_SCALE) / 16).exp() for index in range(SCALES))
        return tuple(int(one.to_integral_value(ROUND_HALF_EVEN)) for one in exact)


class _LookUp(torch.autograd.Function):
    """sigma of a log-variance by the table, with the derivative of exp(x / 2)."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, log_variance: Tensor, table: Tensor) -> Tensor:
        """Look up."""
        found = table[scale_index(log_variance).long()]
        context.save_for_backward(found)
        return found

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        """Multiply by the slope."""
        (found,) = cast("tuple[Tensor]", context.saved_tensors)  # type: ignore[attr-defined]
        return gradients[0] * found * (0.5 * 2.0**-WIDE_BITS), None


class Scales(nn.Module):
    """The table of scales, as `w = m + s z` looks it up."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.tensor(scale_table(), dtype=torch.float32), persistent=False)

    def forward(self, moments: Float[Tensor, "B H W C2"], z: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Give m + s z as wide integers.

        Args:
            moments: wide: m, then log s^2.
            z: narrow integers j.

        Returns:
            w.
        """
        mean, log_variance = moments.chunk(2, dim=-1)
        if log_variance.requires_grad:
            scale = cast("Tensor", _LookUp.apply(log_variance, self.table))  # type: ignore[no-untyped-call]
        else:
            scale = self.table[scale_index(log_variance).long()]
        change = rounded(scale * z * 2.0 ** (WIDE_BITS - LATENT_BITS - _SCALE_BITS))
        return (mean + change).clamp(-WIDE_LIMIT, WIDE_LIMIT)


def scale_index(log_variance: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Give the index of the scale nearest to exp(log_variance / 2), which is wide; its gradient is the identity's."""
    return (rounded(log_variance * 2.0**-_SHIFT) + UNIT_SCALE).clamp(0, SCALES - 1)


def mean_integer(mean: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Give the posterior's mean, which is wide, in the range that there is."""
    return mean.clamp(-MEAN_LIMIT, MEAN_LIMIT)


def drawn(
    mean: Float[Tensor, "*batch"], index: Float[Tensor, "*batch"], noise: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Draw j as the nearest place of the grid to mean + sigma * noise, with straight-through gradients.

    Args:
        mean: integers in units of 2^-10.
        index: of sigma.
        noise: standard normal.

    Returns:
        Integers j.
    """
    place = (mean * 2.0**-WIDE_BITS + ((index - UNIT_SCALE) / 16).exp() * noise) * 2.0**LATENT_BITS
    return rounded(place).clamp(-LATENT_LIMIT, LATENT_LIMIT)


def kl_nats(mean: Float[Tensor, "*batch"], index: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Give KL(N(mean, sigma^2) || N(0, 1)) in nats, which the grid's is close to where sigma is not below its step.

    Args:
        mean: integers in units of 2^-10.
        index: of sigma.
    """
    log_variance = (index - UNIT_SCALE) / 8
    return 0.5 * ((mean * 2.0**-WIDE_BITS).square() + log_variance.exp() - log_variance - 1.0)
