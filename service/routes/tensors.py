"""The endpoints that run a model, and which function answers for which kind of latents."""

from collections.abc import Awaitable, Callable
from typing import Any

from service.answers import CONTAINERS, MEDIA, MEDIA_FROM_MEDIA, NUMBERS, NUMBERS_OR_MAPS, PICTURES, Answer
from service.bodies import CONTAINER_BODIES, LATENT_BODIES, MEDIA_BODIES, OPTION_BODIES
from service.endpoint import Call, Endpoint
from service.errors import ParameterError
from service.latents import KNOWN, KNOWN_SCHEMA, holds_known
from service.option_reading import refuse_options
from service.options import (
    CompressOptions,
    DecodeOptions,
    DecompressOptions,
    EncodeOptions,
    LikelihoodOptions,
    ReconstructOptions,
    SampleOptions,
)
from service.routes import containers, continuous, discrete, tools
from service.streaming import EVENTS

_Answering = Callable[[Call[Any]], Awaitable[Answer]]


_FOR_CODES = (
    "codebooks",
    "decoder_seed",
    "decoder_temperature",
    "label",
    "labels",
    "speaker",
    "surprise",
    "top_k",
    "top_p",
    "height",
    "width",
)
"""Options that only models of codes have a use for."""


def _by_latents(for_vectors: _Answering, for_codes: _Answering) -> _Answering:
    """Answer as the model's kind of latents demands."""

    async def answer(call: Call[Any]) -> Answer:
        if call.model.code_level is not None:
            return await for_codes(call)
        _refuse_codes(call)
        return await for_vectors(call)

    return answer


def _refuse_codes(call: Call[Any]) -> None:
    """Refuse what a model without codes could only ignore."""
    reason = f"{call.model.reference} has no codes"
    refuse_options(call.options, [name for name in _FOR_CODES if name in type(call.options).model_fields], reason)
    if isinstance(call.options, SampleOptions) and holds_known(call.body):
        raise ParameterError(f"known codes are given, and {reason}; send options alone")


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "encode",
        EncodeOptions,
        MEDIA_BODIES,
        NUMBERS,
        _by_latents(continuous.encode, discrete.encode),
        "Pictures or sounds to latents: real-valued ones, or codes.",
    ),
    Endpoint(
        "decode",
        DecodeOptions,
        LATENT_BODIES,
        MEDIA,
        _by_latents(continuous.decode, discrete.decode),
        "Latents to pictures or sounds.",
        echoed=("seed",),
    ),
    Endpoint(
        "reconstruct",
        ReconstructOptions,
        MEDIA_BODIES,
        MEDIA_FROM_MEDIA,
        _by_latents(continuous.reconstruct, discrete.reconstruct),
        "Pictures or sounds through the model and back, with the distortion in headers.",
    ),
    Endpoint(
        "sample",
        SampleOptions,
        OPTION_BODIES,
        (*MEDIA, EVENTS),
        _by_latents(continuous.sample, discrete.sample),
        "Pictures or sounds drawn from the prior.",
        preview=discrete.preview,
        members={KNOWN: KNOWN_SCHEMA},
    ),
    Endpoint(
        "likelihood",
        LikelihoodOptions,
        MEDIA_BODIES,
        NUMBERS_OR_MAPS,
        _by_latents(continuous.likelihood, discrete.likelihood),
        "Bounds on log p(x), in nats and bits; of a model of codes also a map of where the nats are.",
    ),
    Endpoint(
        "interpolate",
        tools.InterpolateOptions,
        tools.BODIES,
        PICTURES,
        tools.interpolate,
        "Two pictures or real-valued latents to the pictures on a path between them.",
        echoed=("seed",),
    ),
    Endpoint(
        "traverse",
        tools.TraverseOptions,
        tools.BODIES,
        PICTURES,
        tools.traverse,
        "A picture or real-valued latent, or the prior's mean, to pictures of what each dimension does, a row each.",
        echoed=("seed",),
    ),
    Endpoint(
        "vary",
        tools.VaryOptions,
        tools.BODIES,
        PICTURES,
        tools.vary,
        "A picture or real-valued latent to pictures of the points around it.",
    ),
    Endpoint(
        "compress",
        CompressOptions,
        MEDIA_BODIES,
        CONTAINERS,
        containers.compress,
        "Pictures or sounds to containers of their codes, or of themselves to the bit.",
        containers.model_for,
    ),
    Endpoint(
        "decompress",
        DecompressOptions,
        CONTAINER_BODIES,
        MEDIA_FROM_MEDIA,
        containers.decompress,
        "Containers to pictures or sounds at their original size, or to codes.",
        containers.model_of,
    ),
)
"""Every endpoint that runs a model."""
