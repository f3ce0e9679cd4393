"""What `/compress` and `/decompress` answer, for models of integer codes."""

import math
from collections.abc import Sequence
from functools import partial

from artifact.manifest import AudioGeometry
from codec.coded import Coded
from codec.container import Container
from service import coding_lossless, discrete
from service.answers import CONTAINERS, HEADER_ITEMS, Answer, Items, figures, in_base64, type_for
from service.bitstreams import Wish, Written, write_all
from service.bodies import CONTAINER, JSON, Body, files, modality_of
from service.coding_media import decode_all
from service.coding_models import Header, check_writer, find_model, read_header, shelved
from service.coding_reading import Read, read_all
from service.endpoint import Call, read_inputs
from service.engine.abilities import can
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError
from service.faults import naming
from service.levels import CODES, check_codebooks
from service.negotiation import NotAcceptableError, choose
from service.option_reading import refuse_options
from service.options import CompressOptions, DecompressOptions
from service.outputs import choose_arrays, offers_for
from service.requests import Service
from service.routes.discrete import media_name, shown
from service.settings import Settings

_BITS = 8
_FIGURES = (
    *("bytes", "bits_per_pixel", "bits_per_second", "profile", "chunks", "surprise_bits"),
    *coding_lossless.FIGURES,
)
"""What `/compress` answers beside each container."""


async def model_for(service: Service, body: Body, options: CompressOptions) -> str | None:
    """Name the model that is asked for, else the first that does what is asked for; None where none does."""
    if options.model is not None:
        return options.model
    modality = modality_of(body)
    able = (
        model.reference
        for model in service.engine.models()
        if modality in (None, model.manifest.geometry.modality) and _does(model, options)
    )
    return next(able, None)


def _does(model: ServedModel, options: CompressOptions) -> bool:
    """Tell whether a model writes codes, or stores inputs to the bit, whichever is asked for."""
    if options.mode == "lossless":
        return coding_lossless.can_lossless(model.manifest)
    return model.code_level is not None and can(model.manifest, "compress")


async def compress(call: Call[CompressOptions]) -> Answer:
    """Answer a container a picture or sound, or one of all pictures."""
    if call.options.mode == "lossless":
        return await _compress_lossless(call)
    if call.model.code_level is None:
        raise CapabilityError(
            f"{call.model.reference} has no codes and stores inputs to the bit alone; add mode=lossless"
        )
    check_codebooks(call.model, call.options.codebooks)
    given = await read_inputs(call)
    media_type = _type_for(len(given.x), call.accept)
    engine = call.service.engine
    with call.phases.measure("compute"):
        codes = await discrete.encode(engine, call.model, given.x)
    with call.phases.measure("pack"):
        written = await write_all(engine, call.model, codes, given.extents, Wish.of(call.options))
    return _answer(call.model, written, given.extents, media_type)


async def _compress_lossless(call: Call[CompressOptions]) -> Answer:
    """Answer containers of the inputs themselves."""
    coding_lossless.check_options(call.options)
    given = await read_inputs(call)
    with call.phases.measure("compute"):
        written = await coding_lossless.compress(
            call.service.engine, call.model, given, is_full=call.options.verify == "full"
        )
    return _answer(call.model, written, given.extents, _type_for(len(written), call.accept))


def _answer(
    model: ServedModel, written: Sequence[Written], extents: Sequence[tuple[int, ...]], media_type: str
) -> Answer:
    """Say what was written, and what it came to."""
    name, units = _rate(model, extents)
    units = units if len(written) == len(units) else [sum(units)]
    sizes = [len(one.container) for one in written]
    rates = [_BITS * size / unit for size, unit in zip(sizes, units, strict=True)]
    profiles = [one.profile.name.lower().replace("_", "-") for one in written]
    return Answer(
        rows=[
            {
                "container": in_base64(one.container),
                "bytes": size,
                name: rate,
                "profile": profile,
                "chunks": one.chunks,
                "surprise_bits": one.surprise_bits,
                **one.figures,
            }
            for one, size, rate, profile in zip(written, sizes, rates, profiles, strict=True)
        ],
        container=written[0].container,
        headers={
            "x-latentd-bytes": figures(sizes, 0),
            f"x-latentd-{name.replace('_', '-')}": figures(rates, 4),
            "x-latentd-surprise-bits": figures([one.surprise_bits for one in written], 2),
            "x-latentd-profile": ",".join(profiles[:HEADER_ITEMS]),
            "x-latentd-chunks": figures([one.chunks for one in written], 0),
            **{
                f"x-latentd-{name.replace('_', '-')}": _values([one.figures[name] for one in written])
                for name in written[0].figures
            },
        },
        media_type=media_type,
    )


def _values(values: Sequence[float]) -> str:
    """Write one figure an item: counts as what they are."""
    return figures(values, 0 if all(value.is_integer() for value in values) else 4)


def _rate(model: ServedModel, extents: Sequence[tuple[int, ...]]) -> tuple[str, list[float]]:
    """Name the rate that counts for a model, and give what it is for in each item: pixels, or seconds."""
    geometry = model.manifest.geometry
    if isinstance(geometry, AudioGeometry):
        return "bits_per_second", [length / geometry.sample_rate_hz for (length,) in extents]
    return "bits_per_pixel", [float(math.prod(extent)) for extent in extents]


