"""Variational EM: the posterior is brought near its best for the model as it stands, then the model is moved."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Shaped
from pydantic import Field
from torch import Tensor, nn

from models.model import LatentVariableModel
from training.objectives.base import DataFacts, Step, vector_bottleneck
from training.objectives.sgvb import SGVB, VariationalConfig


class VariationalEMConfig(VariationalConfig):
    """The `[objective]` table of kind `variational-em`.

    Attributes:
        encoder_steps: of an E-step at most.
        decoder_steps: of an M-step.
        smoothing: of the moving average of the bound by which an E-step is judged.
        patience: steps without a new high of that average after which the E-step has converged.
    """

    kind: Literal["variational-em"]
    encoder_steps: int = Field(default=100, gt=0)
    decoder_steps: int = Field(default=50, gt=0)
    smoothing: float = Field(default=0.9, ge=0, lt=1)
    patience: int = Field(default=10, gt=0)

    def build(self, model: LatentVariableModel, facts: DataFacts) -> "VariationalEM":
        """Make the objective; see `ModelObjectiveConfig.build`."""
        self.check(model)
        return VariationalEM(model, self, facts)


class VariationalEM(SGVB):
    """Coordinate ascent on the bound (Neal & Hinton 1998), with networks: an E-step moves phi alone, an M-step theta.

    An E-step ends when its moving average of the bound has reached no new high for `patience` steps, and after
    `encoder_steps` at the latest; an M-step takes `decoder_steps`. Both minimise the loss of SGVB.

    Args:
        model: what is fitted.
        config: how long the steps are, and the loss.
        facts: of the training split, for figures alone.
    """

    config: VariationalEMConfig
    moves_decoder: Tensor
    steps_in_phase: Tensor
    average_nats: Tensor
    best_nats: Tensor
    stale: Tensor

    def __init__(self, model: LatentVariableModel, config: VariationalEMConfig, facts: DataFacts) -> None:
        super().__init__(model, config, facts)
        self.prior = [vector_bottleneck(model).prior]  # in a list, since it is the model's own
        self.register_buffer("moves_decoder", torch.zeros((), dtype=torch.bool))
        for name in ("steps_in_phase", "stale"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        for name in ("average_nats", "best_nats"):
            self.register_buffer(name, torch.full((), -torch.inf, dtype=torch.float64))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Part phi, of q(z given x), from theta, of p(x, z)."""
        of_theta: list[nn.Module] = [self.model.decoder, self.model.likelihood, *self.prior]
        theta = {id(weight): weight for part in of_theta for weight in part.parameters()}
        return {
            "encoder": [weight for weight in self.model.parameters() if id(weight) not in theta],
            "decoder": list(theta.values()),
        }

    def steps(self, *batch: Shaped[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch, for the group whose turn it is; see `Objective.steps`."""
        step = self.step("decoder" if self.moves_decoder else "encoder", *batch)
        self._advance(step.log_p_nats.double())
        step.figures["moves_decoder"] = self.moves_decoder.double()
        yield step

    @torch.no_grad()
    def _advance(self, bound: Tensor) -> None:
        """Count a step, and change sides where the phase is over."""
        self.steps_in_phase += 1
        if self.moves_decoder:
            over = self.steps_in_phase >= self.config.decoder_steps
        else:
            kept = self.config.smoothing if torch.isfinite(self.average_nats) else 0.0
            self.average_nats.copy_(bound.lerp(self.average_nats, kept) if kept else bound)
            self.stale.copy_(torch.where(self.average_nats > self.best_nats, 0, self.stale + 1))
            self.best_nats.copy_(torch.maximum(self.best_nats, self.average_nats))
            over = (self.stale >= self.config.patience) | (self.steps_in_phase >= self.config.encoder_steps)
        if over:
            self.moves_decoder.logical_not_()
            self.steps_in_phase.zero_()
            self.stale.zero_()
            self.average_nats.fill_(-torch.inf)
            self.best_nats.fill_(-torch.inf)
