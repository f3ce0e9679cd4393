"""Pictures beside what a model made of them."""

import numpy as np
from jaxtyping import UInt8

from media.distortion import mse, psnr_db
from service.answers import IMAGES, Answer, figures, number
from service.bodies import Pictures
from service.endpoint import Call
from service.options import ReconstructOptions

_PEAK = 255.0


async def compare(
    call: Call[ReconstructOptions], given: Pictures, reconstructions: UInt8[np.ndarray, "B H W C"]
) -> Answer:
    """Answer reconstructions at the size of their originals, with the distortion of each in rows and headers.

    Args:
        call: the request.
        given: the pictures as the model got them.
        reconstructions: what it made of them.

    Returns:
        The answer.
    """
    return await call.service.off_loop(lambda: _compare(given, reconstructions))


def _compare(given: Pictures, reconstructions: UInt8[np.ndarray, "B H W C"]) -> Answer:
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
    )
