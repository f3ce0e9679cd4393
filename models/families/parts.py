"""Tables of a recipe that several families share."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.likelihoods import Bernoulli, DiscretizedGaussian, Likelihood, Variance


class Config(BaseModel):
    """A part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LikelihoodPart(Config):
    """The `[model.likelihood]` table."""

    kind: str

    @abstractmethod
    def build(self) -> Likelihood:
        """Make the likelihood."""


class BernoulliConfig(LikelihoodPart):
    """Pixels that are black or white."""

    kind: Literal["bernoulli"] = "bernoulli"

    def build(self) -> Likelihood:
        """Make the likelihood."""
        return Bernoulli()


class GaussianConfig(LikelihoodPart):
    """uint8 pixels under a normal integrated over each value's bin; `scale` in grey levels."""

    kind: Literal["gaussian"] = "gaussian"
    variance: Variance = "shared"
    scale: float = Field(default=16.0, ge=0.2, le=255.0)

    def build(self) -> Likelihood:
        """Make the likelihood."""
        return DiscretizedGaussian(self.variance, self.scale)


LikelihoodConfig = Annotated[BernoulliConfig | GaussianConfig, Field(discriminator="kind")]
