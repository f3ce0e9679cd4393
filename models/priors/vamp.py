"""The prior that is a mixture of posteriors at learned inputs."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.distributions import LOG_2PI, DiagonalGaussian, log_mean_exp
from models.posteriors import DiagonalGaussianPosterior
from models.priors.base import Prior


class MixturePrior(Prior):
    """(1/K) sum_k N(z; mean_k, diag exp(log_variance_k)), with fixed components.

    Args:
        components: the normals, K of them.
    """

    edges: Tensor
    mean: Tensor
    log_variance: Tensor

    def __init__(self, components: DiagonalGaussian) -> None:
        count, dimensions = components.mean.shape
        super().__init__(dimensions)
        self.noise_dimensions = dimensions + 1
        self.register_buffer("mean", components.mean, persistent=False)
        self.register_buffer("log_variance", components.log_variance, persistent=False)
        shares = torch.arange(1, count, dtype=torch.float64) / count
        self.register_buffer("edges", torch.special.ndtri(shares).to(components.mean), persistent=False)

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log p(z) in nats.

        The squares are multiplied out, so that distances to all components are products of matrices; their terms
        cancel, so they are float64.
        """
        flat, mean = z.reshape(-1, self.dimensions).double(), self.mean.double()
        log_variance = self.log_variance.double()
        precision = (-log_variance).exp()
        distances = (
            flat.square() @ precision.T
            - 2.0 * flat @ (precision * mean).T
            + (precision * mean.square() + log_variance + LOG_2PI).sum(1)
        )
        return log_mean_exp(-0.5 * distances).reshape(z.shape[:-1]).to(z.dtype)

    def sample(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Draw from the component that the first number chooses, by the others; see `Prior.sample`.

        The component is floor(K Phi(noise)), Phi the standard normal distribution function: how many of its K - 1
        inner quantiles the number is above, so that graphs and torch choose alike.
        """
        chosen = (noise[:, :1] > self.edges).sum(1)
        deviation = (0.5 * self.log_variance[chosen]).exp() * noise[:, 1:]
        return self.mean[chosen] + temperature.unsqueeze(1) * deviation


class VampPrior(Prior):
    """(1/K) sum_k q(z given u_k), a mixture of posteriors at learned pseudo-inputs u_k (Tomczak & Welling 2018, eq. 9).

    The encoder and the posterior belong to the model: they are referred to here, not owned.

    Args:
        encoder: from network units to what the posterior reads.
        posterior: q(z given x).
        components: K.
        shape: of an input, channels first.
    """

    def __init__(
        self, encoder: nn.Module, posterior: DiagonalGaussianPosterior, components: int, shape: tuple[int, ...]
    ) -> None:
        super().__init__(posterior.dimensions)
        self.noise_dimensions = posterior.dimensions + 1
        self.logits = nn.Parameter(torch.randn(components, *shape))
        # In a tuple, where torch does not look for modules; a copy of the whole model refers to its own ones.
        self._model = (encoder, posterior)

    @property
    def pseudo_inputs(self) -> Float[Tensor, "K C H W"]:
        """The inputs, in network units: within -1 and 1."""
        return torch.tanh(self.logits)

    def mixture(self) -> MixturePrior:
        """Give the mixture that the weights now make, with gradients."""
        encoder, posterior = self._model
        return MixturePrior(posterior.distribution(posterior.params(encoder(self.pseudo_inputs))))

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log p(z) in nats."""
        return self.mixture().log_prob(z)

    def sample(self, noise: Float[Tensor, "B N"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Draw from a component; see `MixturePrior.sample`."""
        return self.mixture().sample(noise, temperature)

    def for_export(self) -> MixturePrior:
        """Fix the mixture."""
        with torch.no_grad():
            return self.mixture()
