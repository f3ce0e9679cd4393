"""What every prior over real vectors does."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from models.distributions import Distribution


class Prior(nn.Module, ABC):
    """p(z) over real vectors.

    Args:
        dimensions: D of z.

    Attributes:
        noise_dimensions: standard normal numbers that a sample takes.
    """

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = self.noise_dimensions = dimensions

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log p(z) in nats."""

    @abstractmethod
    def sample(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Turn standard normal noise into samples.

        Args:
            noise: standard normal.
            temperature: factor on the standard deviation of each sample, >= 0; 1 draws from p(z).

        Returns:
            The samples.
        """

    def kl(self, posterior: Distribution) -> Float[Tensor, "B D"] | None:
        """Give KL(q || p) of each dimension in nats where there is a closed form, else None.

        Args:
            posterior: q.

        Returns:
            Nats; where a closed form does not part into dimensions, the whole of it as one, `[B, 1]`.
        """
        del posterior
        return None

    def for_export(self) -> "Prior":
        """Give the same prior as a graph needs it: with everything computed that depends on weights alone."""
        return self