def _type_for(containers: int, accept: str | None) -> str:
    """Choose the answer's type by the number of containers, of which only JSON holds several."""
    if containers == 1:
        return choose(accept, CONTAINERS)
    try:
        return choose(accept, (JSON,))
    except NotAcceptableError as error:
        raise NotAcceptableError(
            f"{containers} items make as many containers, which only {JSON} can hold; accept it, "
            "or send them one by one"
        ) from error


async def model_of(service: Service, body: Body, options: DecompressOptions) -> str:
    """Name the model that the first container of a body was written with."""

    def look() -> str:
        header = _first(body, service.settings, salvage=options.salvage)
        on_shelf = partial(shelved, service.settings.store)
        return find_model(service.engine.models(), header, options.model, on_shelf).reference

    if options.model is not None:
        service.engine.named(options.model)
    return await service.off_loop(look)


def _first(body: Body, settings: Settings, *, salvage: bool) -> Header:
    """Read the first container of a body."""
    found = _files(body, settings)
    if not found:
        raise ParameterError(f"the request holds no container; send {CONTAINER}, a form of files or JSON items")
    with naming(0, len(found)):
        return read_header(found[0], salvage=salvage)


def _files(body: Body, settings: Settings) -> list[bytes]:
    """Give the containers of a body; what `/compress` answers is taken as it is."""
    return files(body, "container", settings, taken=(CONTAINER,), beside=_FIGURES)


async def decompress(call: Call[DecompressOptions]) -> Answer:
    """Answer the pictures or sounds of containers at their original size, or their codes."""
    engine, settings, media = call.service.engine, call.service.settings, media_name(call.model)
    if stored := await call.service.off_loop(lambda: _stored(call.body, call.options, settings)):
        return await _decompress_lossless(call, stored)
    output = choose_arrays(call.model, call.options.output, (media, CODES), (media,))
    with call.phases.measure("unpack"):
        read = await read_all(engine, call.model, _files(call.body, settings), salvage=call.options.salvage)
    arrays: dict[str, Items] = {name: [one.codes[name] for one in read] for name in read[0].codes}
    if media in output:
        media_type = type_for(call.accept, call.offers, [one.header.extent for one in read])
        with call.phases.measure("compute"):
            # What was read step by step has been let in.
            admit = 0 if any(one.is_coded for one in read) else None
            made = await decode_all(engine, call.model, read, call.options.asked, admit=admit)
        answer = await shown(call, made, arrays, output)
    else:
        shapes = [one.codes[output[0]].shape for one in read]
        media_type = type_for(call.accept, offers_for(output), shapes)
        answer = Answer(arrays={name: arrays[name] for name in output})
    answer.media_type = media_type
    if call.options.salvage:
        _tell_lost(answer, call.model, read)
    return answer


def _stored(body: Body, options: DecompressOptions, settings: Settings) -> list[Coded]:
    """Give the containers of a body where they hold inputs to the bit; none where they hold codes."""
    headers: list[Coded] = []
    for index, data in enumerate(found := _files(body, settings)):
        with naming(index, len(found)):
            header = read_header(data, salvage=options.salvage)
            if isinstance(header, Container) or not coding_lossless.is_lossless(header):
                break
            headers.append(header)
    if headers and (len(headers) < len(found) or len({header.profile for header in headers}) > 1):
        raise ParameterError("the containers are of several profiles; send those of one profile at a time")
    return headers


async def _decompress_lossless(call: Call[DecompressOptions], stored: Sequence[Coded]) -> Answer:
    """Answer the inputs themselves."""
    media = media_name(call.model)
    refuse_options(call.options, ("salvage", "speaker", "sample_rate"), "the container holds the input to the bit")
    offered = (media, CODES) if coding_lossless.holds_codes(stored) else (media,)
    output = choose_arrays(call.model, call.options.output, offered, (media,))
    for index, header in enumerate(stored):
        with naming(index, len(stored)):
            check_writer(call.model, header)
    media_type = None
    if coding_lossless.holds_codes(stored):  # of an archive only its pictures tell how many they are
        offers = call.offers if media in output else offers_for(output)
        media_type = type_for(call.accept, offers, [header.extent for header in stored])
    engine, made, arrays = call.service.engine, None, dict[str, Items]()
    with call.phases.measure("compute"):
        if media in output:
            made = await coding_lossless.decompress(engine, call.model, stored)
        if set(output) - {media}:
            codes = await coding_lossless.read_codes(engine, call.model, stored)
            arrays = {name: [one[name] for one in codes] for name in codes[0]}
    answer = await shown(call, made, arrays, output)
    answer.media_type = media_type or type_for(call.accept, call.offers, [one.shape for one in made or ()])
    return answer


def _tell_lost(answer: Answer, model: ServedModel, read: Sequence[Read]) -> None:
    """Say which rows of pixels, or samples, of each item were damaged."""
    unit = "samples" if model.manifest.geometry.modality == "audio" else "rows"
    answer.rows = [{f"lost_{unit}": [list(stretch) for stretch in one.lost]} for one in read]
    counts = [sum(stop - start for start, stop in one.lost) for one in read]
    answer.headers[f"x-latentd-lost-{unit}"] = figures(counts, 0)
