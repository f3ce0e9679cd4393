"""Pictures of what a model does: originals beside reconstructions, and samples from the prior."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

from artifact.manifest import ImageGeometry
from artifact.noise import CODES_STREAM, PRIOR_STREAM, batch_normal, batch_uniform
from media.images import contact_sheet
from models.bottleneck import GaussianBottleneck
from models.model import LatentVariableModel
from models.pixelcnn import GatedPixelCNN
from training.data import DataConfig, Photographs, load
from training.data.pictures import square
from training.graphs.prior import draw

_SAMPLES_OF_A_CLASS = 8
_SAMPLES = 64


def intensities(mean: torch.Tensor) -> UInt8[np.ndarray, "B H W C"]:
    """Round a mean to pixels."""
    pixels: NDArray[np.uint8] = mean.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels


@torch.no_grad()
def reconstructions(
    model: LatentVariableModel, images: UInt8[np.ndarray, "B H W C"]
) -> UInt8[np.ndarray, "height width C"]:
    """Show images, each with its reconstruction to its right.

    Args:
        model: in evaluation mode.
        images: B of them.

    Returns:
        One picture.
    """
    device = next(model.parameters()).device
    answer = intensities(model.reconstruct(torch.from_numpy(images).to(device)))
    return contact_sheet(np.stack([images, answer], axis=1).reshape(-1, *images.shape[1:]))


_SHOWN_SIDE = 256


def shown(model: LatentVariableModel, folder: Path, geometry: ImageGeometry) -> UInt8[np.ndarray, "height width C"]:
    """Show the pictures of a folder, each with its reconstruction.

    A model of fixed size gets the largest square of each, and its quarters, resized; another the middle as it is.

    Args:
        model: in evaluation mode.
        folder: of image files.
        geometry: the model's.

    Returns:
        One picture.

    Raises:
        DataError: the folder holds no pictures, or one cannot be read.
    """
    data = DataConfig(source="folder", root=folder, channels=geometry.channels, crop=_SHOWN_SIDE, test_every=2)
    splits = load(data)
    whole = [
        examples[index] for examples in (splits.test, splits.validation, splits.train) for index in range(len(examples))
    ]
    if geometry.height is None:
        return reconstructions(model, Photographs(whole, _SHOWN_SIDE).fixed())
    cut = [part for image in whole for part in _parts(square(image, 8 * geometry.height))]
    return reconstructions(model, np.stack([square(part, geometry.height) for part in cut]))


def _parts(image: UInt8[np.ndarray, "side side C"]) -> list[UInt8[np.ndarray, "h w C"]]:
    """Give a square and its four quarters."""
    half = len(image) // 2
    return [image] + [image[top:, left:][:half, :half] for top in (0, half) for left in (0, half)]


@torch.no_grad()
def samples(model: LatentVariableModel, count: int, seed: int = 0) -> UInt8[np.ndarray, "height width C"] | None:
    """Show the means of samples from the prior over real-valued latents.

    Args:
        model: in evaluation mode.
        count: how many.
        seed: of the noise.

    Returns:
        One picture; None for a model of codes, whose prior draws step by step.
    """
    if not isinstance(model.bottleneck, GaussianBottleneck):
        return None
    device = next(model.parameters()).device
    noise = batch_normal(seed, 0, count, (1, model.bottleneck.dimensions), stream=PRIOR_STREAM)[:, 0]
    z = model.bottleneck.prior.sample(torch.from_numpy(noise).to(device))
    return contact_sheet(intensities(model.mean(z)))


@torch.no_grad()
def prior_samples(
    model: LatentVariableModel, prior: GatedPixelCNN, grid: tuple[int, int], num_classes: int, seed: int = 0
) -> UInt8[np.ndarray, "height width C"]:
    """Show samples of a prior over codes, a row a class.

    Args:
        model: that the codes belong to, in evaluation mode.
        prior: likewise.
        grid: height and width.
        num_classes: of the prior; 0 where it takes no class.
        seed: of the noise.

    Returns:
        One picture.
    """
    count = num_classes * _SAMPLES_OF_A_CLASS or _SAMPLES
    condition = np.arange(num_classes).repeat(_SAMPLES_OF_A_CLASS) if num_classes else None
    uniform = batch_uniform(seed, 0, count, grid[0] * grid[1], stream=CODES_STREAM)
    codes = torch.from_numpy(draw(prior, grid, uniform, condition))
    drawn = intensities(model.mean(model.bottleneck.point({"codes": codes})))
    return contact_sheet(drawn, columns=_SAMPLES_OF_A_CLASS)
