"""The standard normal prior."""

from jaxtyping import Float
from torch import Tensor

from models.distributions import Distribution, standard_normal_log_prob
from models.priors.base import Prior


class StandardNormal(Prior):
    """N(0, I)."""

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log N(z; 0, I)."""
        return standard_normal_log_prob(z)

    def sample(self, noise: Float[Tensor, "B D"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Give the noise itself, times the temperature."""
        return temperature.unsqueeze(1) * noise

    def kl(self, posterior: Distribution) -> Float[Tensor, "B D"] | None:
        """Give the closed form for two normals, where q is one."""
        return posterior.kl_from_standard_normal()
