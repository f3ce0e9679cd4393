"""What each endpoint answers for a model of real-valued latents."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from artifact.bounds import BoundEstimate, bits_per_dim
from service import continuous
from service.answers import IMAGES, PNG, Answer, Row
from service.endpoint import Call, read_pictures
from service.errors import CapabilityError
from service.latents import read_vectors
from service.options import (
    TIGHTEST_FIRST,
    BoundName,
    DecodeOptions,
    EncodeOptions,
    LikelihoodOptions,
    ReconstructOptions,
    SampleOptions,
    choose_output,
)
from service.routes.pictures import compare

_POSTERIOR = ("mean", "log_variance")


async def encode(call: Call[EncodeOptions]) -> Answer:
    """Answer the posterior's parameters."""
    output = choose_output(call.options.output, _POSTERIOR, _POSTERIOR)
    given = await read_pictures(call)
    with call.phases.measure("compute"):
        posterior = await continuous.encode(call.service.engine, call.model, given.images)
    return Answer(arrays={name: posterior[name] for name in output})


async def decode(call: Call[DecodeOptions]) -> Answer:
    """Answer the likelihood's mean."""
    with call.phases.measure("media"):
        z = await call.service.off_loop(lambda: read_vectors(call.body, call.model, call.service.settings))
    with call.phases.measure("compute"):
        return Answer(arrays={IMAGES: await continuous.decode(call.service.engine, call.model, z)})


async def reconstruct(call: Call[ReconstructOptions]) -> Answer:
    """Answer the pictures through the posterior's mean."""
    return await compare(call, continuous.reconstruct)


async def sample(call: Call[SampleOptions]) -> Answer:
    """Answer pictures drawn from the prior."""
    options = call.options
    choose_output(options.output, (IMAGES,), (IMAGES,))
    with call.phases.measure("compute"):
        images = await continuous.sample(
            call.service.engine,
            call.model,
            n=options.n,
            seed=options.seed,
            first_index=options.first_index,
            temperature=options.temperature,
        )
    return Answer(arrays={IMAGES: images}, seed=options.seed)


async def likelihood(call: Call[LikelihoodOptions]) -> Answer:
    """Answer bounds from importance samples."""
    options = call.options
    if call.media_type == PNG:
        raise CapabilityError(
            f"{call.model.reference} has no codes whose surprise a picture could show; accept application/json"
        )
    bounds = _bounds(call)
    given = await read_pictures(call)
    with call.phases.measure("compute"):
        estimate = await continuous.likelihood(
            call.service.engine,
            call.model,
            given.images,
            samples=options.samples,
            seed=options.seed,
            first_index=options.first_index,
        )
    arrays = _figures(estimate, bounds, int(np.prod(given.images.shape[1:])))
    tightest = next(name for name in TIGHTEST_FIRST if name in bounds)
    missing: Row = {f"{name}_nats": None for name in TIGHTEST_FIRST if name not in bounds}
    rows = [missing | {"bits_per_dim_bound": tightest} for _ in range(len(given.images))]
    primary = f"{tightest}_nats"
    ordered: dict[str, Any] = {primary: arrays[primary]} | arrays
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


def _figures(
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
