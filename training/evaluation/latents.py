"""What the evaluation of real-valued latents asks of a model: the densities of any z, not only of one just drawn."""

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from models.bottleneck import Encoding
from models.continuous import ContinuousBottleneck, VectorBottleneck
from models.distributions import standard_normal_log_prob
from models.model import LatentVariableModel
from training.errors import RunError


def continuous(model: LatentVariableModel) -> ContinuousBottleneck:
    """Give the bottleneck of a model of real-valued latents.

    Raises:
        RunError: its latents are of another kind.
    """
    if not isinstance(model.bottleneck, ContinuousBottleneck):
        raise RunError(
            f"importance sampling needs real-valued latents, the model has a {type(model.bottleneck).__name__}"
        )
    return model.bottleneck


def weighable(model: LatentVariableModel) -> ContinuousBottleneck:
    """Give the bottleneck of a model of real-valued latents that has a bound on log p(x).

    Raises:
        RunError: its latents are of another kind, or are not weighed.
    """
    bottleneck = continuous(model)
    if not bottleneck.bounds_log_p:
        raise RunError(
            "the model gives its code no probability, as a plain autoencoder, so that there is no bound on log p(x) "
            "and no log p(x) to estimate: leave options of likelihoods out, or fit a family with a prior such as 'vae'"
        )
    return bottleneck


def log_prior(bottleneck: ContinuousBottleneck, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
    """Give log p(z) of any z, with gradients.

    Args:
        bottleneck: of real-valued latents.
        z: all levels side by side.

    Returns:
        Nats.

    Raises:
        RunError: the bottleneck cannot weigh a z that it has not drawn.
    """
    if isinstance(bottleneck, VectorBottleneck):
        return bottleneck.prior.log_prob(z)
    if bottleneck.prior_is_standard_normal:
        return standard_normal_log_prob(z)
    raise RunError(f"a {type(bottleneck).__name__} cannot weigh any z, as this needs; use --samples alone")


def log_posterior(
    bottleneck: ContinuousBottleneck, encoding: Encoding, z: Float[Tensor, "B S D"]
) -> Float[Tensor, "B S"]:
    """Give log q(z given x) of any z, with gradients.

    Args:
        bottleneck: of real-valued latents.
        encoding: what `encode` answered for x.
        z: all levels side by side.

    Returns:
        Nats.

    Raises:
        TypeError: the posterior weighs only what it has drawn.
    """
    if isinstance(bottleneck, VectorBottleneck):
        return bottleneck.posterior.distribution(encoding).log_prob(z)
    raise TypeError(f"a {type(bottleneck).__name__} cannot tell log q(z given x) of any z")


def log_likelihood(
    model: LatentVariableModel, x: Shaped[Tensor, "B *data"], z: Float[Tensor, "B S D"]
) -> Float64[Tensor, "B S"]:
    """Give log p(x given z) in nats, with gradients; what else the decoder takes counts as not known."""
    return model.likelihood.log_prob(x.unsqueeze(1), model.weighing(x, z))


def draw_prior(bottleneck: ContinuousBottleneck, noise: Float[Tensor, "B S N"]) -> Float[Tensor, "B S D"]:
    """Turn noise into z from the prior."""
    flat = noise.flatten(0, 1)
    z = bottleneck.sample(flat, torch.ones(len(flat), device=noise.device))
    return z.reshape(*noise.shape[:2], z.shape[-1])
