"""What the latent tools answer: pictures along a path, along dimensions, and around a point."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from artifact.noise import POSTERIOR_STREAM, batch_normal
from service import continuous
from service.answers import IMAGES, NUMBERS, Answer, Items, Row
from service.bodies import FORM, JSON, NPY, NPZ
from service.bodies import IMAGES as IMAGE_FILES
from service.endpoint import Call, read_pictures
from service.engine.work import Arrays
from service.errors import CapabilityError, ParameterError, TooLargeError
from service.latents import holds_vectors, read_vectors
from service.negotiation import choose
from service.operations import check_noise
from service.option_reading import choose_output, refuse_options
from service.options import MediaOptions, Names, NoiseOptions, split_or_wrap
from service.tools import PathKind, Vectors, cloud, path, sweep
from service.vectors import Z, deviations, dimensions_of, has_diagonal_posterior, prior_moments, quantities_of

BODIES = (*IMAGE_FILES, FORM, NPY, NPZ, JSON)
"""What holds the points that a tool begins with: pictures, or latents."""

_MOST = 10.0
"""Standard deviations, as of a temperature: whatever lies further out, no model has seen."""

_OF_PICTURES = ("fit", "binarize")
"""Options that only pictures have a use for."""

Dimensions = Annotated[tuple[int, ...], BeforeValidator(split_or_wrap), Field(min_length=1)]


class ToolOptions(MediaOptions):
    """What every tool takes."""

    output: Names | None = Field(
        default=None,
        description="comma list of what to answer, the primary first: `images`, and `z`, the points that they are "
        "decoded from; left out: images",
    )


class InterpolateOptions(ToolOptions):
    """What `/interpolate` takes."""

    steps: int = Field(default=8, ge=2, description="pictures on the path, both ends included")
    kind: PathKind = Field(
        default="linear",
        description="`linear`, or `spherical`: along the arc (White 2016), and linear where none is defined, since an "
        "end is zero or both point the same or the opposite way; the header `x-latentd-path` tells which it was",
    )


class TraverseOptions(ToolOptions):
    """What `/traverse` takes."""

    dimension: Dimensions | None = Field(
        default=None, description="comma list of dimensions of z, from 0: a row of pictures each; left out: all"
    )
    low: float = Field(
        default=-3.0, ge=-_MOST, le=_MOST, description="first value, in standard deviations of the prior from its mean"
    )
    high: float = Field(default=3.0, ge=-_MOST, le=_MOST, description="last value, likewise")
    steps: int = Field(default=7, ge=2, description="pictures of a row, both ends included")


class VaryOptions(ToolOptions, NoiseOptions):
    """What `/vary` takes."""

    n: int = Field(default=16, ge=1, description="how many pictures")
    scale: float = Field(default=0.5, ge=0.0, le=_MOST, description="of the noise that is added to z")
    unit: Literal["latent", "posterior"] = Field(
        default="latent",
        description="of the scale: that of z itself, or of each dimension the standard deviation of the picture's "
        "posterior, where it is a diagonal Gaussian",
    )


async def interpolate(call: Call[InterpolateOptions]) -> Answer:
    """Answer the pictures on a path between two points."""
    options = call.options
    _check(call, options.steps, "ask for fewer steps")
    points, _ = await _points(call, 2, options.steps)
    z, kind = await asyncio.to_thread(path, points[0], points[1], options.steps, options.kind)
    rows: list[Row] = [{"t": float(t)} for t in np.linspace(0.0, 1.0, options.steps)]
    answer = await _shown(call, z, rows, columns=options.steps)
    answer.headers["x-latentd-path"] = kind
    return answer


async def traverse(call: Call[TraverseOptions]) -> Answer:
    """Answer the pictures of a point, or of the prior's mean, as its dimensions are swept, a row each."""
    options, engine, model = call.options, call.service.engine, call.model
    dimensions = _dimensions(call)
    count = len(dimensions) * options.steps
    _check(call, count, "name some with dimension, or ask for fewer steps")
    if model.manifest.bound is None and _is_empty(call):
        raise CapabilityError(f"{model.reference} has no prior to begin with; send a picture or a latent")
    start = None if _is_empty(call) else (await _points(call, 1, count))[0][0]
    with call.phases.measure("prior"):
        mean, deviation = await prior_moments(engine, model, admit=_let_in(call, count))
    sweeps = np.linspace(options.low, options.high, options.steps, dtype=np.float32)
    values = mean[dimensions, None] + deviation[dimensions, None] * sweeps
    z = await asyncio.to_thread(sweep, mean if start is None else start, dimensions, values)
    rows: list[Row] = [
        {"dimension": dimension, "value": float(value)}
        for dimension, swept in zip(dimensions, values, strict=True)
        for value in swept
    ]
    return await _shown(call, z, rows, columns=options.steps)


