"""The endpoints that run a model, and which function answers for which kind of latents."""

from collections.abc import Awaitable, Callable
from typing import Any

from service.answers import CONTAINERS, NUMBERS, NUMBERS_OR_MAPS, PICTURES, PICTURES_FROM_PICTURES, Answer
from service.bodies import CONTAINER_BODIES, IMAGE_BODIES, LATENT_BODIES, OPTION_BODIES
from service.endpoint import Call, Endpoint
from service.options import (
    CompressOptions,
    DecodeOptions,
    DecompressOptions,
    EncodeOptions,
    LikelihoodOptions,
    ReconstructOptions,
    SampleOptions,
)
from service.routes import containers, continuous, discrete
from service.streaming import EVENTS

_Answering = Callable[[Call[Any]], Awaitable[Answer]]


def _by_latents(for_vectors: _Answering, for_codes: _Answering) -> _Answering:
    """Answer as the model's kind of latents demands."""

    async def answer(call: Call[Any]) -> Answer:
        return await (for_vectors if call.model.code_level is None else for_codes)(call)

    return answer


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "encode",
        EncodeOptions,
        IMAGE_BODIES,
        NUMBERS,
        _by_latents(continuous.encode, discrete.encode),
        "Pictures to latents: real-valued ones, or codes.",
    ),
    Endpoint(
        "decode",
        DecodeOptions,
        LATENT_BODIES,
        PICTURES,
        _by_latents(continuous.decode, discrete.decode),
        "Latents to pictures.",
        echoed=("seed",),
    ),
    Endpoint(
        "reconstruct",
        ReconstructOptions,
        IMAGE_BODIES,
        PICTURES_FROM_PICTURES,
        _by_latents(continuous.reconstruct, discrete.reconstruct),
        "Pictures through the model and back, with the distortion in headers.",
    ),
    Endpoint(
        "sample",
        SampleOptions,
        OPTION_BODIES,
        (*PICTURES, EVENTS),
        _by_latents(continuous.sample, discrete.sample),
        "Pictures drawn from the prior.",
        preview=discrete.preview,
    ),
    Endpoint(
        "likelihood",
        LikelihoodOptions,
        IMAGE_BODIES,
        NUMBERS_OR_MAPS,
        _by_latents(continuous.likelihood, discrete.likelihood),
        "Bounds on log p(x), in nats and bits; of a model of codes also a map of where the nats are.",
    ),
    Endpoint(
        "compress",
        CompressOptions,
        IMAGE_BODIES,
        CONTAINERS,
        containers.compress,
        "Pictures to containers of their codes.",
    ),
    Endpoint(
        "decompress",
        DecompressOptions,
        CONTAINER_BODIES,
        PICTURES_FROM_PICTURES,
        containers.decompress,
        "Containers to pictures at their original size, or to codes.",
        containers.model_of,
    ),
)
"""Every endpoint that runs a model."""
