"""What a model of integer codes does, without a word of HTTP: arrays and numbers in, arrays out."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Integer, UInt8

from artifact.bounds import bits_per_dim
from artifact.codes import surprise_nats
from artifact.manifest import DiscreteLevel, ImageGeometry
from media.geometry import Placement
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError
from service.limits import check_pixels
from service.operations import to_pixels
from service.settings import Settings

_SLICE_VALUES = 2**22
"""Logits that are turned into surprise at a time: in float64, with what the sum needs, about 100 MB."""


@dataclass(frozen=True)
class CodesBound:
    """The bound of B pictures under a model whose posterior is one grid of codes: log p(x given codes) + log p(codes).

    Attributes:
        reconstruction_nats: log p(x given codes), over the pixels of the original.
        surprise_nats: -log p of each code given those before it.
        dimensions: values of each original picture.
        is_learned: whether the learned prior gave the surprise; else every code is equally probable.
    """

    reconstruction_nats: Float64[np.ndarray, " B"]
    surprise_nats: Float64[np.ndarray, "B h w"]
    dimensions: Int64[np.ndarray, " B"]
    is_learned: bool

    @property
    def kl_nats(self) -> Float64[np.ndarray, " B"]:
        """-log p(codes): the divergence of a posterior that is certain."""
        return self.surprise_nats.sum(axis=(1, 2))

    @property
    def elbo_nats(self) -> Float64[np.ndarray, " B"]:
        """The bound on log p(x)."""
        return self.reconstruction_nats - self.kl_nats

    @property
    def bits_per_dim(self) -> Float64[np.ndarray, " B"]:
        """The bound as bits for each value of the original picture."""
        return bits_per_dim(self.elbo_nats, 1) / self.dimensions

    @property
    def bits_per_token(self) -> Float64[np.ndarray, " B"]:
        """The mean surprise of a code, in bits."""
        return self.surprise_nats.mean(axis=(1, 2)) / math.log(2.0)


def level_of(model: ServedModel) -> DiscreteLevel:
    """Give the level of codes that a model has.

    Raises:
        CapabilityError: it has none, or more than one grid of them.
    """
    level = model.code_level
    if level is None:
        raise CapabilityError(f"{model.reference} has real-valued latents, not integer codes; choose another model")
    if len(model.manifest.latent) > 1 or level.num_codebooks > 1:
        raise CapabilityError(f"{model.reference} has several grids of codes, one is served; choose another model")
    return level


def check_codes(
    settings: Settings, model: ServedModel, codes: Integer[np.ndarray, "B h w"]
) -> Int32[np.ndarray, "B h w"]:
    """Check that codes are ones that the model can decode.

    Args:
        settings: the limits.
        model: which.
        codes: supposedly of its grid, each 0 .. K - 1.

    Returns:
        The codes.

    Raises:
        ParameterError: another grid, or a code that the codebook does not have.
        TooLargeError: they would decode to more pixels than the limits.
    """
    level = level_of(model)
    batch, height, width = codes.shape
    _check_grid(model, level, codes.shape)
    sides = height * level.downsampling, width * level.downsampling
    check_pixels(settings, *sides, total=batch * math.prod(sides))
    wrong = (codes < 0) | (codes >= level.num_embeddings)
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), codes.shape)
        raise ParameterError(
            f"codes{[int(index) for index in place]} is {int(codes[place])}, expected 0 .. {level.num_embeddings - 1}: "
            f"{model.reference} has a codebook of {level.num_embeddings}"
        )
    return codes.astype(np.int32, copy=False)


def _check_grid(model: ServedModel, level: DiscreteLevel, shape: tuple[int, ...]) -> None:
    """Refuse a grid that belongs to no picture that the model takes."""
    geometry, fixed = _geometry(model), _fixed_grid(model, level)
    step, limit = (max(1, pixels // level.downsampling) for pixels in (geometry.multiple_of, geometry.maximum))
    fits = all(
        size == side if side is not None else 0 < size <= limit and size % step == 0
        for size, side in zip(shape[1:], fixed, strict=True)
    )
    if shape[0] == 0 or not fits:
        sides = ", ".join(str(side or axis) for axis, side in zip("hw", fixed, strict=True))
        free = f", h and w {f'multiples of {step}' if step > 1 else 'from 1'} up to {limit}" if None in fixed else ""
        raise ParameterError(f"codes are {list(shape)}, {model.reference} takes [B, {sides}] with B at least 1{free}")


def _geometry(model: ServedModel) -> ImageGeometry:
    """Give the pictures that a model takes."""
    geometry = model.manifest.geometry
    if not isinstance(geometry, ImageGeometry):
        raise ParameterError(f"{model.reference} is a model of sound; choose a model of pictures")
    return geometry


def _fixed_grid(model: ServedModel, level: DiscreteLevel) -> tuple[int | None, ...]:
    """Give the sides of the grid of codes; None for one that is not fixed."""
    geometry = _geometry(model)
    return tuple(side and side // level.downsampling for side in (geometry.height, geometry.width))


async def encode(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]
) -> Int32[np.ndarray, "B h w"]:
    """Give the codes of images.

    Args:
        engine: that runs.
        model: which.
        images: checked.

    Returns:
        Codes, 0 .. K - 1.
    """
    level_of(model)
    return (await engine.run(model, "encode", {"x": images}))["codes"]


async def embed(
    engine: Engine, model: ServedModel, codes: Int32[np.ndarray, "B h w"]
) -> Float32[np.ndarray, "B h w D"]:
    """Give the vectors of the codebook that codes stand for; the codes are those of an admitted request."""
    return (await engine.run(model, "embed", {"codes": codes}, admit=0))["z_q"]


async def decode(
    engine: Engine, model: ServedModel, codes: Int32[np.ndarray, "B h w"], *, admit: int | None = None
) -> UInt8[np.ndarray, "B H W C"]:
    """Give the likelihood's mean as images.

    Args:
        engine: that runs.
        model: which.
        codes: checked, or the model's own.
        admit: see `Engine.run`.

    Returns:
        The mean, rounded to even and clipped to 0 .. 255.
    """
    mean = (await engine.run(model, "decode", {"codes": codes}, admit=admit))["mean"]
    return await asyncio.to_thread(to_pixels, mean)


async def reconstruct(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]
) -> UInt8[np.ndarray, "B H W C"]:
    """Encode and decode."""
    return await decode(engine, model, await encode(engine, model, images), admit=0)


async def codebook(engine: Engine, model: ServedModel) -> Float32[np.ndarray, "K D"]:
    """Give the vector of every code, as the `embed` graph has it.

    Args:
        engine: that runs.
        model: which.

    Returns:
        The codebook.

    Raises:
        CapabilityError: the model has no codes.
    """
    level = level_of(model)
    # A fixed grid is filled as often as it takes, the last one with zeros; where any grid is taken, one row will do.
    fixed = _fixed_grid(model, level)
    height, width = fixed[0] or 1, fixed[1] or level.num_embeddings
    grids = -(-level.num_embeddings // (height * width))
    codes = np.zeros(grids * height * width, dtype=np.int32)
    codes[: level.num_embeddings] = np.arange(level.num_embeddings)
    rows = {"codes": codes.reshape(grids, height, width)}
    vectors = (await engine.run(model, "embed", rows))["z_q"]
    return vectors.reshape(-1, vectors.shape[-1])[: level.num_embeddings]


async def likelihood(
    engine: Engine,
    model: ServedModel,
    images: UInt8[np.ndarray, "B H W C"],
    placements: Sequence[Placement],
    condition: Int64[np.ndarray, " B"] | None,
) -> CodesBound:
    """Bound log p(x) by the one grid of codes that the encoder gives it.

    Pixels are independent given the codes, so those that padding added are left out of the sum, and the bound is one
    on the original picture. The codes that padding added are paid for.

    Args:
        engine: that runs.
        model: which.
        images: checked.
        placements: where the originals lie in them.
        condition: a class each; None for a model that takes none.

    Returns:
        The bounds of every image.
    """
    codes = await encode(engine, model, images)
    pixels = await engine.run(model, "log_likelihood", {"x": images, "codes": codes}, admit=0)
    originals = [
        placement.restore(log_p) for placement, log_p in zip(placements, pixels["log_p_x_given_z"], strict=True)
    ]
    return CodesBound(
        reconstruction_nats=await asyncio.to_thread(lambda: np.array([float(log_p.sum()) for log_p in originals])),
        surprise_nats=await surprise(engine, model, codes, condition),
        dimensions=np.array([log_p.size * images.shape[3] for log_p in originals]),
        is_learned=has_prior_for(model, codes.shape[1:]),
    )


def grid_of(model: ServedModel, images: UInt8[np.ndarray, "B H W C"]) -> tuple[int, int]:
    """Give the height and width of the grid of codes that images have."""
    scale = level_of(model).downsampling
    return images.shape[1] // scale, images.shape[2] // scale


def has_prior_for(model: ServedModel, grid: tuple[int, ...]) -> bool:
    """Tell whether the model has a learned prior over grids of this size."""
    prior = model.manifest.prior
    return prior is not None and prior.links[0].grid == grid


async def surprise(
    engine: Engine,
    model: ServedModel,
    codes: Int32[np.ndarray, "B h w"],
    condition: Int64[np.ndarray, " B"] | None,
) -> Float64[np.ndarray, "B h w"]:
    """Give -log p of each code given those before it, under the learned prior where there is one for the grid.

    Args:
        engine: that runs.
        model: which.
        codes: of an admitted request.
        condition: a class each; None for a model that takes none.

    Returns:
        Nats; log K everywhere without a prior.
    """
    num_embeddings = level_of(model).num_embeddings
    if not has_prior_for(model, codes.shape[1:]):
        return np.full(codes.shape, math.log(num_embeddings))
    nats = np.empty(codes.shape)
    rows = max(1, _SLICE_VALUES // (codes[0].size * num_embeddings))
    for start in range(0, len(codes), rows):
        part = slice(start, start + rows)
        given = {} if condition is None else {"condition": condition[part]}
        logits = (await engine.run(model, "prior", {"codes": codes[part], **given}, admit=0))["logits"]
        nats[part] = await asyncio.to_thread(surprise_nats, logits, codes[part])
    return nats
