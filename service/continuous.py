"""What a model of real-valued latents does, without a word of HTTP: arrays and numbers in, arrays out."""

import asyncio

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from numpy.typing import NDArray

from artifact.bounds import DENSITY_UNIT, BoundAccumulator, BoundEstimate
from artifact.manifest import ImageGeometry
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.limits import check_pixels
from service.operations import check_draw, check_noise, to_pixels
from service.vectors import (
    DRAW_PRIOR,
    LOG_WEIGHT,
    check_samples,
    dimensions_of,
    draw_prior,
    given,
    over_samples,
    quantities_of,
)

EXACT = "exact"
"""Role of the graph that gives log p(x), and the kind of bound of a model that has it."""


async def encode(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"], *, admit: int | None = None
) -> dict[str, np.ndarray]:
    """Give the posterior's parameters.

    Args:
        engine: that runs.
        model: which.
        images: checked.
        admit: see `Engine.run`.

    Returns:
        What the model encodes to, float32 by name; see `quantities_of`.
    """
    return await engine.run(model, "encode", {"x": images}, admit=admit)


async def decode(
    engine: Engine, model: ServedModel, z: Float32[np.ndarray, "B D"], *, admit: int | None = None
) -> UInt8[np.ndarray, "B H W C"]:
    """Give the likelihood's mean as images.

    Args:
        engine: that runs.
        model: which.
        z: latents, finite.
        admit: see `Engine.run`.

    Returns:
        The mean, rounded to even and clipped to 0 .. 255.

    Raises:
        ParameterError: another shape, or values that are not finite.
        TooLargeError: they would decode to more pixels than the limits.
    """
    check_vectors(model, z)
    check_decoded(engine, model, len(z))
    return await _mean(engine, model, z.astype(np.float32, copy=False), admit=admit)


def check_vectors(model: ServedModel, z: NDArray[np.floating]) -> None:
    """Hold latents against a model's dimensions.

    Raises:
        ParameterError: another shape, or values that are not finite.
    """
    dimensions = dimensions_of(model)
    if z.ndim != 2 or z.shape[1] != dimensions or len(z) == 0:
        raise ParameterError(f"z is {list(z.shape)}, {model.reference} takes [B, {dimensions}] with B at least 1")
    if not np.isfinite(z).all():
        raise ParameterError("z holds values that are not finite float32 numbers; send finite ones")


def check_decoded(engine: Engine, model: ServedModel, rows: int) -> None:
    """Refuse to make more pixels than one request may have.

    Raises:
        TooLargeError: there would be more.
    """
    geometry = model.manifest.geometry
    if isinstance(geometry, ImageGeometry) and geometry.height and geometry.width:
        total = rows * geometry.height * geometry.width
        check_pixels(engine.settings, geometry.height, geometry.width, total=total)


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
    """Encode and decode through the one z that stands for each image, without noise."""
    posterior = await encode(engine, model, images)
    return await _mean(engine, model, posterior[quantities_of(model)[0]], admit=0)


async def sample(
    engine: Engine, model: ServedModel, *, n: int, seed: int, first_index: int, temperature: float
) -> UInt8[np.ndarray, "B H W C"]:
    """Draw images from the prior: the likelihood's mean at a z that is drawn.

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
    check_decoded(engine, model, n)
    z = await draw_prior(engine, model, n=n, seed=seed, first_index=first_index, temperature=temperature)
    return await _mean(engine, model, z, admit=0 if DRAW_PRIOR in model.manifest.graphs else None)


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
    check_samples(engine.settings, samples)
    posterior = await encode(engine, model, images)
    accumulator = BoundAccumulator(len(images))

    async def weigh(_: int, noise: NDArray[np.float32]) -> None:
        rows = {"x": images} | given(model, LOG_WEIGHT, posterior, noise)
        terms = await engine.run(model, LOG_WEIGHT, rows, admit=0)
        accumulator.add(terms["log_p_x_given_z"], terms["log_p_z"], terms["log_q"])

    rows = len(images)
    await over_samples(model, LOG_WEIGHT, weigh, rows=rows, samples=samples, seed=seed, first_index=first_index)
    return accumulator.result()


def is_density(model: ServedModel) -> bool:
    """Tell whether log p(x) is of a density, not of the probability of bytes, and so no code length."""
    graphs = (model.manifest.graphs[role] for role in (EXACT, LOG_WEIGHT) if role in model.manifest.graphs)
    return any(tensor.unit == DENSITY_UNIT for graph in graphs for tensor in graph.outputs)


async def exact(
    engine: Engine, model: ServedModel, images: UInt8[np.ndarray, "B H W C"], *, admit: int | None = None
) -> Float64[np.ndarray, " B"]:
    """Give log p(x) of a model that knows it.

    Args:
        engine: that runs.
        model: which has the graph `exact`.
        images: checked.
        admit: see `Engine.run`.

    Returns:
        Nats of every image.
    """
    return (await engine.run(model, EXACT, {"x": images}, admit=admit))["log_p_x"]
