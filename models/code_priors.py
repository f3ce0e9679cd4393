"""Priors p(codes) over grids of codes."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn


class CodePrior(nn.Module, ABC):
    """p(codes) over grids of integers 0 .. K - 1.

    Args:
        num_embeddings: K.
    """

    def __init__(self, num_embeddings: int) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings

    @abstractmethod
    def log_prob(
        self, codes: Int[Tensor, "B h w"], condition: Int[Tensor, " B"] | None = None
    ) -> Float64[Tensor, " B"]:
        """Give log p(codes) in nats, summed over the grid.

        Args:
            codes: 0 .. K - 1.
            condition: class of each example; None for none.

        Returns:
            Nats, float64.
        """


class UniformCodes(CodePrior):
    """All codes equally probable: -log K each."""

    def log_prob(
        self, codes: Int[Tensor, "B h w"], condition: Int[Tensor, " B"] | None = None
    ) -> Float64[Tensor, " B"]:
        """Give -N log K."""
        del condition
        places = codes.shape[1] * codes.shape[2]
        return torch.full(
            (codes.shape[0],), -places * math.log(self.num_embeddings), dtype=torch.float64, device=codes.device
        )
