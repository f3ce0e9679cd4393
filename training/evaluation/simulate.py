"""Data drawn from a model together with their latents, each an exact sample of its own posterior."""

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from artifact.noise import batch_normal, batch_uniform
from models.autoregressive import AutoregressivePictures
from models.model import LatentVariableModel
from training.evaluation.latents import draw_prior, weighable

_SIMULATED_Z, _SIMULATED_X = 516, 517
"""Streams of noise, apart from those of the service and of annealed chains."""
_ROWS = 256


@torch.inference_mode()
def simulate(
    model: LatentVariableModel, count: int, shape: tuple[int, ...], seed: int
) -> tuple[Float[np.ndarray, "N D"], Shaped[np.ndarray, "N *data"]]:
    """Draw z from the prior and x given z.

    Args:
        model: in evaluation mode.
        count: N.
        shape: of one x.
        seed: of the noise.

    Returns:
        z and x.

    Raises:
        RunError: see `bdmc`.
    """
    bottleneck = weighable(model)
    device, size = next(model.parameters()).device, int(np.prod(shape))
    z_shape = 1, bottleneck.prior_noise_dimensions
    latents, examples = [], []
    for first in range(0, count, _ROWS):
        batch = min(_ROWS, count - first)
        normal = batch_normal(seed, first, batch, z_shape, stream=_SIMULATED_Z)
        uniform = batch_uniform(seed, first, batch, size, stream=_SIMULATED_X).astype(np.float32)
        z = draw_prior(bottleneck, torch.from_numpy(normal).to(device))[:, 0]
        noise = torch.from_numpy(uniform.clip(max=1.0 - 2.0**-24).reshape(batch, *shape)).to(device)
        examples.append(_drawn(model, z, noise).cpu().numpy())
        latents.append(z.cpu().numpy())
    return np.concatenate(latents), np.concatenate(examples)


def _drawn(
    model: LatentVariableModel, z: Float[Tensor, "B D"], noise: Float[Tensor, "B *data"]
) -> Shaped[Tensor, "B *data"]:
    """Draw x given z, whose parts are independent or follow each other."""
    if isinstance(model, AutoregressivePictures):
        return model.decoder.draw(z, noise, model.likelihood)
    return model.likelihood.sample(model.decode(z), noise)
