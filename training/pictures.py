"""Pictures of what a model does: originals beside reconstructions, and samples from the prior."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from artifact.manifest import ImageGeometry
from artifact.noise import CODES_STREAM, PRIOR_STREAM, batch_normal, batch_uniform
from media.images import contact_sheet, from_pillow, to_pillow
from models.bottleneck import GaussianBottleneck
from models.model import LatentVariableModel
from models.pixelcnn import GatedPixelCNN
from training.data import Photographs
from training.data.pictures import read_folder
from training.graphs.prior import draw

_SAMPLES_OF_A_CLASS = 8
_CLASSES = 10
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


def to_show(folder: Path, geometry: ImageGeometry) -> UInt8[np.ndarray, "B H W C"]:
    """Read the pictures of a folder, in the order of their names, as examples for a model.

    For a model of fixed size each is cut to its proportions and resized, and so are its four quarters; for another,
    the middle of each is taken, enlarged where the picture is smaller.

    Args:
        folder: of image files.
        geometry: the model's.

    Returns:
        Pictures of one size.

    Raises:
        DataError: the folder holds no pictures, or one cannot be read.
    """
    whole = read_folder(folder, geometry.channels)
    if geometry.height is None or geometry.width is None:
        return Photographs(whole, _SHOWN_SIDE).fixed()
    size = geometry.width, geometry.height
    parts = [part for image in whole for part in _parts(image)]
    return np.stack([from_pillow(ImageOps.fit(to_pillow(part), size, Image.Resampling.LANCZOS)) for part in parts])


def _parts(image: UInt8[np.ndarray, "H W C"]) -> list[UInt8[np.ndarray, "h w C"]]:
    """Give a picture and its four quarters."""
    height, width = image.shape[0] // 2, image.shape[1] // 2
    corners = [(top, left) for top in (0, height) for left in (0, width)]
    return [image, *(image[top : top + height, left : left + width] for top, left in corners)]


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
    model: LatentVariableModel, prior: GatedPixelCNN, grid: tuple[int, int], seed: int = 0
) -> UInt8[np.ndarray, "height width C"]:
    """Show samples of a prior over codes, a row for each of its first classes.

    Args:
        model: that the codes belong to, in evaluation mode.
        prior: likewise.
        grid: height and width.
        seed: of the noise.

    Returns:
        One picture.
    """
    classes = min(prior.num_classes, _CLASSES)
    count = classes * _SAMPLES_OF_A_CLASS or _SAMPLES
    condition = np.arange(classes).repeat(_SAMPLES_OF_A_CLASS) if classes else None
    uniform = batch_uniform(seed, 0, count, grid[0] * grid[1], stream=CODES_STREAM)
    codes = torch.from_numpy(draw(prior, grid, uniform, condition))
    drawn = intensities(model.mean(model.bottleneck.point({"codes": codes})))
    return contact_sheet(drawn, columns=_SAMPLES_OF_A_CLASS)
