"""Tables of a recipe that several families share."""

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedGaussian,
    Likelihood,
    LogisticMixture,
    Variance,
)


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


class LogisticMixtureConfig(LikelihoodPart):
    """uint8 pixels under so many logistic densities integrated over each value's bin, for each channel its own."""

    kind: Literal["logistic-mixture"] = "logistic-mixture"
    mixtures: int = Field(default=5, gt=0, le=64)

    def build(self) -> Likelihood:
        """Make the likelihood."""
        return LogisticMixture(self.mixtures)


class CategoricalConfig(LikelihoodPart):
    """A probability for each of the 256 values of every channel of a pixel."""

    kind: Literal["categorical"] = "categorical"

    def build(self) -> Likelihood:
        """Make the likelihood."""
        return Categorical()


LikelihoodConfig = Annotated[
    BernoulliConfig | GaussianConfig | LogisticMixtureConfig | CategoricalConfig, Field(discriminator="kind")
]
