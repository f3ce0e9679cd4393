"""Distributions over latents, in the few operations that bounds need; all of them export to ONNX."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


def standard_normal_log_prob(z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
    """Give log N(z; 0, I) in nats, summed over the last axis.

    Args:
        z: any real values.

    Returns:
        One value a vector, nats.
    """
    return -0.5 * (z.square() + LOG_2PI).sum(-1)


class Draw(NamedTuple):
    """Samples with their log-probability.

    Attributes:
        z: samples.
        log_q: log q(z), nats.
    """

    z: Float[Tensor, "B S D"]
    log_q: Float[Tensor, "B S"]


class Distribution(ABC):
    """A distribution over z for each example of a batch, that turns standard normal noise into samples."""

    @abstractmethod
    def draw(self, noise: Float[Tensor, "B S D"]) -> Draw:
        """Turn noise into samples, with gradients, and weigh them."""

    @abstractmethod
    def log_prob(self, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Give log q of any z in nats.

        Raises:
            TypeError: the way from noise to z cannot be gone back.
        """

    @abstractmethod
    def detach(self) -> Self:
        """Cut the distribution from the graph that made its parameters."""

    def kl_from_standard_normal(self) -> Float[Tensor, "B D"] | None:
        """Give KL(q || N(0, I)) in nats where there is a closed form; see `models.priors.Prior.kl`."""
        return None


@dataclass(frozen=True)
class DiagonalGaussian(Distribution):
    """N(z; mean, diag exp(log_variance)) for each example of a batch."""

    mean: Float[Tensor, "B D"]
    log_variance: Float[Tensor, "B D"]

    def draw(self, noise: Float[Tensor, "B S D"]) -> Draw:
        """Give z = mean + sigma * noise, whose density is that of the noise over prod sigma."""
        log_q = standard_normal_log_prob(noise) - 0.5 * self.log_variance.sum(-1, keepdim=True)
        return Draw(self.rsample(noise), log_q)

    def rsample(self, noise: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        """Turn standard normal noise into samples: z = mean + sigma * noise (Kingma & Welling 2014, section 2.4)."""
        return self.mean.unsqueeze(1) + (0.5 * self.log_variance).exp().unsqueeze(1) * noise

    def log_prob(self, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Give log q(z) in nats, summed over the latent dimensions."""
        log_variance = self.log_variance.unsqueeze(1)
        residual = (z - self.mean.unsqueeze(1)) * (-0.5 * log_variance).exp()
        return standard_normal_log_prob(residual) - 0.5 * log_variance.sum(-1)

    def kl_from_standard_normal(self) -> Float[Tensor, "B D"]:
        """Give KL(q || N(0, I)) of each dimension in nats (Kingma & Welling 2014, appendix B).

        KL = (mean^2 + variance - log_variance - 1) / 2.
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - self.log_variance - 1.0)

    def detach(self) -> Self:
        """Cut the distribution from the graph that made its parameters."""
        return type(self)(self.mean.detach(), self.log_variance.detach())


def log_mean_exp(log_weights: Float[Tensor, "B S"]) -> Float[Tensor, " B"]:
    """Give log (1/S) sum_s exp(log_weights), stably."""
    return torch.logsumexp(log_weights, dim=1) - math.log(log_weights.shape[1])
