"""Drawing codes from a learned prior: what is asked for, checked, and its noise."""

import asyncio
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Int32, UInt8

from artifact.codes import ALL_CODES
from artifact.noise import CODES_STREAM, batch_uniform
from service.conditions import to_condition
from service.discrete import decode, level_of
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.engine.progress import UNDRAWN
from service.errors import ParameterError
from service.limits import check_pixels
from service.operations import check_draw

_GREY = np.uint8(128)

_QUICK_ROWS = 4
"""The noise of so many grids is drawn in less time than a thread takes to begin."""


async def sample_codes(
    engine: Engine,
    model: ServedModel,
    *,
    n: int,
    seed: int,
    first_index: int,
    temperature: float,
    top_k: int | None,
    labels: Sequence[str | int] | None,
) -> Int32[np.ndarray, "n h w"]:
    """Draw grids of codes from the prior.

    Args:
        engine: that runs.
        model: which.
        n: how many, at most the settings' max_rows.
        seed: 0 .. 2^63 - 1.
        first_index: of the first grid; grid i has index first_index + i.
        temperature: divides the logits, 0 .. 10; 0 gives the most probable code at every place.
        top_k: only so many of the most probable codes are drawn, 1 .. K; None for all.
        labels: see `to_condition`.

    Returns:
        Codes, 0 .. K - 1.

    Raises:
        CapabilityError: the model has no learned prior.
        ParameterError: a number is out of range, or a label does not name a class.
        TooLargeError: n is over the limit, or the pictures would be.
    """
    prior, level = model.prior, level_of(model)
    check_draw(engine.settings, n=n, seed=seed, first_index=first_index, temperature=temperature)
    height, width = prior.links[0].grid
    sides = height * level.downsampling, width * level.downsampling
    check_pixels(engine.settings, *sides, total=n * math.prod(sides))
    if top_k is not None and not 1 <= top_k <= level.num_embeddings:
        raise ParameterError(f"top_k is {top_k}, expected 1 .. {level.num_embeddings}, the codes of {model.reference}")
    condition = to_condition(model, labels, n)
    noise = partial(batch_uniform, seed, first_index, n, height * width, stream=CODES_STREAM)
    rows = {
        "uniform": noise() if n <= _QUICK_ROWS else await asyncio.to_thread(noise),
        "temperature": np.full(n, float(temperature)),
        "top_k": np.full(n, ALL_CODES if top_k is None else top_k),
    }
    return await engine.draw(model, rows if condition is None else rows | {"condition": condition})


async def decode_drawn(
    engine: Engine, model: ServedModel, codes: Int32[np.ndarray, "n h w"]
) -> UInt8[np.ndarray, "n H W C"]:
    """Decode grids in the making.

    Args:
        engine: that runs.
        model: which.
        codes: of a request that has been let in, `UNDRAWN` where there is none yet.

    Returns:
        Images, grey where no code has been drawn.
    """
    is_drawn = codes != UNDRAWN
    images = await decode(engine, model, np.where(is_drawn, codes, np.int32(0)), admit=0)
    scale = level_of(model).downsampling
    return np.where(is_drawn.repeat(scale, axis=1).repeat(scale, axis=2)[..., None], images, _GREY)
