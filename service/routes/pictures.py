"""Pictures beside what a model made of them."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from media.distortion import mse, psnr_db
from service.answers import IMAGES, Answer, figures, number, type_for
from service.endpoint import Call, read_pictures
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.options import ReconstructOptions
from service.pictures import Pictures
from service.routes.sounds import compare_sounds

_PEAK = 255.0

Reconstruct = Callable[[Engine, ServedModel, NDArray[Any]], Awaitable[NDArray[Any]]]


async def compare(call: Call[ReconstructOptions], reconstruct: Reconstruct) -> Answer:
    """Answer reconstructions at the size of their originals, with the distortion of each in rows and headers.

    Of sounds, see `service.routes.sounds`.

    Args:
        call: the request.
        reconstruct: takes pictures or sounds through the model.

    Returns:
        The answer.

    Raises:
        NotAcceptableError: the originals differ in size, and the caller does not accept JSON.
    """
    if call.model.manifest.geometry.modality == "audio":
        return await compare_sounds(call, reconstruct)
    given = await read_pictures(call)
    media_type = type_for(call.accept, call.offers, given.extents)
    with call.phases.measure("compute"):
        reconstructions = await reconstruct(call.service.engine, call.model, given.images)
    return await call.service.off_loop(lambda: _compare(given, reconstructions, media_type))


def _compare(given: Pictures, reconstructions: UInt8[np.ndarray, "B H W C"], media_type: str) -> Answer:
    pairs = [
        (placement.restore(image), placement.restore(other))
        for placement, image, other in zip(given.placements, given.images, reconstructions, strict=True)
    ]
    errors = [float(mse(image[None], other[None])[0]) for image, other in pairs]
    ratios = [float(psnr_db(image[None], other[None], peak=_PEAK)[0]) for image, other in pairs]
    return Answer(
        arrays={IMAGES: [other for _, other in pairs]},
        rows=[{"mse": error, "psnr_db": number(ratio)} for error, ratio in zip(errors, ratios, strict=True)],
        headers={"x-latentd-mse": figures(errors, 4), "x-latentd-psnr-db": figures(ratios, 3)},
        media_type=media_type,
    )
