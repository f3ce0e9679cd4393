"""The one model class: encoder, bottleneck, decoder and likelihood, composed."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor, nn

from models.bottleneck import Bottleneck, Encoding, Latent
from models.bound import Bound
from models.code_priors import Conditions
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
        conditions: what the decoder takes besides z, by name, and the number of classes of each: a class' index, or
            their number for none.
    """

    def __init__(
        self,
        encoder: nn.Module,
        bottleneck: Bottleneck,
        decoder: nn.Module,
        likelihood: Likelihood,
        conditions: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.conditions = dict(conditions or {})
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

    def decode(self, z: Float[Tensor, "*batch_latent"], conditions: Conditions | None = None) -> Params:
        """Give the likelihood's parameters, each `[*batch, H, W, C]` or `[*batch, T]`, for z `[*batch, *latent]`.

        Args:
            z: latents.
            conditions: of each example, along the first axis of z; a condition that is left out is none.

        Returns:
            The parameters by name.
        """
        batch = self.batch_shape(z)
        given = self.spread(conditions, z).values()
        params = self.likelihood.params(self.decoder(z.flatten(0, len(batch) - 1), *given))
        return {name: value.reshape(*batch, *value.shape[1:]) for name, value in params.items()}

    def weighing(
        self,
        x: Shaped[Tensor, "B *data"],
        z: Float[Tensor, "*batch_latent"],
        conditions: Conditions | None = None,
    ) -> Params:
        """Give the parameters under which x is weighed: those of `decode`, whatever x is.

        Args:
            x: data, along the first axis of z.
            z: latents.
            conditions: as in `decode`.

        Returns:
            The parameters by name.
        """
        del x
        return self.decode(z, conditions)

    def batch_shape(self, z: Float[Tensor, "*batch_latent"]) -> torch.Size:
        """Give the leading axes of latents, without those of one."""
        return z.shape[: z.dim() - self.bottleneck.latent_axes]

    def spread(self, conditions: Conditions | None, z: Float[Tensor, "*batch_latent"]) -> dict[str, Int[Tensor, " N"]]:
        """Give every condition of the decoder for each of the latents, flat; one that is left out is none."""
        batch = self.batch_shape(z)
        given = {}
        for name, count in self.conditions.items():
            value = (conditions or {}).get(name, torch.full(batch[:1], count, device=z.device))
            given[name] = value.reshape(-1, *(1,) * (len(batch) - 1)).expand(batch).flatten()
        return given

    def mean(
        self, z: Float[Tensor, "*batch_latent"], conditions: Conditions | None = None
    ) -> Float[Tensor, "*batch H W C"]:
        """Give E[x given z], in the data's unit."""
        return self.likelihood.mean(self.decode(z, conditions))

    def reconstruct(
        self, x: Shaped[Tensor, "B H W C"], conditions: Conditions | None = None
    ) -> Float[Tensor, "B H W C"]:
        """Give E[x given z] for the one z that stands for x: the posterior's mean, or the code vectors."""
        return self.mean(self.bottleneck.point(self.encode(x)), conditions)

    def forward(
        self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B S D"], conditions: Conditions | None = None
    ) -> Pass:
        """Bound log p(x) from S samples of z.

        Args:
            x: data.
            noise: standard normal, `bottleneck.noise_dimensions` numbers a sample.
            conditions: as in `decode`.

        Returns:
            The bound of each example, with what it was made of.
        """
        return self.weigh(x, self.bottleneck(self.hidden(x), noise), conditions)

    def bound(
        self, x: Shaped[Tensor, "B H W C"], noise: Float[Tensor, "B S D"], conditions: Conditions | None = None
    ) -> Bound:
        """Bound log p(x) from S samples of z; see `forward`."""
        return self(x, noise, conditions).bound

    def log_weight(self, x: Shaped[Tensor, "B H W C"], encoding: Encoding, noise: Float[Tensor, "B S D"]) -> LogWeights:
        """Give the terms of the importance weights from what `encode` answered.

        Args:
            x: data.
            encoding: what `encode` gave for it.
            noise: standard normal.

        Returns:
            The three terms, float64.
        """
        bound = self.weigh(x, self.bottleneck.draw(encoding, noise)).bound
        return LogWeights(bound.log_p_x_given_z, bound.log_p_z.double(), bound.log_q.double())

    def exact_log_prob(self, x: Shaped[Tensor, "B H W C"]) -> Float64[Tensor, " B"] | None:
        """Give log p(x) itself in nats, where it is known.

        Args:
            x: data.

        Returns:
            Nats; None where there are only bounds on it.
        """
        del x
        return None

    def for_export(self) -> "LatentVariableModel":
        """Give the same model as graphs need it; see `Bottleneck.for_export`."""
        return type(self)(self.encoder, self.bottleneck.for_export(), self.decoder, self.likelihood, self.conditions)

    def weigh(self, x: Shaped[Tensor, "B H W C"], latent: Latent, conditions: Conditions | None = None) -> Pass:
        """Decode a latent and weigh it, wherever it was drawn from.

        Args:
            x: data.
            latent: what a bottleneck drew, for x or for something like it.
            conditions: as in `decode`.

        Returns:
            The bound of each example, with what it was made of.
        """
        params = self.weighing(x, latent[-1].z, conditions)
        log_p_x_given_z = self.likelihood.log_prob(x.unsqueeze(1), params)
        terms = ((level.log_p, level.log_q) for level in latent)
        log_p, log_q = (torch.stack(of_all).sum(0) for of_all in zip(*terms, strict=True))
        closed = [level.kl for level in latent if level.kl is not None]
        kl = torch.cat(closed, 1) if len(closed) == len(latent) else None
        return Pass(latent, params, Bound(log_p_x_given_z, log_p, log_q, kl))
