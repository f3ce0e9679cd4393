"""The real-valued latents z of a model: what encodes to them, and draws from its posterior and its prior."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from artifact.manifest import ContinuousLevel
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM, batch_normal
from service.engine.engine import Engine
from service.engine.lanes import Lane, current_caller, in_lane
from service.engine.opening import SAMPLE_SLICE, ServedModel
from service.engine.work import Arrays
from service.errors import CapabilityError, ParameterError, TooLargeError
from service.operations import check_noise
from service.settings import Settings

Z = "z"
"""The array of latents."""
DRAW, DRAW_PRIOR, LOG_WEIGHT = "draw", "draw_prior", "log_weight"
"""Roles of graphs that take noise."""

_DIAGONAL = ("mean", "log_variance")
_INNER_UNITS = ("hidden", "context")
"""Of what only the model's own graphs can read."""
_PRIOR_DRAWS = 1024
"""So many draws tell the moments of a prior that is not standard normal, its deviations within some 2%."""

Step = Callable[[int, Float32[NDArray[np.float32], "B s N"]], Awaitable[None]]
"""What is done with the noise of a slice of samples; the number is that of its first one."""


def dimensions_of(model: ServedModel) -> int:
    """Give D of a model of real-valued latents.

    Raises:
        CapabilityError: it has codes.
    """
    level = model.manifest.latent[0]
    if not isinstance(level, ContinuousLevel):
        raise CapabilityError(f"{model.reference} has integer codes, not real-valued latents")
    return level.dimensions


def quantities_of(model: ServedModel) -> tuple[str, ...]:
    """Name what a model encodes to, in its order; the first is the one z that stands for an input."""
    return tuple(tensor.name for tensor in model.manifest.graphs["encode"].outputs)


def told_of(model: ServedModel) -> tuple[str, ...]:
    """Name what of that is answered where nothing is asked for: what a reader can make something of."""
    outputs = model.manifest.graphs["encode"].outputs
    return tuple(tensor.name for tensor in outputs if tensor.unit not in _INNER_UNITS)


def has_diagonal_posterior(model: ServedModel) -> bool:
    """Tell whether the posterior is a Gaussian of independent dimensions, so that its outputs say all of it."""
    return quantities_of(model) == _DIAGONAL


def deviations(posterior: Arrays) -> Float32[np.ndarray, "B D"]:
    """Give the standard deviations of diagonal posteriors."""
    found: NDArray[np.float32] = np.exp(posterior["log_variance"] / 2)
    return found


def check_posterior(model: ServedModel) -> None:
    """Refuse to draw from a posterior that there is not.

    Raises:
        CapabilityError: there is none, or no graph that draws from it.
    """
    if DRAW in model.manifest.graphs or has_diagonal_posterior(model):
        return
    told = ", ".join(quantities_of(model))
    raise CapabilityError(
        f"{model.reference} encodes to {told} and has no posterior to draw from; leave samples out, or choose another "
        "model"
    )


def check_samples(settings: Settings, samples: int) -> None:
    """Refuse a number of samples of an item.

    Raises:
        ParameterError: there are none.
        TooLargeError: more than the limit.
    """
    if samples < 1:
        raise ParameterError(f"samples is {samples}, expected at least 1")
    if samples > settings.max_importance_samples:
        raise TooLargeError(f"samples is {samples}, at most {settings.max_importance_samples} are drawn; ask for fewer")


def check_drawn(settings: Settings, model: ServedModel, rows: int, samples: int) -> None:
    """Refuse more samples of z than one answer may hold, before memory is taken for them.

    Raises:
        ParameterError: there are none.
        TooLargeError: too many of an item, or of all.
    """
    check_samples(settings, samples)
    values = rows * samples * dimensions_of(model)
    if values > settings.max_drawn_values:
        raise TooLargeError(
            f"{samples} samples of {rows} items in {dimensions_of(model)} dimensions are {values} numbers, at most "
            f"{settings.max_drawn_values} are drawn; ask for fewer samples, or split the request"
        )


async def draw_posterior(
    engine: Engine, model: ServedModel, posterior: Arrays, *, samples: int, seed: int, first_index: int
) -> Float32[np.ndarray, "B S D"]:
    """Draw z given x: the very samples that `continuous.likelihood` weighs for the same seed.

    Args:
        engine: that runs.
        model: which.
        posterior: what `encode` gave, of an admitted request.
        samples: S, see `check_drawn`.
        seed: 0 .. 2^63 - 1.
        first_index: of the first row.

    Returns:
        The samples.

    Raises:
        CapabilityError: the model has no posterior.
        ParameterError: a number is out of range.
        TooLargeError: there are too many samples.
    """
    check_posterior(model)
    rows = len(next(iter(posterior.values())))
    check_noise(seed, first_index, rows)
    check_drawn(engine.settings, model, rows, samples)
    z = np.empty((rows, samples, dimensions_of(model)), dtype=np.float32)

    async def draw(first: int, noise: NDArray[np.float32]) -> None:
        if DRAW in model.manifest.graphs:
            outputs = await engine.run(model, DRAW, given(model, DRAW, posterior, noise), admit=0)
            z[:, first : first + noise.shape[1]] = outputs[Z]
        else:
            mean, deviation = posterior["mean"][:, None], deviations(posterior)[:, None]
            z[:, first : first + noise.shape[1]] = await asyncio.to_thread(lambda: mean + deviation * noise)

    await over_samples(model, DRAW, draw, rows=rows, samples=samples, seed=seed, first_index=first_index)
    return z


