"""What each endpoint answers for a model of real-valued latents."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from artifact.bounds import bits_per_dim
from artifact.noise import draw_seed
from service import continuous
from service.answers import IMAGES, PNG, Answer, Items, Row
from service.continuous import EXACT, is_density
from service.endpoint import Call, read_pictures
from service.engine.opening import ServedModel
from service.errors import CapabilityError
from service.latents import read_vectors
from service.option_reading import choose_output, refuse_options
from service.options import (
    TIGHTEST_FIRST,
    BoundName,
    DecodeOptions,
    EncodeOptions,
    LikelihoodOptions,
    ReconstructOptions,
    SampleOptions,
)
from service.routes.pictures import compare
from service.vectors import LOG_WEIGHT, Z, check_drawn, check_posterior, draw_posterior, quantities_of, told_of

_NOISE = ("samples", "seed", "first_index")
"""Options of what is drawn."""
_BOUNDS = tuple(f"{name}_nats" for name in TIGHTEST_FIRST)
_FIGURES = ("iwae_standard_error_nats", "effective_sample_size", "reconstruction_nats", "kl_nats")
"""What importance samples tell beside the bounds."""

Figures = Float64[NDArray[np.float64], " B"]


async def encode(call: Call[EncodeOptions]) -> Answer:
    """Answer what describes the posterior, and draws from it where these are asked for."""
    options, model, engine = call.options, call.model, call.service.engine
    names = quantities_of(model)
    output = choose_output(options.output, (*names, Z), told_of(model) if options.samples is None else (Z,))
    if Z not in output or (Z in names and options.samples is None):
        refuse_options(options, _NOISE, _nothing_drawn(output))
        given = await read_pictures(call)
        with call.phases.measure("compute"):
            arrays = await continuous.encode(engine, model, given.images)
        return Answer(arrays={name: arrays[name] for name in output})
    check_posterior(model)
    given = await read_pictures(call)
    samples = 1 if options.samples is None else options.samples
    check_drawn(engine.settings, model, len(given.images), samples)
    seed = draw_seed() if options.seed is None else options.seed
    with call.phases.measure("compute"):
        arrays = await continuous.encode(engine, model, given.images)
        z = await draw_posterior(engine, model, arrays, samples=samples, seed=seed, first_index=options.first_index)
    arrays[Z] = z[:, 0] if options.samples is None else z
    return Answer(arrays={name: arrays[name] for name in output}, seed=seed)


def _nothing_drawn(output: Sequence[str]) -> str:
    """Say why an answer holds no draws."""
    if Z in output:
        return "z without samples is the encoder's own, which is not drawn: say how many with samples="
    return "output names no z, which alone is drawn"


async def decode(call: Call[DecodeOptions]) -> Answer:
    """Answer the likelihood's mean."""
    with call.phases.measure("media"):
        z = await call.service.off_loop(lambda: read_vectors(call.body, call.model, call.service.settings))
    with call.phases.measure("compute"):
        return Answer(arrays={IMAGES: await continuous.decode(call.service.engine, call.model, z)})


async def reconstruct(call: Call[ReconstructOptions]) -> Answer:
    """Answer the pictures through the posterior's mean."""
    return await compare(call, continuous.reconstruct)


async def sample(call: Call[SampleOptions]) -> Answer:
    """Answer pictures drawn from the prior."""
    options = call.options
    choose_output(options.output, (IMAGES,), (IMAGES,))
    with call.phases.measure("compute"):
        images = await continuous.sample(
            call.service.engine,
            call.model,
            n=options.n,
            seed=options.seed,
            first_index=options.first_index,
            temperature=options.temperature,
        )
    return Answer(arrays={IMAGES: images}, seed=options.seed)


async def likelihood(call: Call[LikelihoodOptions]) -> Answer:
    """Answer bounds from importance samples."""
    options = call.options
    if call.media_type == PNG:
        raise CapabilityError(
            f"{call.model.reference} has no codes whose surprise a picture could show; accept application/json"
        )
    bounds = _bounds(call)
    is_sampled = bounds != ("exact",)
    if not is_sampled:
        refuse_options(options, _NOISE, "exact alone is asked for, which takes no samples")
    given = await read_pictures(call)
    engine, found = call.service.engine, dict[str, Figures]()
    with call.phases.measure("compute"):
        if is_sampled:
            estimate = await continuous.likelihood(
                engine,
                call.model,
                given.images,
                samples=options.samples,
                seed=options.seed,
                first_index=options.first_index,
            )
            found |= {field.name: getattr(estimate, field.name) for field in fields(estimate)}
        if "exact" in bounds:
            admit = 0 if is_sampled else None
            found["exact_nats"] = await continuous.exact(engine, call.model, given.images, admit=admit)
    arrays, others = _figures(call.model, found, bounds, int(np.prod(given.images.shape[1:])))
    rows = [others for _ in range(len(given.images))]
    return Answer(arrays=arrays, rows=rows, seed=options.seed if is_sampled else None)


def _bounds(call: Call[LikelihoodOptions]) -> tuple[BoundName, ...]:
    """Give the bounds asked for, or all that the model has."""
    model = call.model
    sampled: tuple[BoundName, ...] = ("iwae", "elbo") if LOG_WEIGHT in model.manifest.graphs else ()
    is_exact = model.manifest.bound == "exact" and EXACT in model.manifest.graphs
    available: tuple[BoundName, ...] = ("exact", *sampled) if is_exact else sampled
    asked = call.options.bounds or available
    if missing := [name for name in asked if name not in available]:
        raise CapabilityError(
            f"{model.reference} does not know {' and '.join(missing)} of log p(x), only {', '.join(available)}; ask "
            f"for bounds={','.join(reversed(available))}"
        )
    return asked


def _figures(
    model: ServedModel, found: dict[str, Figures], bounds: tuple[BoundName, ...], dimensions: int
) -> tuple[dict[str, Items], Row]:
    """Name the figures of a bound as the wire has them: those that there are, and what each item has in their stead."""
    asked = [f"{name}_nats" for name in TIGHTEST_FIRST if name in bounds]
    arrays: dict[str, Items] = {name: found[name] for name in (*asked, *_FIGURES) if name in found}
    others: Row = {name: None for name in (*_BOUNDS, *_FIGURES) if name not in arrays}
    if is_density(model):
        return arrays, others | {"bits_per_dim": None, "bits_per_dim_bound": None, "density": True}
    arrays["bits_per_dim"] = bits_per_dim(found[asked[0]], dimensions)
    return arrays, others | {"bits_per_dim_bound": asked[0].removesuffix("_nats")}
