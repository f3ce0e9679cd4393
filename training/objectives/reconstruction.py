"""The objective of models whose code is not weighed: plain autoencoders."""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from models.code_priors import Conditions
from models.model import LatentVariableModel
from training.objectives.base import DataFacts, ModelObjective, ModelObjectiveConfig, Step
from training.objectives.corruption import Corruption


class ReconstructionConfig(ModelObjectiveConfig):
    """The `[objective]` table of kind `reconstruction`.

    Attributes:
        corruption: of what the encoder sees in training, which makes a denoising autoencoder.
    """

    weighs: ClassVar[bool] = False

    kind: Literal["reconstruction"]
    corruption: Corruption | None = None

    def build(self, model: LatentVariableModel, facts: DataFacts) -> "Reconstruction":
        """Make the objective; see `ModelObjectiveConfig.build`."""
        return Reconstruction(model, facts, self)


class Reconstruction(ModelObjective):
    """Likely reconstructions: loss = -log p(x given z(x)). It is no bound on log p(x): what z costs is not counted.

    Args:
        model: what is fitted.
        facts: of the training split, for figures alone.
        config: the corruption.
    """

    score_name = "reconstruction"

    def __init__(self, model: LatentVariableModel, facts: DataFacts, config: ReconstructionConfig) -> None:
        super().__init__(model, facts, samples=1, unconditional=1.0)
        self.config = config

    @torch.no_grad()
    def score(
        self, model: LatentVariableModel, x: Shaped[Tensor, "B *data"], noise: Tensor, conditions: Conditions
    ) -> Float64[Tensor, " B"]:
        """Give log p(x given z(x)), at x as it is; see `ModelObjective.score`."""
        return model.bound(x, noise, conditions).reconstruction

    def steps(self, *batch: Shaped[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch of data; see `Objective.steps`."""
        (x,) = batch
        seen = x if self.config.corruption is None else self.config.corruption.apply(x)
        found = self.weigh(x, seen, self.draw_noise(x), {})
        log_p = found.bound.reconstruction.mean()
        with torch.no_grad():
            error = (self.model.likelihood.mean(found.params) - x.unsqueeze(1)).square().mean()
        yield Step("model", -log_p, log_p.detach(), {"mse_over_variance": error / self.facts.variance})
