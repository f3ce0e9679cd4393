"""Rounding, widening and narrowing of integers that floating-point tensors carry, with gradients straight through."""

from typing import cast

import torch
from torch import Tensor

NARROW_LIMIT = 127
"""Largest magnitude of a weight or an activation that is multiplied."""
WIDE_BITS = 10
"""A wide number is a multiple of 2^-10."""
WIDE_LIMIT = 2**22
"""Largest magnitude of a wide integer, so that sums of a few are exact before they are clipped again."""
LOGIT_BITS = 8
"""A logit is a multiple of 2^-8 nats."""
EXACT_LIMIT = 2**24
"""Integers of smaller magnitude, and sums whose terms are smaller together, are exact in float32."""


class _Round(torch.autograd.Function):
    """Rounding whose gradient is that of the identity (Bengio et al. 2013, the straight-through estimator)."""

    @staticmethod
    def forward(_context: object, x: Tensor) -> Tensor:
        """Round half up."""
        return (x + 0.5).floor()

    @staticmethod
    def backward(_context: object, *gradients: Tensor) -> Tensor:
        """Let the gradient through."""
        return gradients[0]


def rounded(x: Tensor) -> Tensor:
    """Give floor(x + 1/2); its gradient is that of the identity.

    Args:
        x: any.

    Returns:
        Integers.
    """
    # where no gradient is wanted, plain operations, so that graphs can be written of them
    return cast("Tensor", _Round.apply(x)) if x.requires_grad else (x + 0.5).floor()  # type: ignore[no-untyped-call]


def widened(accumulator: Tensor, scale: Tensor) -> Tensor:
    """Give clip(floor(accumulator * scale + 1/2), -2^22, 2^22).

    With a power of 2 for a scale the product is exact. So is the sum where |accumulator| + 1 / (2 scale) <= 2^24 (see
    `models.exact.layers.ExactLinear.bounds`); where the scale is 1 or more and it is not, the result is clipped anyway.

    Args:
        accumulator: integers.
        scale: a power of 2 for each of its last axis.

    Returns:
        Wide integers.
    """
    return rounded(accumulator * scale).clamp(-WIDE_LIMIT, WIDE_LIMIT)


def narrowed(x: Tensor, scale: Tensor, *, rectified: bool = False) -> Tensor:
    """Give clip(floor(x * scale + 1/2), -127, 127), or from 0 where it is rectified.

    Args:
        x: wide integers, or products of tables.
        scale: a power of 2, one number.
        rectified: whether numbers below 0 become 0.

    Returns:
        Narrow integers.
    """
    return rounded(x * scale).clamp(0 if rectified else -NARROW_LIMIT, NARROW_LIMIT)


def added(x: Tensor, y: Tensor) -> Tensor:
    """Give clip(x + y, -2^22, 2^22) of wide integers."""
    return (x + y).clamp(-WIDE_LIMIT, WIDE_LIMIT)
