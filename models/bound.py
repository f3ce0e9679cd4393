"""The bound on log p(x): per example, in nats, with the sign of log p. A bound is maximised; a loss is its negative."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Float64
from torch import Tensor

from models.distributions import log_mean_exp

BoundKind = Literal["exact", "elbo"]


@dataclass(frozen=True)
class Bound:
    """What S samples of z tell of log p(x) of B examples.

    Attributes:
        log_p_x_given_z: nats.
        log_p_z: nats, all levels.
        log_q: nats, all levels.
        kl: the rate by latent dimension, nats, in closed form given the samples of the levels above, where there are
            some; None where there is none.
    """

    log_p_x_given_z: Float64[Tensor, "B S"]
    log_p_z: Float[Tensor, "B S"]
    log_q: Float[Tensor, "B S"]
    kl: Float[Tensor, "B D"] | None

    @property
    def reconstruction(self) -> Float64[Tensor, " B"]:
        """E_q log p(x given z), by the mean over samples."""
        return self.log_p_x_given_z.mean(1)

    @property
    def sampled_rate(self) -> Float64[Tensor, " B"]:
        """KL(q || p) by the mean of log q - log p over samples."""
        return (self.log_q - self.log_p_z).double().mean(1)

    @property
    def rate(self) -> Float64[Tensor, " B"]:
        """KL(q || p): by `kl` where there is one, else sampled."""
        return self.sampled_rate if self.kl is None else self.kl.double().sum(1)

    @property
    def elbo(self) -> Float64[Tensor, " B"]:
        """The evidence lower bound, reconstruction - rate (Kingma & Welling 2014, eq. 3)."""
        return self.reconstruction - self.rate

    @property
    def log_weights(self) -> Float64[Tensor, "B S"]:
        """Log p(x given z) + log p(z) - log q(z given x)."""
        return self.log_p_x_given_z + (self.log_p_z - self.log_q)

    @property
    def iwae(self) -> Float64[Tensor, " B"]:
        """The importance-weighted bound of S samples (Burda et al. 2016, eq. 8)."""
        return log_mean_exp(self.log_weights)
