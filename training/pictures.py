"""Pictures of what a model does: originals beside reconstructions, and samples from the prior."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from artifact.manifest import ImageGeometry
from artifact.noise import PRIOR_STREAM, batch_normal
from media.images import contact_sheet, from_pillow, to_pillow
from models.bottleneck import DiscreteBottleneck
from models.chain import Chain, LinkGrid, joined
from models.code_priors import CodePrior
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from models.quantizers.base import ABSENT
from training.data import Photographs
from training.data.pictures import read_folder
from training.graphs.prior import Asked, draw, draw_link
from training.links import codes_of

SAMPLES_OF_A_CLASS = 8
_CLASSES = 10
_SAMPLES = 64
_PLACES = 2**14
"""Of all samples together, which are drawn one after the other."""


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
        One picture; None for a model without a prior to draw from at once.
    """
    if not isinstance(model.bottleneck, ContinuousBottleneck):
        return None
    device = next(model.parameters()).device
    if not model.bottleneck.bounds_log_p:
        return None
    noise = batch_normal(seed, 0, count, (1, model.bottleneck.prior_noise_dimensions), stream=PRIOR_STREAM)[:, 0]
    z = model.bottleneck.sample(torch.from_numpy(noise).to(device), torch.ones(count, device=device))
    return contact_sheet(intensities(model.mean(z)))


@torch.no_grad()
def prior_samples(model: LatentVariableModel, chain: Chain, seed: int = 0) -> UInt8[np.ndarray, "height width C"]:
    """Show samples of a prior over codes, a row for each of the first classes of its labels.

    Args:
        model: of images, that the codes belong to, in evaluation mode.
        chain: the prior, likewise.
        seed: of the noise.

    Returns:
        One picture.
    """
    return contact_sheet(intensities(sample_means(model, chain, seed)), columns=SAMPLES_OF_A_CLASS)


@torch.no_grad()
def sample_means(model: LatentVariableModel, chain: Chain, seed: int = 0) -> torch.Tensor:
    """Draw from a prior over codes, `SAMPLES_OF_A_CLASS` for each of the first classes of its labels, and decode.

    Args:
        model: that the codes belong to, in evaluation mode.
        chain: the prior, likewise.
        seed: of the noise.

    Returns:
        E[x given z] of each sample, `[N, *data]`.
    """
    return _means(model, draw(chain, _asked(chain.conditions, chain.grids, seed)))


@torch.no_grad()
def link_samples(
    model: LatentVariableModel,
    prior: CodePrior,
    grids: Sequence[LinkGrid],
    earlier: Sequence[Int32[np.ndarray, "N *grid"]],
    seed: int = 0,
) -> UInt8[np.ndarray, "height width C"] | None:
    """Show samples of one link; see `prior_samples`.

    Args:
        model: that the codes belong to, in evaluation mode.
        prior: the link, likewise.
        grids: of all links.
        earlier: codes of the links before it, at least one grid of each.
        seed: of the noise.

    Returns:
        One picture; None where codes say nothing that can be seen: of a sound, or of a level that others follow.
    """
    own, bottleneck = grids[len(earlier)], model.bottleneck
    if not isinstance(bottleneck, DiscreteBottleneck) or bottleneck.grid_axes != 2 or grids[-1].level > own.level:
        return None
    asked = _asked(prior.conditions, grids, seed)
    before = [np.resize(codes, (asked.count, *codes.shape[1:])) for codes in earlier]
    drawn = draw_link(prior, grids[: len(earlier) + 1], before, asked)
    absent = [np.full_like(drawn, ABSENT) for _ in grids[len(earlier) + 1 :]]
    means = _means(model, [*before, drawn, *absent])
    return contact_sheet(intensities(means), columns=SAMPLES_OF_A_CLASS)


def _asked(conditions: Mapping[str, int], grids: Sequence[LinkGrid], seed: int) -> Asked:
    """Ask for as many samples as can be seen and drawn in some seconds."""
    classes = min(conditions.get("label", 0), _CLASSES)
    places = sum(math.prod(grid.shape) for grid in grids)
    count = classes * SAMPLES_OF_A_CLASS or min(_SAMPLES, max(SAMPLES_OF_A_CLASS, _PLACES // places))
    labels = {"label": np.arange(classes).repeat(SAMPLES_OF_A_CLASS)} if classes else {}
    return Asked(seed, count, labels)


def _means(model: LatentVariableModel, codes: Sequence[Int32[np.ndarray, "B *grid"]]) -> torch.Tensor:
    """Give what a model makes of the codes of all links."""
    bottleneck = codes_of(model)
    return model.mean(bottleneck.point(joined(bottleneck, [torch.from_numpy(grid) for grid in codes])))
