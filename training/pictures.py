"""Pictures of what a model does: originals beside reconstructions, and samples from the prior."""

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

from artifact.noise import PRIOR_STREAM, batch_normal
from media.images import contact_sheet
from models.model import LatentVariableModel


def _intensities(mean: torch.Tensor) -> UInt8[np.ndarray, "B H W C"]:
    """Round a mean to pixels."""
    pixels: NDArray[np.uint8] = mean.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels


@torch.no_grad()
def reconstructions(
    model: LatentVariableModel, images: UInt8[np.ndarray, "B H W C"]
) -> UInt8[np.ndarray, "height width C"]:
    """Show images, each with its reconstruction through the posterior mean to its right.

    Args:
        model: in evaluation mode.
        images: B of them.

    Returns:
        One picture.
    """
    device = next(model.parameters()).device
    posterior = model.encode(torch.from_numpy(images).to(device))
    pairs = np.stack([images, _intensities(model.mean(posterior["mean"]))], axis=1)
    return contact_sheet(pairs.reshape(-1, *images.shape[1:]))


@torch.no_grad()
def samples(model: LatentVariableModel, count: int, seed: int = 0) -> UInt8[np.ndarray, "height width C"]:
    """Show the means of samples from the prior.

    Args:
        model: in evaluation mode.
        count: how many.
        seed: of the noise.

    Returns:
        One picture.
    """
    device = next(model.parameters()).device
    noise = batch_normal(seed, 0, count, (1, model.bottleneck.dimensions), stream=PRIOR_STREAM)[:, 0]
    return contact_sheet(_intensities(model.sample(torch.from_numpy(noise).to(device))))
