"""What `/compress` and `/decompress` answer, for models of integer codes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from codec.container import Container, read_container
from media.geometry import Placement
from service import discrete
from service.answers import (
    CONTAINERS,
    IMAGES,
    NUMBERS,
    PICTURES_FROM_PICTURES,
    Answer,
    Items,
    figures,
    in_base64,
    type_for,
)
from service.bitstreams import find_model, read_all, write_all
from service.bodies import CONTAINER, JSON, Body, files
from service.endpoint import Call, read_pictures
from service.errors import ParameterError
from service.faults import naming
from service.negotiation import NotAcceptableError, choose
from service.options import CompressOptions, DecompressOptions, choose_output
from service.requests import Service
from service.routes.discrete import CODES
from service.settings import Settings

_BITS = 8
_FIGURES = ("bytes", "bits_per_pixel")
"""What `/compress` answers beside each container."""


async def compress(call: Call[CompressOptions]) -> Answer:
    """Answer a container a picture."""
    given = await read_pictures(call)
    media_type = _type_for(len(given.images), call.accept)
    with call.phases.measure("compute"):
        codes = await discrete.encode(call.service.engine, call.model, given.images)
    extents = [
        placement.restore(image).shape[:2] for placement, image in zip(given.placements, given.images, strict=True)
    ]
    with call.phases.measure("pack"):
        containers = await call.service.off_loop(lambda: write_all(call.model, codes, extents))
    sizes = [len(container) for container in containers]
    rates = [_BITS * size / math.prod(extent) for size, extent in zip(sizes, extents, strict=True)]
    return Answer(
        rows=[
            {"container": in_base64(container), "bytes": size, "bits_per_pixel": rate}
            for container, size, rate in zip(containers, sizes, rates, strict=True)
        ],
        container=containers[0],
        headers={"x-latentd-bytes": figures(sizes, 0), "x-latentd-bits-per-pixel": figures(rates, 4)},
        media_type=media_type,
    )


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
    """Answer the pictures of containers at their original size, or their codes."""
    settings = call.service.settings
    output = choose_output(call.options.output, (IMAGES, CODES), (IMAGES,))
    offers = PICTURES_FROM_PICTURES if IMAGES in output else NUMBERS
    with call.phases.measure("media"):
        read = await call.service.off_loop(lambda: read_all(_files(call.body, settings), call.model, settings))
    extents, codes = [container.extent for container, _ in read], [grid for _, grid in read]
    media_type = type_for(call.accept, offers, extents if IMAGES in output else [grid.shape for grid in codes])
    arrays: dict[str, Items] = {CODES: codes}
    if IMAGES in output:
        with call.phases.measure("compute"):
            arrays[IMAGES] = await _decode(call, extents, codes)
    return Answer(arrays={name: arrays[name] for name in output}, media_type=media_type)


async def _decode(call: Call[Any], extents: Sequence[tuple[int, ...]], codes: Items) -> Items:
    """Decode grids of any sizes, those of one size together, and crop each picture to its original's extent."""
    engine, model = call.service.engine, call.model
    places: dict[tuple[int, ...], list[int]] = {}
    for index, grid in enumerate(codes):
        places.setdefault(grid.shape, []).append(index)
    decoded: dict[int, np.ndarray] = {}
    for indices in places.values():
        grids = np.stack([codes[index] for index in indices])
        images = await discrete.decode(engine, model, grids, admit=0 if decoded else len(codes))
        for index, image in zip(indices, images, strict=True):
            decoded[index] = Placement(extents[index], padded=True).restore(image)
    return [decoded[index] for index in range(len(codes))]
