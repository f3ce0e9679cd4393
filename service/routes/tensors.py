"""The endpoints that run a model."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from artifact.bounds import BoundEstimate, bits_per_dim
from media.distortion import mse, psnr_db
from service import operations
from service.answers import NUMBERS, PICTURES, PICTURES_FROM_PICTURES, Answer, Row, number
from service.bodies import IMAGE_BODIES, LATENT_BODIES, OPTION_BODIES, latents
from service.endpoint import Call, Endpoint, read_pictures
from service.errors import CapabilityError, ParameterError
from service.options import (
    TIGHTEST_FIRST,
    BoundName,
    DecodeOptions,
    EncodeOptions,
    LikelihoodOptions,
    ReconstructOptions,
    SampleOptions,
)

_PEAK = 255.0
_HEADER_ITEMS = 256
"""So many items' figures fit into a header; JSON holds them all."""


async def _encode(call: Call[EncodeOptions]) -> Answer:
    given = await read_pictures(call)
    with call.phases.measure("compute"):
        images = operations.check_images(call.model, given.images, binarize=call.options.binarize)
        return Answer(arrays=await operations.encode(call.service.engine, call.model, images))


async def _decode(call: Call[DecodeOptions]) -> Answer:
    with call.phases.measure("media"):
        z = await call.service.off_loop(lambda: latents(call.body, call.service.settings))
    with call.phases.measure("compute"):
        return Answer(pictures=list(await operations.decode(call.service.engine, call.model, z)))


async def _reconstruct(call: Call[ReconstructOptions]) -> Answer:
    given = await read_pictures(call)
    with call.phases.measure("compute"):
        images = operations.check_images(call.model, given.images, binarize=call.options.binarize)
        answer = await operations.reconstruct(call.service.engine, call.model, images)
    pairs = [
        (placement.restore(image)[None], placement.restore(other)[None])
        for placement, image, other in zip(given.placements, images, answer, strict=True)
    ]
    errors = [float(mse(image, other)[0]) for image, other in pairs]
    ratios = [float(psnr_db(image, other, peak=_PEAK)[0]) for image, other in pairs]
    return Answer(
        pictures=[other[0] for _, other in pairs],
        rows=[{"mse": error, "psnr_db": number(ratio)} for error, ratio in zip(errors, ratios, strict=True)],
        headers={
            "x-latentd-mse": ",".join(f"{error:.4f}" for error in errors[:_HEADER_ITEMS]),
            "x-latentd-psnr-db": ",".join(f"{ratio:.3f}" for ratio in ratios[:_HEADER_ITEMS]),
        },
    )


async def _sample(call: Call[SampleOptions]) -> Answer:
    options = call.options
    if call.body.items:
        raise ParameterError("/sample takes options alone, no items; say how many with n")
    with call.phases.measure("compute"):
        images = await operations.sample(
            call.service.engine,
            call.model,
            n=options.n,
            seed=options.seed,
            first_index=options.first_index,
            temperature=options.temperature,
        )
    return Answer(pictures=list(images), seed=options.seed)


async def _likelihood(call: Call[LikelihoodOptions]) -> Answer:
    options = call.options
    bounds = _bounds(call)
    given = await read_pictures(call)
    with call.phases.measure("compute"):
        images = operations.check_images(call.model, given.images, binarize=options.binarize)
        estimate = await operations.likelihood(
            call.service.engine,
            call.model,
            images,
            samples=options.samples,
            seed=options.seed,
            first_index=options.first_index,
        )
    arrays = _likelihood_arrays(estimate, bounds, int(np.prod(images.shape[1:])))
    tightest = next(name for name in TIGHTEST_FIRST if name in bounds)
    missing: Row = {f"{name}_nats": None for name in TIGHTEST_FIRST if name not in bounds}
    rows = [missing | {"bits_per_dim_bound": tightest} for _ in range(len(images))]
    primary = f"{tightest}_nats"
    ordered = {primary: arrays[primary]} | arrays
    return Answer(arrays=ordered, rows=rows, seed=options.seed)


def _bounds(call: Call[LikelihoodOptions]) -> tuple[BoundName, ...]:
    """Give the bounds asked for, or all that the model has."""
    exact = call.model.manifest.bound == "exact"
    asked = call.options.bounds or (TIGHTEST_FIRST if exact else ("iwae", "elbo"))
    if "exact" in asked and not exact:
        raise CapabilityError(
            f"{call.model.reference} has no exact likelihood, only bounds on it; ask for bounds=elbo,iwae"
        )
    return asked


def _likelihood_arrays(
    estimate: BoundEstimate, bounds: tuple[BoundName, ...], dimensions: int
) -> dict[str, Float64[np.ndarray, " B"]]:
    """Name the figures of a bound as the wire has them."""
    values = {"exact": estimate.iwae_nats, "iwae": estimate.iwae_nats, "elbo": estimate.elbo_nats}
    tightest = next(values[name] for name in TIGHTEST_FIRST if name in bounds)
    return {
        **{f"{name}_nats": values[name] for name in TIGHTEST_FIRST if name in bounds},
        "iwae_standard_error_nats": estimate.iwae_standard_error_nats,
        "effective_sample_size": estimate.effective_sample_size,
        "reconstruction_nats": estimate.reconstruction_nats,
        "kl_nats": estimate.kl_nats,
        "bits_per_dim": bits_per_dim(tightest, dimensions),
    }


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint("encode", EncodeOptions, IMAGE_BODIES, NUMBERS, _encode, "Pictures to latents."),
    Endpoint("decode", DecodeOptions, LATENT_BODIES, PICTURES, _decode, "Latents to pictures."),
    Endpoint(
        "reconstruct",
        ReconstructOptions,
        IMAGE_BODIES,
        PICTURES_FROM_PICTURES,
        _reconstruct,
        "Pictures through the model and back, with the distortion in headers.",
    ),
    Endpoint("sample", SampleOptions, OPTION_BODIES, PICTURES, _sample, "Pictures drawn from the prior."),
    Endpoint(
        "likelihood", LikelihoodOptions, IMAGE_BODIES, NUMBERS, _likelihood, "Bounds on log p(x), in nats and bits."
    ),
)
"""Every endpoint that runs a model."""
