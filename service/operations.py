"""What the service does, without a word of HTTP: arrays and typed options in, arrays out."""

import asyncio
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from artifact.bounds import BoundAccumulator, BoundEstimate
from artifact.manifest import ContinuousLevel, Tensor
from artifact.noise import MAX_SEED, PRIOR_STREAM, batch_normal
from service.engine import SAMPLE_SLICE, Engine, ServedModel
from service.errors import CapabilityError, ParameterError, TooLargeError

_WHITE_FROM = 128
MAX_TEMPERATURE = 10.0


def check_images(
    model: ServedModel, images: NDArray[np.generic], *, binarize: Literal["threshold"] | None
) -> UInt8[np.ndarray, "B H W C"]:
    """Check that images are what the model takes.

    Args:
        model: which.
        images: supposedly `[B, H, W, C]` uint8 of its geometry.
        binarize: `threshold` turns 128 .. 255 into 255 and the rest into 0.

    Returns:
        The images.

    Raises:
        ParameterError: another type, shape, or values that the likelihood gives no probability to.
    """
    (tensor,) = model.manifest.graphs["encode"].inputs
    _check_shape(model, images, tensor)
    pixels: NDArray[np.uint8] = images.astype(np.uint8, copy=False)
    if binarize == "threshold":
        pixels = np.where(pixels >= _WHITE_FROM, np.uint8(255), np.uint8(0))
    if tensor.values is not None and not np.isin(pixels, tensor.values).all():
        found = int(pixels[~np.isin(pixels, tensor.values)][0])
        raise ParameterError(
            f"{model.reference} takes pixels of {' or '.join(map(str, tensor.values))} alone, one is {found}; "
            "send black-and-white pictures, or add ?binarize=threshold"
        )
    return pixels


def _check_shape(model: ServedModel, images: NDArray[np.generic], tensor: Tensor) -> None:
    """Hold an array against a tensor's declaration."""
    fits = images.ndim == len(tensor.shape) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(tensor.shape, images.shape, strict=True)
    )
    if images.dtype != tensor.dtype or not fits or len(images) == 0:
        expected = ", ".join(map(str, tensor.shape))
        raise ParameterError(
            f"{model.reference} takes {tensor.dtype} [{expected}] with B at least 1, "
            f"found {images.dtype} {list(images.shape)}; ?fit= can bring files to its size"
        )


async def encode(engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]) -> dict[str, np.ndarray]:
    """Give the posterior's parameters.

    Args:
        engine: that runs.
        model: which.
        images: checked.

    Returns:
        `mean` and `log_variance`, `[B, D]` float32.
    """
    return await engine.run(model, "encode", {"x": images})


async def decode(engine: Engine, model: ServedModel, z: Float32[np.ndarray, "B D"]) -> UInt8[np.ndarray, "B H W C"]:
    """Give the likelihood's mean as images.

    Args:
        engine: that runs.
        model: which.
        z: latents, finite.

    Returns:
        The mean, rounded to even and clipped to 0 .. 255.

    Raises:
        ParameterError: another shape, or values that are not finite.
    """
    dimensions = _dimensions(model)
    if z.ndim != 2 or z.shape[1] != dimensions or len(z) == 0:
        raise ParameterError(f"z is {list(z.shape)}, {model.reference} takes [B, {dimensions}] with B at least 1")
    if not np.isfinite(z).all():
        raise ParameterError("z holds values that are not finite float32 numbers; send finite ones")
    return await _mean(engine, model, z.astype(np.float32, copy=False))


async def _mean(engine: Engine, model: ServedModel, z: Float32[np.ndarray, "B D"]) -> UInt8[np.ndarray, "B H W C"]:
    """Decode and round."""
    mean = (await engine.run(model, "decode", {"z": z}))["mean"]
    if not np.isfinite(mean).all():
        raise ParameterError("z is so large that the decoder overflows; the prior's own values are of the order of 1")
    return np.clip(np.rint(mean), 0, 255).astype(np.uint8)


