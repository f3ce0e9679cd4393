"""What a model of real-valued latents does, without a word of HTTP: arrays and numbers in, arrays out."""

import asyncio

import numpy as np
from jaxtyping import Float32, UInt8

from artifact.bounds import BoundAccumulator, BoundEstimate
from artifact.manifest import ContinuousLevel, ImageGeometry
from artifact.noise import PRIOR_STREAM, batch_normal
from service.engine.engine import Engine
from service.engine.lanes import Lane, current_caller, in_lane
from service.engine.opening import SAMPLE_SLICE, ServedModel
from service.errors import CapabilityError, ParameterError, TooLargeError
from service.limits import check_pixels
from service.operations import check_draw, check_noise, to_pixels


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
        TooLargeError: they would decode to more pixels than the limits.
    """
    dimensions = _dimensions(model)
    if z.ndim != 2 or z.shape[1] != dimensions or len(z) == 0:
        raise ParameterError(f"z is {list(z.shape)}, {model.reference} takes [B, {dimensions}] with B at least 1")
    _check_pixels(engine, model, len(z))
    if not np.isfinite(z).all():
        raise ParameterError("z holds values that are not finite float32 numbers; send finite ones")
    return await _mean(engine, model, z.astype(np.float32, copy=False))


async def _mean(
    engine: Engine, model: ServedModel, z: Float32[np.ndarray, "B D"], *, admit: int | None = None
) -> UInt8[np.ndarray, "B H W C"]:
    """Decode and round."""
    mean = (await engine.run(model, "decode", {"z": z}, admit=admit))["mean"]
    if not np.isfinite(mean).all():
        raise ParameterError("z is so large that the decoder overflows; the prior's own values are of the order of 1")
    return await asyncio.to_thread(to_pixels, mean)


async def reconstruct(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"]
) -> UInt8[np.ndarray, "B H W C"]:
    """Encode and decode through the posterior's mean, without noise."""
    posterior = await encode(engine, model, images)
    return await _mean(engine, model, posterior["mean"], admit=0)


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
        TooLargeError: n is over the limit, or the pictures would be.
    """
    check_draw(engine.settings, n=n, seed=seed, first_index=first_index, temperature=temperature)
    _check_pixels(engine, model, n)
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
    check_noise(seed, first_index, len(images))
    limit = engine.settings.max_importance_samples
    if samples < 1:
        raise ParameterError(f"samples is {samples}, expected at least 1")
    if samples > limit:
        raise TooLargeError(f"samples is {samples}, at most {limit} are drawn; ask for fewer")
    stream, dimensions = _posterior_stream(model), _dimensions(model)
    posterior = await encode(engine, model, images)
    accumulator = BoundAccumulator(len(images))
    caller = current_caller()
    for first_sample in range(0, samples, SAMPLE_SLICE):
        shape = (min(SAMPLE_SLICE, samples - first_sample), dimensions)
        noise = await asyncio.to_thread(
            batch_normal, seed, first_index, len(images), shape, stream=stream, first_sample=first_sample
        )
        # A bound of one slice is as urgent as its caller; the later slices of a long one let everybody else go first.
        with in_lane(caller.lane if first_sample == 0 else Lane.BULK):
            terms = await engine.run(model, "log_weight", {"x": images, **posterior, "noise": noise}, admit=0)
        accumulator.add(terms["log_p_x_given_z"], terms["log_p_z"], terms["log_q"])
        if caller.progress is not None:
            caller.progress.tell(first_sample + shape[0], samples)
    return accumulator.result()


def _dimensions(model: ServedModel) -> int:
    """Give D of a model of real-valued latents."""
    level = model.manifest.latent[0]
    if not isinstance(level, ContinuousLevel):
        raise CapabilityError(f"{model.reference} has integer codes, not real-valued latents")
    return level.dimensions


def _check_pixels(engine: Engine, model: ServedModel, rows: int) -> None:
    """Refuse to make more pixels than one request may have."""
    geometry = model.manifest.geometry
    if isinstance(geometry, ImageGeometry) and geometry.height and geometry.width:
        total = rows * geometry.height * geometry.width
        check_pixels(engine.settings, geometry.height, geometry.width, total=total)


def _posterior_stream(model: ServedModel) -> int:
    """Give the noise stream that the manifest names for the importance samples."""
    return next(noise.stream for noise in model.manifest.noise if noise.graph == "log_weight")
