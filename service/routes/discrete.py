"""What each endpoint answers for a model of integer codes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32
from numpy.typing import NDArray

from media.heatmap import heatmap
from media.images import contact_sheet, write_png
from service import discrete
from service.answers import IMAGES, NUMBERS_OR_MAPS, PNG, SOUNDS, Answer, Items, Row, check_count, type_for
from service.by_sample import BY_DEFAULT, Drawn, is_drawn
from service.conditions import Conditions, to_conditions
from service.discrete import CodesBound
from service.endpoint import Call, read_inputs
from service.engine.engine import Engine
from service.engine.lanes import Caller, Lane, as_caller
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError
from service.latents import holds_known, read_codes, read_known
from service.levels import (
    CODES,
    VECTORS,
    check_codebooks,
    check_codes,
    check_run,
    draw_sides,
    has_prior_over,
    levels_of,
    name_of,
)
from service.operations import check_draw
from service.option_reading import refuse_options
from service.options import DecodeOptions, EncodeOptions, LikelihoodOptions, ReconstructOptions, SampleOptions
from service.outputs import choose_arrays, type_of_arrays
from service.pictures import Pictures
from service.routes.pictures import compare
from service.sampling import decode_drawn, sample_codes
from service.sounds import at_rate

_NOISE = ("samples", "seed", "first_index")
"""Options of what is drawn."""
_SHOWN = 16
"""Pictures of a preview: more of them cannot be followed."""


async def encode(call: Call[EncodeOptions]) -> Answer:
    """Answer codes, and the vectors that they stand for where these are asked for."""
    options, engine = call.options, call.service.engine
    output = choose_arrays(call.model, options.output, (CODES, VECTORS), (CODES,))
    media_type = type_of_arrays(call.accept, output)
    refuse_options(options, _NOISE, f"the posterior of {call.model.reference} is deterministic: no noise")
    check_codebooks(call.model, options.codebooks)
    given = await read_inputs(call)
    with call.phases.measure("compute"):
        codes = await discrete.encode(engine, call.model, given.x, options.codebooks)
        arrays: dict[str, Items] = dict(codes)
        if not set(output) <= codes.keys():
            arrays |= await discrete.embed(engine, call.model, codes)
    return Answer(arrays={name: arrays[name] for name in output}, media_type=media_type)


async def decode(call: Call[DecodeOptions]) -> Answer:
    """Answer the likelihood's mean."""
    settings = call.service.settings
    with call.phases.measure("media"):
        codes = await call.service.off_loop(
            lambda: check_codes(settings, call.model, read_codes(call.body, call.model, settings))
        )
    rows = len(next(iter(codes.values())))
    check_count(call.media_type, rows)
    conditions, drawn = _conditions_of_decoder(call, rows), _drawn(call)
    with call.phases.measure("compute"):
        made = await discrete.decode(call.service.engine, call.model, codes, conditions, drawn=drawn)
    return await shown(call, made, {}, (media_name(call.model),))


async def reconstruct(call: Call[ReconstructOptions]) -> Answer:
    """Answer pictures or sounds through their codes."""
    codebooks = call.options.codebooks
    check_codebooks(call.model, codebooks)
    drawn = _drawn(call)

    async def through(engine: Engine, model: ServedModel, x: NDArray[Any]) -> NDArray[Any]:
        return await discrete.reconstruct(engine, model, x, _conditions_of_decoder(call, len(x)), codebooks, drawn)

    return await compare(call, through)


async def sample(call: Call[SampleOptions]) -> Answer:
    """Answer codes drawn from the learned prior, and what they decode to."""
    options, engine, media = call.options, call.service.engine, media_name(call.model)
    output = choose_arrays(call.model, options.output, (media, CODES), (media, CODES))
    media_type = call.media_type if media in output else type_of_arrays(call.accept, output)
    known = await _known(call)
    n = _count(options, known)
    check_draw(
        engine.settings, n=n, seed=options.seed, first_index=options.first_index, temperature=options.temperature
    )
    check_count(media_type, n)
    conditions = to_conditions(call.model, options.asked, n, with_prior=True)
    drawn = replace(_drawn(call), seed=options.seed, items=range(options.first_index, options.first_index + n))
    with call.phases.measure("compute"):
        codes = await sample_codes(
            engine,
            call.model,
            n=n,
            seed=options.seed,
            first_index=options.first_index,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            known=known,
            sides=_sides(call),
            conditions=conditions.prior,
        )
        made = None
        if media in output:
            made = await discrete.decode(engine, call.model, codes, conditions, drawn=drawn, admit=0)
    answer = await shown(call, made, codes, output)
    answer.seed, answer.media_type = options.seed, media_type
    return answer


