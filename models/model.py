"""The one model class: encoder, bottleneck, decoder and likelihood, composed."""

from typing import NamedTuple

from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.bottleneck import GaussianBottleneck, Latent
from models.bound import Bound
from models.likelihoods import Likelihood, Params


class LogWeights(NamedTuple):
    """The three terms of an importance weight, each `[B, S]`, nats."""

    log_p_x_given_z: Float64[Tensor, "B S"]
    log_p_z: Float64[Tensor, "B S"]
    log_q: Float64[Tensor, "B S"]


class LatentVariableModel(nn.Module):
    """p(x, z) = p(z) p(x given z), with an approximate posterior q(z given x).

    Args:
        encoder: `[B, C, H, W] -> [B, K]`, from network units to what the bottleneck's posterior reads.
        bottleneck: the latents and their prior.
        decoder: `[N, D] -> [N, outputs_per_channel * C, H, W]`.
        likelihood: p(x given z), and the data mapping.
    """

    def __init__(
        self, encoder: nn.Module, bottleneck: GaussianBottleneck, decoder: nn.Module, likelihood: Likelihood
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.likelihood = likelihood

    def encode(self, x: Shaped[Tensor, "B H W C"]) -> dict[str, Float[Tensor, "B D"]]:
        """Give the posterior's parameters by name."""
        return self.bottleneck.posterior.params(self._hidden(x))

    def decode(self, z: Float[Tensor, "*batch D"]) -> Params:
        """Give the likelihood's parameters, each `[*batch, H, W, C]`."""
        batch = z.shape[:-1]
        params = self.likelihood.params(self.decoder(z.reshape(-1, z.shape[-1])))
        return {name: value.reshape(*batch, *value.shape[1:]) for name, value in params.items()}

    def mean(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch H W C"]:
        """Give E[x given z], in the data's unit."""
        return self.likelihood.mean(self.decode(z))

    def bound(self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B S D"]) -> Bound:
        """Bound log p(x) from S samples of z.

        Args:
            x: data.
            noise: standard normal.

        Returns:
            The bound of each example.
        """
        return self._bound(x, self.bottleneck(self._hidden(x), noise))

    def log_weight(
        self, x: Shaped[Tensor, "B H W C"], posterior: dict[str, Float[Tensor, "B D"]], noise: Float[Tensor, "B S D"]
    ) -> LogWeights:
        """Give the terms of the importance weights from an already encoded posterior.

        Args:
            x: data.
            posterior: the parameters that `encode` gave for it.
            noise: standard normal.

        Returns:
            The three terms, float64.
        """
        bound = self._bound(x, self.bottleneck.draw(posterior, noise))
        return LogWeights(bound.log_p_x_given_z, bound.log_p_z.double(), bound.log_q.double())

    def sample(self, noise: Float[Tensor, "B D"]) -> Float[Tensor, "B H W C"]:
        """Give E[x given z] for z from the prior."""
        return self.mean(self.bottleneck.prior.sample(noise))

    def _hidden(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B K"]:
        """Run the encoder."""
        hidden: Tensor = self.encoder(self.likelihood.network_input(x))
        return hidden

    def _bound(self, x: Shaped[Tensor, "B H W C"], latent: Latent) -> Bound:
        """Decode a latent and weigh it."""
        (level,) = latent
        log_p_x_given_z = self.likelihood.log_prob(x.unsqueeze(1), self.decode(level.z))
        return Bound(log_p_x_given_z, level.log_p, level.log_q, level.kl)