async def reconstruct(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]
) -> UInt8[np.ndarray, "B H W C"]:
    """Encode and decode through the posterior's mean, without noise."""
    posterior = await encode(engine, model, images)
    return await _mean(engine, model, posterior["mean"])


async def sample(
    engine: Engine, model: ServedModel, *, n: int, seed: int, first_index: int, temperature: float
) -> UInt8[np.ndarray, "B H W C"]:
    """Draw images from the prior: the likelihood's mean at z = temperature * noise.

    Args:
        engine: that runs.
        model: which.
        n: how many, at most the settings' max_rows.
        seed: 0 .. 2^63 - 1.
        first_index: of the first image; image i has index first_index + i.
        temperature: factor on the prior's standard deviation, 0 .. 10.

    Returns:
        The images.

    Raises:
        ParameterError: a number is out of range.
        TooLargeError: n is over the limit.
    """
    _check_noise(seed, first_index, n)
    if n > engine.settings.max_rows:
        raise TooLargeError(f"n is {n}, at most {engine.settings.max_rows} are drawn at once; use first_index to go on")
    if not 0.0 <= temperature <= MAX_TEMPERATURE:
        raise ParameterError(f"temperature is {temperature}, expected 0 .. {MAX_TEMPERATURE:g}")
    dimensions = _dimensions(model)
    noise = await asyncio.to_thread(batch_normal, seed, first_index, n, (1, dimensions), stream=PRIOR_STREAM)
    return await _mean(engine, model, np.float32(temperature) * noise[:, 0])


async def likelihood(
    engine: Engine,
    model: ServedModel,
    images: UInt8[np.ndarray, "B H W C"],
    *,
    samples: int,
    seed: int,
    first_index: int,
) -> BoundEstimate:
    """Bound log p(x) by importance sampling: encoded once, weighed slice by slice.

    Args:
        engine: that runs.
        model: which.
        images: checked.
        samples: S, at most the settings' max_importance_samples.
        seed: 0 .. 2^63 - 1.
        first_index: of the first image.

    Returns:
        The bounds of every image.

    Raises:
        ParameterError: a number is out of range.
        TooLargeError: more samples than the limit.
    """
    _check_noise(seed, first_index, len(images))
    limit = engine.settings.max_importance_samples
    if samples < 1:
        raise ParameterError(f"samples is {samples}, expected at least 1")
    if samples > limit:
        raise TooLargeError(f"samples is {samples}, at most {limit} are drawn; ask for fewer")
    stream, dimensions = _posterior_stream(model), _dimensions(model)
    posterior = await encode(engine, model, images)
    accumulator = BoundAccumulator(len(images))
    for first_sample in range(0, samples, SAMPLE_SLICE):
        shape = (min(SAMPLE_SLICE, samples - first_sample), dimensions)
        noise = await asyncio.to_thread(
            batch_normal, seed, first_index, len(images), shape, stream=stream, first_sample=first_sample
        )
        terms = await engine.run(model, "log_weight", {"x": images, **posterior, "noise": noise})
        accumulator.add(terms["log_p_x_given_z"], terms["log_p_z"], terms["log_q"])
    return accumulator.result()


def _dimensions(model: ServedModel) -> int:
    """Give D of a model of real-valued latents."""
    level = model.manifest.latent[0]
    if not isinstance(level, ContinuousLevel):
        raise CapabilityError(f"{model.reference} has integer codes, not real-valued latents")
    return level.dimensions


def _posterior_stream(model: ServedModel) -> int:
    """Give the noise stream that the manifest names for the importance samples."""
    return next(noise.stream for noise in model.manifest.noise if noise.graph == "log_weight")


def _check_noise(seed: int, first_index: int, rows: int) -> None:
    """Check what names the noise."""
    if rows < 1:
        raise ParameterError(f"n is {rows}, expected at least 1")
    if not 0 <= seed <= MAX_SEED:
        raise ParameterError(f"seed is {seed}, expected 0 .. 2^63 - 1")
    if not 0 <= first_index <= MAX_SEED - (rows - 1):
        raise ParameterError(f"first_index is {first_index}, expected 0 .. 2^63 - 1 for every row")