async def _known(call: Call[SampleOptions]) -> Mapping[str, NDArray[Any]]:
    """Read the codes that are known; none of most bodies."""
    if not holds_known(call.body):
        return {}
    with call.phases.measure("media"):
        return await call.service.off_loop(lambda: read_known(call.body, call.model, call.service.settings))


def _sides(call: Call[SampleOptions]) -> tuple[int, int] | None:
    """Give the height and width that are asked for; one that is left out is that of the prior's own size."""
    options, model = call.options, call.model
    if options.height is None and options.width is None:
        return None
    if model.manifest.geometry.modality != "image":
        raise ParameterError(f"height or width is given, and {model.reference} is a model of sounds; leave both out")
    height, width = draw_sides(model)
    return options.height or height, options.width or width


def _count(options: SampleOptions, known: Mapping[str, NDArray[Any]]) -> int:
    """Tell how many are wanted: as many as there are rows of known codes where nothing else is said."""
    rows = max((len(codes) for codes in known.values()), default=1)
    return options.n if "n" in options.model_fields_set else rows


async def preview(call: Call[SampleOptions], grids: Sequence[Int32[NDArray[Any], "n *grid"]]) -> bytes:
    """Show what has been drawn of the first pictures."""
    conditions = to_conditions(call.model, call.options.asked, len(grids[0]), with_prior=True)
    shown = slice(_SHOWN)
    with as_caller(Caller(Lane.BULK, call.deadline.end_s)):
        images = await decode_drawn(
            call.service.engine, call.model, [grid[shown] for grid in grids], conditions.rows(shown)
        )
    return await call.service.off_loop(lambda: write_png(contact_sheet(images)))


async def likelihood(call: Call[LikelihoodOptions]) -> Answer:
    """Answer the one bound there is, or as a picture where it comes from."""
    options, model = call.options, call.model
    refuse_options(options, _NOISE, f"the posterior of {model.reference} is deterministic: no noise")
    if set(options.bounds or ()) - {"elbo"}:
        raise CapabilityError(
            f"the posterior of {model.reference} is deterministic, so that elbo is the only bound; ask for bounds=elbo"
        )
    given = await read_inputs(call)
    sides = given.x.shape[1 : 1 + len(given.extents[0])]
    has_prior = has_prior_over(model, sides)
    if has_prior:
        check_run(model, sides, f"the prior of {model.reference}", "send a smaller part")
    conditions = to_conditions(model, options.asked, len(given.x), with_prior=True)
    if options.asked["label"] is not None and not has_prior:
        raise ParameterError(
            f"labels are given, and the prior of {model.reference} is over another size of pictures; leave labels out"
        )
    media_type = type_for(call.accept, NUMBERS_OR_MAPS, given.extents) if call.media_type == PNG else call.media_type
    if media_type == PNG and isinstance(given, Pictures):
        return await _maps(call, given, conditions, has_prior=has_prior)
    with call.phases.measure("compute"):
        bound = await discrete.likelihood(call.service.engine, model, given.x, given.extents, conditions)
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
    levels = len(bound.surprise_nats)
    if levels > 1:
        arrays |= {f"bits_per_token_{level}": bits for level, bits in enumerate(bound.bits_per_token_of_levels)}
    if with_surprise:
        arrays |= {name_of("surprise_nats", level, levels): nats for level, nats in enumerate(bound.surprise_nats)}
    absent = ("exact_nats", "iwae_nats", "iwae_standard_error_nats", "effective_sample_size")
    row: Row = dict.fromkeys(absent) | {
        "bits_per_dim_bound": "elbo",
        "prior": "learned" if bound.is_learned else "uniform",
    }
    return Answer(arrays=arrays, rows=[row for _ in range(len(bound.elbo_nats))], media_type=media_type)