async def vary(call: Call[VaryOptions]) -> Answer:
    """Answer the pictures of points around one."""
    options, model = call.options, call.model
    _check(call, options.n, "use first_index to go on")
    check_noise(options.seed, options.first_index, options.n)
    if options.unit == "posterior":
        _check_unit(call)
    points, posterior = await _points(call, 1, options.n)
    deviation = deviations(posterior)[0] if options.unit == "posterior" else None
    shape = (1, dimensions_of(model))

    def around() -> Vectors:
        noise = batch_normal(options.seed, options.first_index, options.n, shape, stream=POSTERIOR_STREAM)
        return cloud(points[0], noise[:, 0], options.scale, deviation)

    answer = await _shown(call, await asyncio.to_thread(around), None)
    answer.seed = options.seed
    return answer


def _check(call: Call[Any], count: int, cure: str) -> None:
    """Refuse an answer that there is not, or one of more pictures than a request may have, before work is done."""
    _type_for(call, _output(call))
    limit = call.service.settings.max_rows
    if count > limit:
        raise TooLargeError(f"{count} pictures are asked for, at most {limit} are made at once; {cure}")
    continuous.check_decoded(call.service.engine, call.model, count)


def _let_in(call: Call[Any], count: int) -> int:
    """Give how many rows the next run lets in: all that will be made, where it is the request's first one."""
    return count if call.caller.first is None else 0


def _dimensions(call: Call[TraverseOptions]) -> list[int]:
    """Give the dimensions to sweep, each once."""
    known = range(dimensions_of(call.model))
    asked = list(dict.fromkeys(known if call.options.dimension is None else call.options.dimension))
    if strange := [dimension for dimension in asked if dimension not in known]:
        raise ParameterError(f"dimension is {strange[0]}, expected 0 .. {known[-1]}, those of {call.model.reference}")
    return asked


def _is_empty(call: Call[Any]) -> bool:
    """Tell whether a body holds neither pictures nor latents."""
    if call.body.items or call.body.media_type not in ("", JSON):
        return False
    refuse_options(call.options, _OF_PICTURES, "no picture is sent")
    return True


async def _points(call: Call[Any], wanted: int, made: int) -> tuple[Vectors, Arrays]:
    """Read as many points as are wanted, and what their pictures encode to; nothing of those that come as latents.

    Args:
        call: the request.
        wanted: how many.
        made: pictures that will be made of them.

    Returns:
        The points, held against the model, and the posterior.
    """
    body, model, settings = call.body, call.model, call.service.settings
    if _is_empty(call):
        _check_wanted(0, wanted)
    if holds_vectors(body, model):
        refuse_options(call.options, _OF_PICTURES, "latents are sent, not pictures")
        with call.phases.measure("media"):
            points = await call.service.off_loop(lambda: read_vectors(body, model, settings))
        continuous.check_vectors(model, points)
        _check_wanted(len(points), wanted)
        return points, {}
    if "encode" not in model.manifest.capabilities:
        raise CapabilityError(f"{model.reference} cannot encode pictures; send latents")
    given = await read_pictures(call)
    _check_wanted(len(given.images), wanted)
    with call.phases.measure("compute"):
        admit = _let_in(call, wanted + made)
        posterior = await continuous.encode(call.service.engine, model, given.images, admit=admit)
    return posterior[quantities_of(model)[0]], posterior


def _check_wanted(found: int, wanted: int) -> None:
    """Refuse another number of points than a tool begins with.

    Raises:
        ParameterError: there are none, fewer or more.
    """
    if found != wanted:
        held = f"{found} pictures or latents" if found else "nothing to begin with"
        told = f"{wanted} pictures or latents" if wanted > 1 else "one picture or latent"
        raise ParameterError(f"the request holds {held}; send {told}")


def _check_unit(call: Call[VaryOptions]) -> None:
    """Refuse the posterior's standard deviations as a unit where there are none.

    Raises:
        CapabilityError: of the model's posterior.
        ParameterError: of what was sent.
    """
    model = call.model
    if not has_diagonal_posterior(model):
        raise CapabilityError(
            f"the posterior of {model.reference} is no diagonal Gaussian, whose deviations could be a unit; leave "
            "unit out, or choose another model"
        )
    if holds_vectors(call.body, model):
        raise ParameterError("unit is posterior, and a latent is sent, which has none; send a picture, or leave it out")


async def _shown(call: Call[Any], z: Vectors, rows: Sequence[Row] | None, *, columns: int | None = None) -> Answer:
    """Answer points of an admitted request as pictures, as they are, or both."""
    output = _output(call)
    arrays: dict[str, Items] = {Z: z}
    if IMAGES in output:
        with call.phases.measure("decode"):
            admit = _let_in(call, len(z))
            arrays[IMAGES] = await continuous.decode(call.service.engine, call.model, z, admit=admit)
    answered = {name: arrays[name] for name in output}
    return Answer(arrays=answered, rows=rows, media_type=_type_for(call, output), columns=columns)


def _output(call: Call[Any]) -> tuple[str, ...]:
    """Name the arrays that are asked for, the primary first."""
    return choose_output(call.options.output, (IMAGES, Z), (IMAGES,))


def _type_for(call: Call[Any], output: Sequence[str]) -> str:
    """Choose the type of an answer of these arrays."""
    return call.media_type if IMAGES in output else choose(call.accept, NUMBERS)
