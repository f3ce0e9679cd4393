"""Sounds beside what a model made of them."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from media.si_sdr import si_sdr_db
from service.answers import SOUNDS, Answer, figures, number, type_for
from service.endpoint import Call, read_sounds
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.options import ReconstructOptions
from service.sounds import Sounds


async def compare_sounds(
    call: Call[ReconstructOptions], reconstruct: Callable[[Engine, ServedModel, NDArray[Any]], Awaitable[NDArray[Any]]]
) -> Answer:
    """Answer reconstructions at the rate and length of their originals, with the distortion in rows and headers.

    Args:
        call: the request.
        reconstruct: takes sounds through the model.

    Returns:
        The answer.

    Raises:
        NotAcceptableError: there are several of different lengths, and the caller does not accept JSON.
    """
    given = await read_sounds(call)
    media_type = type_for(call.accept, call.offers, [(source.length,) for source in given.sources])
    with call.phases.measure("compute"):
        reconstructions = await reconstruct(call.service.engine, call.model, given.samples)
    return await call.service.off_loop(lambda: _compare(given, reconstructions, media_type))


def _compare(given: Sounds, reconstructions: Float32[np.ndarray, "B T"], media_type: str) -> Answer:
    """Hold sounds against their originals at the model's rate, and bring them back to theirs."""
    rows = zip(given.placements, given.samples, reconstructions, strict=True)
    pairs = ((placement.restore(sound), placement.restore(other)) for placement, sound, other in rows)
    ratios = [float(si_sdr_db(sound[None], other[None])[0]) for sound, other in pairs]
    return Answer(
        arrays={SOUNDS: given.originals(reconstructions)},
        rows=[{"si_sdr_db": number(ratio)} for ratio in ratios],
        headers={"x-latentd-si-sdr-db": figures(ratios, 3)},
        media_type=media_type,
        sample_rates_hz=tuple(source.sample_rate_hz for source in given.sources),
    )
