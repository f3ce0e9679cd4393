"""Priors of real-valued latents as a recipe has them."""

from abc import abstractmethod
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from models.families.parts import Config
from models.families.posteriors import coupling_flow
from models.networks import ImageShape
from models.posteriors import DiagonalGaussianPosterior, Posterior
from models.priors import AR1, FlowPrior, Prior, StandardNormal, VampPrior


class RealPriorPart(Config):
    """The `[model.prior]` table."""

    kind: str

    @abstractmethod
    def build(self, posterior: Posterior, encoder: nn.Module, data: ImageShape) -> Prior:
        """Make the prior of z.

        Args:
            posterior: q(z given x), whose D the prior has.
            encoder: of the model.
            data: shape of an image.

        Returns:
            The prior.

        Raises:
            ValueError: it does not fit the posterior.
        """


class StandardNormalConfig(RealPriorPart):
    """N(0, I)."""

    kind: Literal["standard-normal"] = "standard-normal"

    def build(self, posterior: Posterior, encoder: nn.Module, data: ImageShape) -> StandardNormal:
        """Make the prior; see `RealPriorPart.build`."""
        del encoder, data
        return StandardNormal(posterior.dimensions)


class AR1Config(RealPriorPart):
    """z as a sequence of steps of `channels`, each step close to the one before it; see `models.priors.AR1`.

    Either `alpha` says how close, or `rate_nats` does: the least rate that a posterior with independent dimensions can
    have.
    """

    kind: Literal["ar1"] = "ar1"
    channels: int = Field(default=1, gt=0)
    alpha: float | None = Field(default=None, gt=-1, lt=1)
    rate_nats: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        """Refuse both and neither."""
        if (self.alpha is None) == (self.rate_nats is None):
            raise ValueError("an AR(1) prior takes either alpha or rate_nats; give one of them")
        return self

    def build(self, posterior: Posterior, encoder: nn.Module, data: ImageShape) -> AR1:
        """Make the prior; see `RealPriorPart.build`."""
        del encoder, data
        steps, rest = divmod(posterior.dimensions, self.channels)
        if rest or steps < 2:
            raise ValueError(
                f"{posterior.dimensions} dimensions are not at least 2 steps of {self.channels} channels; make "
                "model.latent a multiple of model.prior.channels, twice that or more"
            )
        if self.alpha is None:
            return AR1.committed(steps, self.channels, float(self.rate_nats or 0.0))
        return AR1(steps, (self.alpha,) * self.channels)


class FlowPriorConfig(RealPriorPart):
    """`steps` affine couplings between z and N(0, I), of networks of `hidden` units a layer."""

    kind: Literal["flow"] = "flow"
    steps: int = Field(default=6, gt=0)
    hidden: int = Field(default=128, gt=0)

    def build(self, posterior: Posterior, encoder: nn.Module, data: ImageShape) -> FlowPrior:
        """Make the prior; see `RealPriorPart.build`."""
        del encoder, data
        return FlowPrior(posterior.dimensions, coupling_flow(posterior.dimensions, 0, self.hidden, self.steps))


class VampConfig(RealPriorPart):
    """A mixture of the posteriors at so many learned inputs; see `models.priors.VampPrior`."""

    kind: Literal["vamp"] = "vamp"
    components: int = Field(default=500, gt=1)

    def build(self, posterior: Posterior, encoder: nn.Module, data: ImageShape) -> VampPrior:
        """Make the prior; see `RealPriorPart.build`."""
        if not isinstance(posterior, DiagonalGaussianPosterior):
            raise ValueError(
                "the vamp prior is a mixture of diagonal posteriors; set model.posterior.kind = 'diagonal'"
            )
        return VampPrior(encoder, posterior, self.components, tuple(data))


RealPriorConfig = Annotated[
    StandardNormalConfig | AR1Config | FlowPriorConfig | VampConfig, Field(discriminator="kind")
]
