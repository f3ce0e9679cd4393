"""Posteriors of real-valued latents as a recipe has them."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from models.families.parts import Config
from models.flows import AffineCoupling, Flow, InverseAutoregressive, Planar, Radial
from models.posteriors import (
    DiagonalGaussianPosterior,
    FixedVariancePosterior,
    FlowPosterior,
    FullCovariancePosterior,
    Posterior,
)


class PosteriorPart(Config):
    """The `[model.posterior]` table."""

    kind: str

    @abstractmethod
    def build(self, dimensions: int) -> Posterior:
        """Make the posterior of z.

        Args:
            dimensions: D of z.

        Returns:
            The posterior.

        Raises:
            ValueError: z has too few dimensions for it.
        """


class DiagonalConfig(PosteriorPart):
    """A normal whose dimensions are independent given x."""

    kind: Literal["diagonal"] = "diagonal"

    def build(self, dimensions: int) -> DiagonalGaussianPosterior:
        """Make the posterior; see `PosteriorPart.build`."""
        return DiagonalGaussianPosterior(dimensions)


class FixedVarianceConfig(PosteriorPart):
    """A normal of one fixed variance, so that its rate against N(0, I) is at least `rate_nats` for every input."""

    kind: Literal["fixed-variance"] = "fixed-variance"
    rate_nats: float = Field(default=5.0, gt=0)

    def build(self, dimensions: int) -> FixedVariancePosterior:
        """Make the posterior; see `PosteriorPart.build`."""
        return FixedVariancePosterior(dimensions, self.rate_nats)


class FullCovarianceConfig(PosteriorPart):
    """A normal with any covariance; the encoder gives D (D + 3) / 2 numbers."""

    kind: Literal["full-covariance"] = "full-covariance"

    def build(self, dimensions: int) -> FullCovariancePosterior:
        """Make the posterior; see `PosteriorPart.build`."""
        return FullCovariancePosterior(dimensions)


class SimpleFlowConfig(PosteriorPart):
    """A flow of `steps` planes or balls, whose parameters are linear in `context` numbers from the encoder."""

    kind: Literal["planar", "radial"]
    steps: int = Field(default=16, gt=0)
    context: int = Field(default=64, gt=0)

    def build(self, dimensions: int) -> FlowPosterior:
        """Make the posterior; see `PosteriorPart.build`."""
        step = Planar if self.kind == "planar" else Radial
        flow = Flow([step(dimensions, self.context) for _ in range(self.steps)])
        return FlowPosterior(dimensions, self.context, flow)


class NeuralFlowConfig(PosteriorPart):
    """A flow of `steps` networks of `hidden` units a layer, which see `context` numbers from the encoder."""

    kind: Literal["inverse-autoregressive", "coupling"]
    steps: int = Field(default=4, gt=0)
    hidden: int = Field(default=200, gt=0)
    context: int = Field(default=64, gt=0)

    def build(self, dimensions: int) -> FlowPosterior:
        """Make the posterior; see `PosteriorPart.build`."""
        if self.kind == "coupling":
            flow = coupling_flow(dimensions, self.context, self.hidden, self.steps)
        else:
            refuse_few(dimensions, self.kind)
            flow = Flow(
                [
                    InverseAutoregressive(dimensions, self.context, self.hidden, backwards=index % 2 == 1)
                    for index in range(self.steps)
                ]
            )
        return FlowPosterior(dimensions, self.context, flow)


FlowConfig = Annotated[SimpleFlowConfig | NeuralFlowConfig, Field(discriminator="kind")]

PosteriorConfig = Annotated[
    DiagonalConfig | FixedVarianceConfig | FullCovarianceConfig | SimpleFlowConfig | NeuralFlowConfig,
    Field(discriminator="kind"),
]


def coupling_flow(dimensions: int, context: int, hidden: int, steps: int) -> Flow:
    """Chain couplings of which either half of the dimensions is mapped in turn.

    Args:
        dimensions: D of z, at least 2.
        context: C of what they see besides, 0 for none.
        hidden: units of a layer.
        steps: couplings.

    Returns:
        The flow.

    Raises:
        ValueError: there are fewer than two dimensions.
    """
    refuse_few(dimensions, "coupling")
    return Flow([AffineCoupling(dimensions, context, hidden, even=index % 2 == 0) for index in range(steps)])


def refuse_few(dimensions: int, kind: str) -> None:
    """Refuse a single dimension, which has no others to depend on.

    Raises:
        ValueError: there are fewer than two dimensions.
    """
    if dimensions < 2:
        raise ValueError(f"a {kind} flow has at least 2 dimensions; set model.latent to 2 or more")
