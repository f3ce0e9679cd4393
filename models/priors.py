"""Priors p(z)."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from models.distributions import DiagonalGaussian, standard_normal_log_prob


class Prior(nn.Module, ABC):
    """p(z) over real vectors."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log p(z) in nats."""

    @abstractmethod
    def sample(self, noise: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Turn standard normal noise into a sample."""

    @abstractmethod
    def kl(self, posterior: DiagonalGaussian) -> Float[Tensor, "B D"] | None:
        """Give KL(q || p) of each dimension in nats where there is a closed form, else None."""


class StandardNormal(Prior):
    """N(0, I)."""

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log N(z; 0, I)."""
        return standard_normal_log_prob(z)

    def sample(self, noise: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """Give the noise itself."""
        return noise

    def kl(self, posterior: DiagonalGaussian) -> Float[Tensor, "B D"]:
        """Give the closed form for two normals."""
        return posterior.kl_from_standard_normal()
