"""The prior that a flow makes of the standard normal one."""

from jaxtyping import Float
from torch import Tensor

from models.distributions import standard_normal_log_prob
from models.flows import Flow
from models.priors.base import Prior


class FlowPrior(Prior):
    """z that a flow takes to N(0, I): log p(z) = log N(f(z); 0, I) + log |det| (Dinh et al. 2017, eq. 2).

    Args:
        dimensions: D of z.
        flow: f, from z to noise, without a context and invertible; samples go its way back.
    """

    def __init__(self, dimensions: int, flow: Flow) -> None:
        super().__init__(dimensions)
        self.flow = flow

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log p(z) in nats."""
        noise, log_det = self.flow(z)
        return standard_normal_log_prob(noise) + log_det

    def sample(self, noise: Float[Tensor, "B D"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Map noise, times the temperature, to z; see `Prior.sample`."""
        z: Tensor = self.flow(temperature.unsqueeze(1) * noise, inverse=True).z
        return z
