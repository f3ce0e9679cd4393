"""The log-probability of whole black-and-white images with its derivative, piece by piece."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_PIECE = 2**16
"""Numbers of a piece: few enough that every pass over it but the first finds it in the processor's cache."""


class BernoulliSum(torch.autograd.Function):
    """sum_d log sigmoid(s_d l_d) for signs s and logits l, and its derivative s_d sigmoid(-s_d l_d).

    Traced through, the passes over all logits would take longer than the networks that made them.
    """

    @staticmethod
    def forward(ctx: Any, signs: Float[Tensor, "B D"], logits: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Sum the log-probabilities of each row."""
        ctx.save_for_backward(signs, logits)
        total = logits.new_empty(logits.shape[:2])
        for part in _pieces(logits):
            total[part] = -nn.functional.softplus(-signs[part].unsqueeze(1) * logits[part]).sum(-1)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Give the gradient of the logits; the signs are data."""
        signs, logits = ctx.saved_tensors
        found = torch.empty_like(logits)
        for part in _pieces(logits):
            sign = signs[part].unsqueeze(1)
            piece = torch.mul(logits[part], -sign, out=found[part]).sigmoid_()
            piece.mul_(sign).mul_(gradients[0][part].unsqueeze(-1))
        return None, found


def _pieces(logits: Float[Tensor, "B S D"]) -> list[slice]:
    """Cut a batch into slices of few numbers each."""
    rows = max(1, _PIECE // logits[0].numel())
    return [slice(first, first + rows) for first in range(0, len(logits), rows)]