async def over_samples(
    model: ServedModel, role: str, step: Step, *, rows: int, samples: int, seed: int, first_index: int
) -> None:
    """Take a step for each slice of samples, with its noise.

    Args:
        model: which.
        role: of the graph that the noise is for.
        step: awaited for each slice.
        rows: B.
        samples: S.
        seed: of the noise.
        first_index: of the first row.
    """
    _, width, stream = _noise_of(model, role)
    caller = current_caller()
    for first in range(0, samples, SAMPLE_SLICE):
        shape = (min(SAMPLE_SLICE, samples - first), width)
        noise = await asyncio.to_thread(batch_normal, seed, first_index, rows, shape, stream=stream, first_sample=first)
        # The first slice is as urgent as its caller; the later ones of long work let everybody else go first.
        with in_lane(caller.lane if first == 0 else Lane.BULK):
            await step(first, noise)
        if caller.progress is not None:
            caller.progress.tell(first + shape[0], samples)


def given(model: ServedModel, role: str, posterior: Arrays, noise: NDArray[np.float32]) -> Arrays:
    """Give the inputs of a graph that takes noise: of the posterior what it declares."""
    names = {tensor.name for tensor in model.manifest.graphs[role].inputs}
    return {_noise_of(model, role)[0]: noise} | {name: array for name, array in posterior.items() if name in names}


async def draw_prior(
    engine: Engine,
    model: ServedModel,
    *,
    n: int,
    seed: int,
    first_index: int,
    temperature: float,
    admit: int | None = None,
) -> Float32[np.ndarray, "n D"]:
    """Draw z from the prior.

    Args:
        engine: that runs.
        model: which.
        n: how many.
        seed: 0 .. 2^63 - 1.
        first_index: of the first one.
        temperature: factor on standard deviations.
        admit: see `Engine.run`; not used where noise is a draw as it is.

    Returns:
        The draws.

    Raises:
        ParameterError: they overflow.
    """
    if DRAW_PRIOR not in model.manifest.graphs:
        shape = (1, dimensions_of(model))
        noise = await asyncio.to_thread(batch_normal, seed, first_index, n, shape, stream=PRIOR_STREAM)
        return np.float32(temperature) * noise[:, 0]
    name, width, stream = _noise_of(model, DRAW_PRIOR)
    noise = await asyncio.to_thread(batch_normal, seed, first_index, n, (1, width), stream=stream)
    rows = {name: noise[:, 0], "temperature": np.full(n, temperature, dtype=np.float32)}
    z = (await engine.run(model, DRAW_PRIOR, rows, admit=admit))[Z]
    if not np.isfinite(z).all():
        raise ParameterError(f"temperature is {temperature:g}, at which draws of {model.reference} overflow; lower it")
    return z


async def prior_moments(
    engine: Engine, model: ServedModel, *, admit: int | None = None
) -> tuple[Float32[np.ndarray, " D"], Float32[np.ndarray, " D"]]:
    """Give the mean and the standard deviations of the prior: known of a standard normal one, else of fixed draws.

    Args:
        engine: that runs.
        model: which.
        admit: see `Engine.run`.

    Returns:
        Both, of each dimension.
    """
    dimensions = dimensions_of(model)
    if DRAW_PRIOR not in model.manifest.graphs:
        return np.zeros(dimensions, dtype=np.float32), np.ones(dimensions, dtype=np.float32)
    z = await draw_prior(engine, model, n=_PRIOR_DRAWS, seed=0, first_index=0, temperature=1.0, admit=admit)
    mean, deviation = z.mean(axis=0, dtype=np.float64), z.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), deviation.astype(np.float32)


def _noise_of(model: ServedModel, role: str) -> tuple[str, int, int]:
    """Give the noise that a graph takes: the input's name, how many numbers a sample has, and their stream.

    A posterior whose outputs say all of it needs no graph to be drawn from.
    """
    graph = model.manifest.graphs.get(role)
    if graph is None:
        return "noise", dimensions_of(model), POSTERIOR_STREAM
    noise = next(noise for noise in model.manifest.noise if noise.graph == role)
    shapes = {tensor.name: tensor.shape for tensor in graph.inputs}
    return noise.tensor, int(shapes[noise.tensor][-1]), noise.stream
