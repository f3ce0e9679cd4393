"""The objective of exact priors: the code length, and the divergence from the prior in floating point."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from models.code_priors import CodePrior, Conditions
from models.exact.arithmetic import LOGIT_BITS
from models.exact.prior import ExactPrior
from training.objectives.base import Step
from training.objectives.code_length import CodeLength


class Distillation(CodeLength):
    """loss = (1 - w) * -log p(codes) + w * KL(teacher's p || p), summed over places (Hinton et al. 2015, section 2).

    The teacher tells of all codes of a place what it held likely, not only of the one that is there: so little data and
    few steps suffice, and nothing is learned by heart that it did not know.

    Args:
        model: the exact prior.
        teacher: in floating point, in evaluation mode.
        unconditional: see `CodeLength`.
        weight: w, 0 .. 1.
    """

    model: ExactPrior

    def __init__(self, model: ExactPrior, teacher: CodePrior, unconditional: float, weight: float) -> None:
        super().__init__(model, unconditional)
        self.weight = weight
        self._teacher = (teacher,)  # in a tuple, so that it is in no checkpoint and never fitted

    def steps(self, *batch: Int[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch; see `CodeLength.steps`."""
        *earlier, codes = batch[len(self.model.conditions) :]
        conditions = self.told(batch)
        logits = self.model(codes, self.model.given(earlier), conditions) * 2.0**-LOGIT_BITS
        nats = functional.cross_entropy(logits, codes.long(), reduction="none").double().flatten(1).sum(1).mean()
        divergence = self._divergence(logits, batch, conditions) if self.weight else torch.zeros_like(nats)
        loss = (1.0 - self.weight) * nats + self.weight * divergence
        scale = codes[0].numel() * torch.log(torch.tensor(2.0))
        figures = {"bits_per_token": nats.detach() / scale, "divergence_bits_per_token": divergence.detach() / scale}
        yield Step("model", loss, -nats.detach(), figures)

    @torch.no_grad()
    def _expected(self, batch: tuple[Tensor, ...], conditions: Conditions) -> Float[Tensor, "B K *grid"]:
        """Give the teacher's log p of all codes of each place."""
        (teacher,) = self._teacher
        *earlier, codes = batch[len(self.model.conditions) :]
        teacher = teacher.to(codes.device)
        logits: Tensor = teacher(codes, teacher.given(earlier), conditions)
        return logits.log_softmax(1)

    def _divergence(
        self, logits: Float[Tensor, "B K *grid"], batch: tuple[Tensor, ...], conditions: Conditions
    ) -> Tensor:
        """Give the divergence from the teacher in nats, summed over the places."""
        expected = self._expected(batch, conditions)
        each = functional.kl_div(logits.log_softmax(1), expected, reduction="none", log_target=True)
        return each.double().flatten(1).sum(1).mean()
