"""Bottlenecks: from the encoder's output to latents, with all that a bound must know of them."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from models.posteriors import Posterior
from models.priors import Prior


@dataclass(frozen=True)
class Level:
    """The latents of one level, S samples for each of B examples.

    Attributes:
        z: what the decoder gets.
        codes: the integers behind it, for a quantised level.
        log_q: log q(z given x), nats.
        log_p: log p(z), nats.
        kl: KL(q || p) of each dimension in closed form, nats; None where there is none.
        penalty: an auxiliary loss such as commitment, never a part of a bound.
    """

    z: Float[Tensor, "B S *latent"]
    codes: Int[Tensor, "B *grid"] | None
    log_q: Float[Tensor, "B S"]
    log_p: Float[Tensor, "B S"]
    kl: Float[Tensor, "B D"] | None
    penalty: Float[Tensor, " B"] | None


Latent = tuple[Level, ...]
"""The levels, top first."""


class GaussianBottleneck(nn.Module):
    """One level of real-valued latents.

    Args:
        posterior: q(z given x).
        prior: p(z).
    """

    def __init__(self, posterior: Posterior, prior: Prior) -> None:
        super().__init__()
        self.posterior = posterior
        self.prior = prior

    @property
    def dimensions(self) -> int:
        """D of z."""
        return self.posterior.dimensions

    def forward(self, h: Float[Tensor, "B K"], noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z given the encoder's output.

        Args:
            h: what the encoder gave.
            noise: standard normal.

        Returns:
            One level.
        """
        return self.draw(self.posterior.params(h), noise)

    def draw(self, params: dict[str, Float[Tensor, "B D"]], noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z from a posterior given by its parameters, as `encode` answers them."""
        posterior = self.posterior.distribution(params)
        z = posterior.rsample(noise)
        level = Level(
            z=z,
            codes=None,
            log_q=posterior.log_prob(z),
            log_p=self.prior.log_prob(z),
            kl=self.prior.kl(posterior),
            penalty=None,
        )
        return (level,)
