"""Bottlenecks: from the encoder's output to latents, with all that a bound must know of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.code_priors import CodePrior
from models.posteriors import Posterior
from models.priors import Prior
from models.quantizers import VectorQuantizer


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

Encoding = dict[str, Tensor]
"""What `encode` answers, by name: a posterior's parameters, or codes."""


class Bottleneck(nn.Module, ABC):
    """The latents of a model: how they come from the encoder's output, and what they cost."""

    latent_axes: int
    """How many axes z has for one example."""
    noise_dimensions: int
    """Standard normal numbers that one sample of z takes."""

    @abstractmethod
    def encoding(self, h: Float[Tensor, "B *hidden"]) -> Encoding:
        """Read the encoder's output as what `encode` answers."""

    @abstractmethod
    def point(self, encoding: Encoding) -> Float[Tensor, "B *latent"]:
        """Give the one z that stands for x in a reconstruction."""

    @abstractmethod
    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z from what `encode` answered."""

    def forward(self, h: Float[Tensor, "B *hidden"], noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z given the encoder's output, with gradients.

        Args:
            h: what the encoder gave.
            noise: standard normal.

        Returns:
            The levels.
        """
        return self.draw(self.encoding(h), noise)


class GaussianBottleneck(Bottleneck):
    """One level of real-valued latents.

    Args:
        posterior: q(z given x).
        prior: p(z).
    """

    latent_axes = 1

    def __init__(self, posterior: Posterior, prior: Prior) -> None:
        super().__init__()
        self.posterior = posterior
        self.prior = prior
        self.noise_dimensions = posterior.dimensions

    @property
    def dimensions(self) -> int:
        """D of z."""
        return self.posterior.dimensions

    def encoding(self, h: Float[Tensor, "B K"]) -> Encoding:
        """Give the posterior's parameters by name."""
        return self.posterior.params(h)

    def point(self, encoding: Encoding) -> Float[Tensor, "B D"]:
        """Give the posterior's mean."""
        return encoding["mean"]

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z from a posterior given by its parameters."""
        posterior = self.posterior.distribution(encoding)
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


class VectorQuantizedBottleneck(Bottleneck):
    """One level of codes on a grid; the posterior is certain of its codes, so that log q = 0.

    Args:
        quantizer: the codebook.
        prior: p(codes).
    """

    latent_axes = 3
    noise_dimensions = 0

    def __init__(self, quantizer: VectorQuantizer, prior: CodePrior) -> None:
        super().__init__()
        self.quantizer = quantizer
        self.prior = prior

    def encoding(self, h: Float[Tensor, "B D h w"]) -> Encoding:
        """Give the codes."""
        return {"codes": self.quantizer.codes(h.permute(0, 2, 3, 1)).to(torch.int32)}

    def point(self, encoding: Encoding) -> Float[Tensor, "B D h w"]:
        """Give the code vectors."""
        return self.quantizer.embed(encoding["codes"]).permute(0, 3, 1, 2)

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S 0"]) -> Latent:
        """Give the codes' one z and its code length under the prior."""
        del noise
        return self._level(self.point(encoding), encoding["codes"], None)

    def forward(self, h: Float[Tensor, "B D h w"], noise: Float[Tensor, "B S 0"]) -> Latent:
        """Quantize the encoder's output; see `Bottleneck.forward`."""
        del noise
        quantized = self.quantizer(h.permute(0, 2, 3, 1))
        return self._level(quantized.z.permute(0, 3, 1, 2), quantized.codes, quantized.penalty)

    def _level(
        self, z: Float[Tensor, "B D h w"], codes: Int[Tensor, "B h w"], penalty: Float[Tensor, " B"] | None
    ) -> Latent:
        """Weigh the codes."""
        log_p = self.prior.log_prob(codes).unsqueeze(1)
        level = Level(z.unsqueeze(1), codes, log_q=torch.zeros_like(log_p), log_p=log_p, kl=None, penalty=penalty)
        return (level,)
