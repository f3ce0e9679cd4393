"""What `/compress` and `/decompress` answer, for models of integer codes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.manifest import AudioGeometry
from codec.container import Container, read_container
from media.geometry import Placement
from service import discrete
from service.answers import CONTAINERS, Answer, Items, figures, in_base64, type_for
from service.bitstreams import find_model, read_all, write_all
from service.bodies import CONTAINER, JSON, Body, files
from service.by_sample import Drawn
from service.conditions import Conditions, to_conditions
from service.endpoint import Call, read_inputs
from service.engine.opening import ServedModel
from service.errors import ParameterError
from service.faults import naming
from service.levels import CODES, Codes, check_codebooks
from service.negotiation import NotAcceptableError, choose
from service.options import CompressOptions, DecompressOptions
from service.outputs import choose_arrays, offers_for
from service.requests import Service
from service.routes.discrete import media_name, shown
from service.settings import Settings

_BITS = 8
_FIGURES = ("bytes", "bits_per_pixel", "bits_per_second")
"""What `/compress` answers beside each container."""


async def compress(call: Call[CompressOptions]) -> Answer:
    """Answer a container a picture or sound."""
    codebooks = call.options.codebooks
    check_codebooks(call.model, codebooks)
    given = await read_inputs(call)
    media_type = _type_for(len(given.x), call.accept)
    with call.phases.measure("compute"):
        codes = await discrete.encode(call.service.engine, call.model, given.x)
    with call.phases.measure("pack"):
        containers = await call.service.off_loop(
            lambda: write_all(call.model, codes, given.extents, codebooks, call.service.settings)
        )
    sizes = [len(container) for container in containers]
    name, units = _rate(call.model, given.extents)
    rates = [_BITS * size / unit for size, unit in zip(sizes, units, strict=True)]
    return Answer(
        rows=[
            {"container": in_base64(container), "bytes": size, name: rate}
            for container, size, rate in zip(containers, sizes, rates, strict=True)
        ],
        container=containers[0],
        headers={
            "x-latentd-bytes": figures(sizes, 0),
            f"x-latentd-{name.replace('_', '-')}": figures(rates, 4),
        },
        media_type=media_type,
    )


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
            f"{containers} pictures make as many containers, which only {JSON} can hold; accept it, "
            "or send the pictures one by one"
        ) from error


async def model_of(service: Service, body: Body, options: DecompressOptions) -> str:
    """Name the model that the first container of a body was written with."""
    container = await service.off_loop(lambda: _first(body, service.settings))
    return find_model(service.engine, container, options.model)


def _first(body: Body, settings: Settings) -> Container:
    """Read the first container of a body."""
    found = _files(body, settings)
    if not found:
        raise ParameterError(f"the request holds no container; send {CONTAINER}, a form of files or JSON items")
    with naming(0, len(found)):
        return read_container(found[0])


def _files(body: Body, settings: Settings) -> list[bytes]:
    """Give the containers of a body; what `/compress` answers is taken as it is."""
    return files(body, "container", settings, taken=(CONTAINER,), beside=_FIGURES)


async def decompress(call: Call[DecompressOptions]) -> Answer:
    """Answer the pictures or sounds of containers at their original size, or their codes."""
    settings, media = call.service.settings, media_name(call.model)
    output = choose_arrays(call.model, call.options.output, (media, CODES), (media,))
    with call.phases.measure("media"):
        read = await call.service.off_loop(lambda: read_all(_files(call.body, settings), call.model, settings))
    extents, codes = [container.extent for container, _ in read], [grids for _, grids in read]
    arrays: dict[str, Items] = {name: [grids[name] for grids in codes] for name in codes[0]}
    if media not in output:
        shapes = [grids[output[0]].shape for grids in codes]
        media_type = type_for(call.accept, offers_for(output), shapes)
        return Answer(arrays={name: arrays[name] for name in output}, media_type=media_type)
    media_type = type_for(call.accept, call.offers, extents)
    conditions = to_conditions(call.model, call.options.asked, len(codes), with_prior=False)
    with call.phases.measure("compute"):
        made = await _decode(call, extents, codes, conditions)
    answer = await shown(call, made, arrays, output)
    answer.media_type = media_type
    return answer


async def _decode(
    call: Call[Any], extents: Sequence[tuple[int, ...]], codes: Sequence[Codes], conditions: Conditions
) -> list[NDArray[Any]]:
    """Decode codes of any sizes, those of one size together, and crop each item to its original's extent."""
    engine, model = call.service.engine, call.model
    places: dict[tuple[int, ...], list[int]] = {}
    for index, grids in enumerate(codes):
        places.setdefault(next(iter(grids.values())).shape, []).append(index)
    decoded: dict[int, NDArray[Any]] = {}
    for indices in places.values():
        joined = {name: np.stack([codes[index][name] for index in indices]) for name in codes[0]}
        asked = Conditions({name: values[indices] for name, values in conditions.decoder.items()})
        drawn, admit = Drawn(items=indices), 0 if decoded else len(codes)
        items = await discrete.decode(engine, model, joined, asked, drawn=drawn, admit=admit)
        for index, item in zip(indices, items, strict=True):
            decoded[index] = Placement(extents[index], padded=True).restore(item)
    return [decoded[index] for index in range(len(codes))]
