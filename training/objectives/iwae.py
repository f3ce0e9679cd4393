"""The importance-weighted objective (Burda et al. 2016), with ordinary or doubly reparameterised gradients."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Float64, Shaped
from pydantic import Field
from torch import Tensor

from models.bound import Bound
from models.code_priors import Conditions
from models.model import LatentVariableModel
from training.errors import RecipeError
from training.objectives.base import DataFacts, ModelObjective, ModelObjectiveConfig, Step, vector_bottleneck

Gradient = Literal["standard", "dreg"]


class IWAEConfig(ModelObjectiveConfig):
    """The `[objective]` table of kind `iwae`.

    Attributes:
        samples: S, importance samples of each example.
        gradient: `standard` differentiates the bound; `dreg` has the same expectation and, for the encoder, less
            variance; it needs a posterior whose density is known at any z.
        unconditional: share of the examples whose condition is hidden from the decoder, so that it also knows none.
    """

    kind: Literal["iwae"] = "iwae"
    samples: int = Field(default=50, gt=0)
    gradient: Gradient = "standard"
    unconditional: float = Field(default=0.2, gt=0, le=1)

    def build(self, model: LatentVariableModel, facts: DataFacts) -> "IWAE":
        """Make the objective; see `ModelObjectiveConfig.build`."""
        if not model.bottleneck.noise_dimensions:
            raise RecipeError(
                "objective.kind is 'iwae', but the posterior of this model is certain of its z, so that all importance "
                "samples are one; choose objective.kind = 'sgvb'"
            )
        if self.gradient == "dreg":
            _check_invertible(model)
        return IWAE(model, facts, self)


class IWAE(ModelObjective):
    """The bound of S importance samples (Burda et al. 2016, eq. 8): loss = -log (1/S) sum_s w_s.

    Gradient `dreg` is the doubly reparameterised one for the encoder (Tucker et al. 2019, eq. 8), which leaves out the
    score function of log q: sum_s v_s^2 d log w_s / d z_s d z_s / d phi with v the normalised weights. The decoder and
    the prior get sum_s v_s d log w_s / d theta either way.

    Args:
        model: what is fitted.
        facts: of the training split.
        config: how many samples, and which gradient.
    """

    def __init__(self, model: LatentVariableModel, facts: DataFacts, config: IWAEConfig) -> None:
        super().__init__(model, facts, config.samples, config.unconditional)
        self.config = config
        self.score_samples = config.samples

    @torch.no_grad()
    def score(
        self, model: LatentVariableModel, x: Shaped[Tensor, "B *data"], noise: Tensor, conditions: Conditions
    ) -> Float64[Tensor, " B"]:
        """Give the bound of as many samples as it is fitted with; see `ModelObjective.score`."""
        return model.bound(x, noise, conditions).iwae

    def steps(self, *batch: Shaped[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch: data, and their class for each condition; see `Objective.steps`."""
        x, *known = batch
        noise, conditions = self.draw_noise(x), self.hide(x, tuple(known))
        if self.config.gradient == "dreg":
            bound, loss = self._doubly_reparameterised(x, noise, conditions)
        else:
            bound = self.model.bound(x, noise, conditions)
            loss = -bound.iwae.mean()
        yield Step("model", loss, bound.iwae.detach().mean(), self._figures(bound))

    def _doubly_reparameterised(
        self, x: Shaped[Tensor, "B *data"], noise: Float[Tensor, "B S D"], conditions: Conditions
    ) -> tuple[Bound, Float64[Tensor, ""]]:
        """Give the bound, and the loss: of value minus the bound, and of the doubly reparameterised gradient."""
        bottleneck = vector_bottleneck(self.model)
        posterior = bottleneck.posterior.distribution(self.model.encode(x))
        z, _ = posterior.draw(noise)
        params = self.model.weighing(x, z, conditions)
        bound = Bound(
            self.model.likelihood.log_prob(x.unsqueeze(1), params),
            bottleneck.prior.log_prob(z),
            posterior.detach().log_prob(z),
            bottleneck.prior.kl(posterior),
        )
        weights = bound.log_weights.detach().softmax(1)
        # On its way to the encoder the gradient passes z, where it gets its weight for the second time.
        again = weights.unsqueeze(-1).to(z.dtype)
        z.register_hook(lambda gradient: gradient * again)  # type: ignore[no-untyped-call]
        loss = -(weights * bound.log_weights).sum(1).mean()
        return bound, loss + (-bound.iwae.mean() - loss).detach()

    @torch.no_grad()
    def _figures(self, bound: Bound) -> dict[str, Float[Tensor, ""]]:
        """Measure a batch; the sample size that the weights are worth is 1 / sum_s v_s^2 (Kong 1992)."""
        weights = bound.log_weights.softmax(1)
        return self.bound_figures(bound) | {"effective_sample_size": (1.0 / weights.square().sum(1)).mean()}


@torch.no_grad()
def _check_invertible(model: LatentVariableModel) -> None:
    """Refuse posteriors whose density is known at their own draws alone."""
    posterior = vector_bottleneck(model).posterior
    first = next(posterior.parameters(), torch.zeros(()))
    distribution = posterior.distribution(posterior.params(torch.zeros(1, posterior.outputs, device=first.device)))
    z, _ = distribution.draw(torch.zeros(1, 1, posterior.dimensions, device=first.device))
    try:
        distribution.log_prob(z)
    except TypeError as error:
        raise RecipeError(
            f"objective.gradient is 'dreg', which needs log q of any z, and this posterior has it not: {error}; choose "
            "objective.gradient = 'standard', or a posterior that can be inverted, such as "
            "model.posterior.kind = 'diagonal'"
        ) from error