async def _maps(call: Call[LikelihoodOptions], given: Pictures, conditions: Conditions, *, has_prior: bool) -> Answer:
    """Show the surprise of each code as a colour, where it lies in the picture; no other figure is computed."""
    engine, model = call.service.engine, call.model
    if not has_prior:
        raise CapabilityError(
            f"{model.reference} has no learned prior over pictures of this size, so that every code is equally "
            "surprising and there is nothing to show; accept application/json"
        )
    with call.phases.measure("compute"):
        codes = await discrete.encode(engine, model, given.images)
        nats = await discrete.surprise(engine, model, codes, conditions)
    return await call.service.off_loop(lambda: _show(_by_pixel(model, nats), given))


def _by_pixel(model: ServedModel, nats: Mapping[str, Float64[np.ndarray, "B *grid"]]) -> tuple[NDArray[Any], int]:
    """Add the surprise of all codes up where they lie, in places of the finest grid; give their side in pixels as well.

    The codes of a coarser level count in each of the finer places that they cover.
    """
    levels = levels_of(model)
    finest = min(level.downsampling for level in levels.values())
    parts = []
    for name, level in levels.items():
        places = nats[name].sum(axis=1) if level.num_codebooks > 1 else nats[name]
        factor = level.downsampling // finest
        parts.append(places.repeat(factor, axis=1).repeat(factor, axis=2))
    return np.add.reduce(parts), finest


def _show(map_of: tuple[Float64[np.ndarray, "B h w"], int], given: Pictures) -> Answer:
    """Paint the maps over one scale of colours."""
    nats, scale = map_of
    low, high = float(nats.min()), float(nats.max())
    maps = heatmap(nats, low=low, high=high, scale=scale)
    return Answer(
        arrays={IMAGES: [placement.restore(one) for placement, one in zip(given.placements, maps, strict=True)]},
        headers={"x-latentd-surprise-nats": f"{low:.4f},{high:.4f}"},
    )


def media_name(model: ServedModel) -> str:
    """Name the array of what a model decodes to."""
    return IMAGES if model.manifest.geometry.modality == "image" else SOUNDS


def _drawn(call: Call[Any]) -> Drawn:
    """Tell how the decoder shall draw, where it draws at all."""
    options = call.options
    if not is_drawn(call.model):
        asked = [name for name in ("decoder_seed", "decoder_temperature") if name in type(options).model_fields]
        refuse_options(options, asked, f"{call.model.reference} decodes all samples or pixels at once, without noise")
        return BY_DEFAULT
    temperature = 1.0 if options.decoder_temperature is None else options.decoder_temperature
    return Drawn(getattr(options, "decoder_seed", None) or 0, temperature)


def _conditions_of_decoder(call: Call[Any], rows: int) -> Conditions:
    """Give the conditions of a call that asks no prior."""
    return to_conditions(call.model, call.options.asked, rows, with_prior=False)


async def shown(
    call: Call[Any],
    made: Sequence[NDArray[Any]] | NDArray[Any] | None,
    codes: Mapping[str, Items],
    output: Sequence[str],
) -> Answer:
    """Name what a model made, sounds at the rate that is wanted, and its codes.

    Args:
        call: the request.
        made: images or sounds; None where there are none.
        codes: by name.
        output: names of the arrays to be answered, the primary one first.

    Returns:
        The answer.
    """
    arrays: dict[str, Items] = dict(codes)
    rates: tuple[int, ...] = ()
    if made is not None and media_name(call.model) == SOUNDS:
        arrays[SOUNDS], rates = await call.service.off_loop(
            lambda: at_rate(list(made), call.model, call.options.sample_rate, call.service.settings)
        )
    elif made is not None:
        arrays[IMAGES] = made
    return Answer(arrays={name: arrays[name] for name in output}, sample_rates_hz=rates)
