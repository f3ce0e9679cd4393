"""The one model class: encoder, bottleneck, decoder and likelihood, composed."""

from typing import NamedTuple

from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.bottleneck import Bottleneck, Encoding, Latent
from models.bound import Bound
from models.likelihoods import Likelihood, Params


class LogWeights(NamedTuple):
    """The three terms of an importance weight, each `[B, S]`, nats."""

    log_p_x_given_z: Float64[Tensor, "B S"]
    log_p_z: Float64[Tensor, "B S"]
    log_q: Float64[Tensor, "B S"]


class Pass(NamedTuple):
    """All that one way through the model gives.

    Attributes:
        latent: what the bottleneck drew.
        params: the likelihood's parameters, each `[B, S, H, W, C]`.
        bound: on log p(x).
    """

    latent: Latent
    params: Params
    bound: Bound


class LatentVariableModel(nn.Module):
    """p(x, z) = p(z) p(x given z), with an approximate posterior q(z given x).

    Args:
        encoder: `[B, C, H, W] -> [B, *hidden]`, from network units to what the bottleneck reads.
        bottleneck: the latents and their prior.
        decoder: `[N, *latent] -> [N, outputs_per_channel * C, H, W]`.
        likelihood: p(x given z), and the data mapping.
    """

    def __init__(self, encoder: nn.Module, bottleneck: Bottleneck, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.likelihood = likelihood

    def hidden(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B *hidden"]:
        """Run the encoder."""
        hidden: Tensor = self.encoder(self.likelihood.network_input(x))
        return hidden

    def encode(self, x: Shaped[Tensor, "B H W C"]) -> Encoding:
        """Give the posterior's parameters, or the codes, by name."""
        return self.bottleneck.encoding(self.hidden(x))

    def decode(self, z: Float[Tensor, "*batch_latent"]) -> Params:
        """Give the likelihood's parameters, each `[*batch, H, W, C]`, for z `[*batch, *latent]`."""
        axes = z.dim() - self.bottleneck.latent_axes
        params = self.likelihood.params(self.decoder(z.flatten(0, axes - 1)))
        return {name: value.reshape(*z.shape[:axes], *value.shape[1:]) for name, value in params.items()}

    def mean(self, z: Float[Tensor, "*batch_latent"]) -> Float[Tensor, "*batch H W C"]:
        """Give E[x given z], in the data's unit."""
        return self.likelihood.mean(self.decode(z))

    def reconstruct(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Give E[x given z] for the one z that stands for x: the posterior's mean, or the code vectors."""
        return self.mean(self.bottleneck.point(self.encode(x)))

    def forward(self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B S D"]) -> Pass:
        """Bound log p(x) from S samples of z.

        Args:
            x: data.
            noise: standard normal, `bottleneck.noise_dimensions` numbers a sample.

        Returns:
            The bound of each example, with what it was made of.
        """
        return self._weigh(x, self.bottleneck(self.hidden(x), noise))

    def bound(self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B S D"]) -> Bound:
        """Bound log p(x) from S samples of z; see `forward`."""
        return self(x, noise).bound

    def log_weight(self, x: Shaped[Tensor, "B H W C"], encoding: Encoding, noise: Float[Tensor, "B S D"]) -> LogWeights:
        """Give the terms of the importance weights from what `encode` answered.

        Args:
            x: data.
            encoding: what `encode` gave for it.
            noise: standard normal.

        Returns:
            The three terms, float64.
        """
        bound = self._weigh(x, self.bottleneck.draw(encoding, noise)).bound
        return LogWeights(bound.log_p_x_given_z, bound.log_p_z.double(), bound.log_q.double())

    def _weigh(self, x: Shaped[Tensor, "B H W C"], latent: Latent) -> Pass:
        """Decode a latent and weigh it."""
        (level,) = latent
        params = self.decode(level.z)
        log_p_x_given_z = self.likelihood.log_prob(x.unsqueeze(1), params)
        return Pass(latent, params, Bound(log_p_x_given_z, level.log_p, level.log_q, level.kl))
