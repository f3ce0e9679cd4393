"""What each endpoint answers for a model of integer codes."""

from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy.typing import NDArray

from media.heatmap import heatmap
from media.images import contact_sheet, write_png
from service import discrete
from service.answers import IMAGES, NUMBERS, NUMBERS_OR_MAPS, PNG, Answer, Items, Row, type_for
from service.bodies import Pictures
from service.conditions import to_condition
from service.discrete import CodesBound
from service.endpoint import Call, read_pictures
from service.engine.lanes import Caller, Lane, as_caller
from service.errors import CapabilityError, ParameterError
from service.latents import read_codes
from service.negotiation import choose
from service.options import (
    DecodeOptions,
    EncodeOptions,
    LikelihoodOptions,
    ReconstructOptions,
    SampleOptions,
    choose_output,
    refuse_options,
)
from service.routes.pictures import compare
from service.sampling import decode_drawn, sample_codes

CODES, Z_Q = "codes", "z_q"

_SHOWN = 16
"""Pictures of a preview: more of them cannot be followed."""


async def encode(call: Call[EncodeOptions]) -> Answer:
    """Answer codes, and the vectors that they stand for where these are asked for."""
    output = choose_output(call.options.output, (CODES, Z_Q), (CODES,))
    given = await read_pictures(call)
    engine = call.service.engine
    with call.phases.measure("compute"):
        codes = await discrete.encode(engine, call.model, given.images)
        arrays: dict[str, Items] = {CODES: codes}
        if Z_Q in output:
            arrays[Z_Q] = await discrete.embed(engine, call.model, codes)
    return Answer(arrays={name: arrays[name] for name in output})


async def decode(call: Call[DecodeOptions]) -> Answer:
    """Answer the likelihood's mean."""
    settings = call.service.settings
    with call.phases.measure("media"):
        codes = await call.service.off_loop(
            lambda: discrete.check_codes(settings, call.model, read_codes(call.body, call.model, settings))
        )
    with call.phases.measure("compute"):
        return Answer(arrays={IMAGES: await discrete.decode(call.service.engine, call.model, codes)})


async def reconstruct(call: Call[ReconstructOptions]) -> Answer:
    """Answer the pictures through their codes."""
    return await compare(call, discrete.reconstruct)


async def sample(call: Call[SampleOptions]) -> Answer:
    """Answer codes drawn from the learned prior, and their pictures."""
    options, engine = call.options, call.service.engine
    output = choose_output(options.output, (IMAGES, CODES), (IMAGES, CODES))
    media_type = call.media_type if IMAGES in output else choose(call.accept, NUMBERS)
    with call.phases.measure("compute"):
        codes = await sample_codes(
            engine,
            call.model,
            n=options.n,
            seed=options.seed,
            first_index=options.first_index,
            temperature=options.temperature,
            top_k=options.top_k,
            labels=options.labels,
        )
        arrays: dict[str, Items] = {CODES: codes}
        if IMAGES in output:
            arrays[IMAGES] = await discrete.decode(engine, call.model, codes, admit=0)
    return Answer(arrays={name: arrays[name] for name in output}, seed=options.seed, media_type=media_type)


async def preview(call: Call[SampleOptions], codes: Int32[NDArray[Any], "n h w"]) -> bytes:
    """Show what has been drawn of the first pictures."""
    with as_caller(Caller(Lane.BULK, call.deadline.end_s)):
        images = await decode_drawn(call.service.engine, call.model, codes[:_SHOWN])
    return await call.service.off_loop(lambda: write_png(contact_sheet(images)))


async def likelihood(call: Call[LikelihoodOptions]) -> Answer:
    """Answer the one bound there is, or as a picture where it comes from."""
    options, model = call.options, call.model
    refuse_options(
        options, ("samples", "seed", "first_index"), f"the posterior of {model.reference} is deterministic: no noise"
    )
    if set(options.bounds or ()) - {"elbo"}:
        raise CapabilityError(
            f"the posterior of {model.reference} is deterministic, so that elbo is the only bound; ask for bounds=elbo"
        )
    given = await read_pictures(call)
    condition = to_condition(model, options.labels, len(given.images))
    if options.labels is not None and not discrete.has_prior_for(model, discrete.grid_of(model, given.images)):
        raise ParameterError(
            f"labels are given, and the prior of {model.reference} is over another size of pictures; leave labels out"
        )
    media_type = type_for(call.accept, NUMBERS_OR_MAPS, given.extents) if call.media_type == PNG else call.media_type
    if media_type == PNG:
        return await _maps(call, given, condition)
    with call.phases.measure("compute"):
        bound = await discrete.likelihood(call.service.engine, model, given.images, given.placements, condition)
    return _figures(bound, media_type, with_surprise=options.surprise)


def _figures(bound: CodesBound, media_type: str, *, with_surprise: bool) -> Answer:
    """Name the figures of a bound as the wire has them."""
    arrays: dict[str, Items] = {
        "elbo_nats": bound.elbo_nats,
        "reconstruction_nats": bound.reconstruction_nats,
        "kl_nats": bound.kl_nats,
        "bits_per_dim": bound.bits_per_dim,
        "bits_per_token": bound.bits_per_token,
    }
    if with_surprise:
        arrays["surprise_nats"] = bound.surprise_nats
    absent = ("exact_nats", "iwae_nats", "iwae_standard_error_nats", "effective_sample_size")
    row: Row = dict.fromkeys(absent) | {
        "bits_per_dim_bound": "elbo",
        "prior": "learned" if bound.is_learned else "uniform",
    }
    return Answer(arrays=arrays, rows=[row for _ in range(len(bound.elbo_nats))], media_type=media_type)


async def _maps(call: Call[LikelihoodOptions], given: Pictures, condition: Int64[np.ndarray, " B"] | None) -> Answer:
    """Show the surprise of each code as a colour, where it lies in the picture; no other figure is computed."""
    engine, model = call.service.engine, call.model
    if not discrete.has_prior_for(model, discrete.grid_of(model, given.images)):
        raise CapabilityError(
            f"{model.reference} has no learned prior over pictures of this size, so that every code is equally "
            "surprising and there is nothing to show; accept application/json"
        )
    with call.phases.measure("compute"):
        codes = await discrete.encode(engine, model, given.images)
        nats = await discrete.surprise(engine, model, codes, condition)
    return await call.service.off_loop(lambda: _show(nats, given, discrete.level_of(model).downsampling))


def _show(nats: Float64[np.ndarray, "B h w"], given: Pictures, scale: int) -> Answer:
    """Paint the maps over one scale of colours."""
    low, high = float(nats.min()), float(nats.max())
    maps = heatmap(nats, low=low, high=high, scale=scale)
    return Answer(
        arrays={IMAGES: [placement.restore(one) for placement, one in zip(given.placements, maps, strict=True)]},
        headers={"x-latentd-surprise-nats": f"{low:.4f},{high:.4f}"},
    )
