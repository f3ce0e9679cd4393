"""Posteriors q(z given x): from the encoder's output to a distribution over z."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from models.distributions import DiagonalGaussian


class Posterior(nn.Module, ABC):
    """q(z given x); its parameters are what `encode` answers, and all that a bound needs besides x and noise.

    Args:
        dimensions: D of z.
    """

    outputs_per_dimension: int
    """How many numbers the encoder gives for each latent dimension."""
    parameter_names: tuple[str, ...]

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    @abstractmethod
    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B D"]]:
        """Read the encoder's output as the posterior's parameters, by name."""

    @abstractmethod
    def distribution(self, params: dict[str, Float[Tensor, "B D"]]) -> DiagonalGaussian:
        """Give q(z given x) from its parameters."""


class DiagonalGaussianPosterior(Posterior):
    """N(z; mean(x), diag exp(log_variance(x))) (Kingma & Welling 2014, eq. 9)."""

    outputs_per_dimension = 2
    parameter_names = ("mean", "log_variance")
    limit = 15.0
    """The log-variance stays within +- this, where exp is far from overflow."""

    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B D"]]:
        """Split the encoder's output into mean and log-variance."""
        mean, log_variance = h.float().chunk(2, dim=1)
        return {"mean": mean, "log_variance": log_variance.clamp(-self.limit, self.limit)}

    def distribution(self, params: dict[str, Float[Tensor, "B D"]]) -> DiagonalGaussian:
        """Give the normal with these moments."""
        return DiagonalGaussian(params["mean"], params["log_variance"])
