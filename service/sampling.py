"""Drawing codes from a learned prior, place by place, each step joined with those of other requests."""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int32

from artifact.codes import Steps, sample_raster
from artifact.manifest import CodePrior
from artifact.noise import CODES_STREAM, batch_uniform
from service.conditions import to_condition
from service.discrete import level_of
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError
from service.limits import check_pixels
from service.operations import check_draw

CHAIN_ROWS = 32
"""Rows that are drawn in step: few, so that the draws of one chain keep nobody waiting while another's graph runs."""

CHAINS_AT_ONCE = 2
"""Chains of one request in flight: one draws while the other's graph runs, and small requests find their turn."""

T = TypeVar("T")


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
    prior, level = _prior(model), level_of(model)
    check_draw(engine.settings, n=n, seed=seed, first_index=first_index, temperature=temperature)
    sides = prior.height * level.downsampling, prior.width * level.downsampling
    check_pixels(engine.settings, *sides, total=n * math.prod(sides))
    if top_k is not None and not 1 <= top_k <= level.num_embeddings:
        raise ParameterError(f"top_k is {top_k}, expected 1 .. {level.num_embeddings}, the codes of {model.reference}")
    condition = to_condition(model, labels, n)
    places = prior.height * prior.width
    uniform = await asyncio.to_thread(batch_uniform, seed, first_index, n, places, stream=CODES_STREAM)
    parts = [slice(start, start + CHAIN_ROWS) for start in range(0, n, CHAIN_ROWS)]
    turns = asyncio.Semaphore(CHAINS_AT_ONCE)

    async def draw(part: slice) -> Int32[np.ndarray, "B h w"]:
        async with turns:
            steps = sample_raster(
                model.manifest.graphs,
                prior.height,
                prior.width,
                uniform[part],
                None if condition is None else condition[part],
                temperature=temperature,
                top_k=top_k,
            )
            return await _run(engine, model, steps, admit=n if part.start == 0 else 0)

    return np.concatenate(await _together([draw(part) for part in parts]))


def _prior(model: ServedModel) -> CodePrior:
    """Give the learned prior."""
    if model.manifest.prior is None:
        raise CapabilityError(f"{model.reference} has no learned prior to draw from; choose another model")
    return model.manifest.prior


async def _run(engine: Engine, model: ServedModel, steps: Steps, *, admit: int) -> Int32[np.ndarray, "B h w"]:
    """Run the graphs that a chain asks for, one after the other; a deadline ends it between two."""
    role, feeds = next(steps)
    answer = await engine.run(model, role, feeds, admit=admit)
    while True:
        try:
            role, feeds = steps.send(answer)
        except StopIteration as end:
            codes: Int32[np.ndarray, "B h w"] = end.value
            return codes
        answer = await engine.run(model, role, feeds, admit=0)


async def _together(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Await works side by side; where one fails, the others are given up."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
