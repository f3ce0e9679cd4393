"""Bottlenecks of real-valued latents."""

from abc import abstractmethod
from typing import Self

from jaxtyping import Float
from torch import Tensor

from models.bottleneck import Bottleneck, Encoding, Latent, Level
from models.posteriors import Posterior, Quantity
from models.priors import Prior, StandardNormal


class ContinuousBottleneck(Bottleneck):
    """Real-valued latents, all levels side by side in one vector z.

    Attributes:
        dimensions: D of z.
        prior_noise_dimensions: standard normal numbers that a draw from the prior takes.
    """

    latent_axes = 1
    dimensions: int
    prior_noise_dimensions: int

    @property
    @abstractmethod
    def quantities(self) -> tuple[Quantity, ...]:
        """What an encoding holds, in order; the first is the one z that stands for x."""

    @property
    @abstractmethod
    def prior_is_standard_normal(self) -> bool:
        """Whether noise is a draw from the prior as it is."""

    @abstractmethod
    def sample(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Draw z from the prior; see `Prior.sample`."""

    def kl(self, encoding: Encoding) -> Float[Tensor, "B D"] | None:
        """Give KL(q || p) in nats where there is a closed form; see `Prior.kl`."""
        del encoding
        return None

    @property
    def drawn_from(self) -> tuple[str, ...]:
        """The names of the parameters that `draw` needs."""
        return tuple(quantity.name for quantity in self.quantities)

    def point(self, encoding: Encoding) -> Float[Tensor, "B D"]:
        """Give the z that stands for x."""
        return encoding[self.quantities[0].name]


class VectorBottleneck(ContinuousBottleneck):
    """One level of real-valued latents.

    Args:
        posterior: q(z given x).
        prior: p(z).
    """

    def __init__(self, posterior: Posterior, prior: Prior) -> None:
        super().__init__()
        self.posterior, self.prior = posterior, prior
        self.dimensions = self.noise_dimensions = posterior.dimensions
        self.prior_noise_dimensions = prior.noise_dimensions

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The posterior's."""
        return self.posterior.quantities

    @property
    def prior_is_standard_normal(self) -> bool:
        """Whether the prior is that one."""
        return isinstance(self.prior, StandardNormal)

    @property
    def drawn_from(self) -> tuple[str, ...]:
        """The posterior's."""
        return self.posterior.drawn_from

    def sample(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Draw z from the prior."""
        return self.prior.sample(noise, temperature)

    def encoding(self, h: Float[Tensor, "B K"]) -> Encoding:
        """Give the posterior's parameters by name."""
        return self.posterior.params(h)

    def kl(self, encoding: Encoding) -> Float[Tensor, "B D"] | None:
        """Give the prior's closed form."""
        return self.prior.kl(self.posterior.distribution(encoding))

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z from a posterior given by its parameters."""
        posterior = self.posterior.distribution(encoding)
        z, log_q = posterior.draw(noise)
        level = Level(
            z=z,
            codes=None,
            log_q=log_q,
            log_p=self.prior.log_prob(z),
            kl=self.prior.kl(posterior),
            penalty=None,
        )
        return (level,)

    def for_export(self) -> Self:
        """Put the prior's counterpart in its place."""
        return type(self)(self.posterior, self.prior.for_export())
