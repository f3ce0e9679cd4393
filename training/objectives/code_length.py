"""The objective of priors over codes."""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from models.code_priors import CodePrior, Conditions
from training.objectives.base import Objective, Step


class CodeLength(Objective):
    """Least code length of a grid of codes: loss = -log p(codes given the grids before it and what is known).

    Args:
        model: the prior of the grid.
        unconditional: share of the examples of which each condition is hidden, so that the prior also knows codes of
            which nothing, or not everything, is known.
    """

    model: CodePrior

    def __init__(self, model: CodePrior, unconditional: float) -> None:
        super().__init__()
        self.model = model
        self.unconditional = unconditional

    def steps(self, *batch: Int[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch: a class of each example for each condition, the earlier grids, the grid."""
        *earlier, codes = batch[len(self.model.conditions) :]
        conditions = self.told(batch)
        log_p = self.model.log_prob(codes, self.model.given(earlier), conditions)
        bits = -log_p.detach().mean() / (codes[0].numel() * torch.log(torch.tensor(2.0)))
        yield Step("model", -log_p.mean(), log_p.detach().mean(), {"bits_per_token": bits})

    def told(self, batch: tuple[Int[Tensor, "B ..."], ...]) -> Conditions:
        """Give what is known of the examples of a batch, with some of it hidden."""
        codes = batch[-1]
        return {
            name: torch.where(torch.rand(len(codes), device=codes.device) < self.unconditional, classes, found)
            for (name, classes), found in zip(self.model.conditions.items(), batch, strict=False)
        }
