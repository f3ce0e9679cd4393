"""Drawing codes from a learned prior, link by link: what is asked for, checked, and its noise."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer
from numpy.typing import NDArray

from artifact.codes import ALL_CODES
from artifact.drawing import TO_DRAW
from artifact.manifest import Link, link_role
from artifact.noise import batch_uniform, codes_stream
from service.conditions import Conditions, Inputs
from service.discrete import NO_CONDITIONS, decode, features, last_axis
from service.engine.engine import Engine
from service.engine.lanes import current_caller
from service.engine.opening import ServedModel
from service.engine.progress import UNDRAWN
from service.engine.work import Arrays
from service.errors import ParameterError, TooLargeError
from service.levels import (
    ABSENT,
    CODES,
    Codes,
    check_draw_sides,
    check_range,
    check_size,
    codebook_axis,
    draw_sides,
    grid_shapes,
    levels_of,
    link_grid,
    names_of,
)

_BLANK = {"image": 128, "audio": 0}
"""What stands where nothing has been drawn: grey, or silence."""

_Grid = Int32[np.ndarray, "n *grid"]

_QUICK_ROWS = 4
"""The noise of so many grids is drawn in less time than a thread takes to begin."""


async def sample_codes(
    engine: Engine,
    model: ServedModel,
    *,
    n: int,
    seed: int,
    first_index: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    known: Mapping[str, Integer[np.ndarray, "R *grid"]] | None = None,
    sides: tuple[int, ...] | None = None,
    conditions: Inputs | None = None,
) -> Codes:
    """Draw codes from the prior: those of the first link, then those of each other link given the ones before.

    Args:
        engine: that runs.
        model: which.
        n: how many; this and what follows has been checked by `check_draw`.
        seed: of the noise.
        first_index: of the first item; item i has index first_index + i.
        temperature: divides the logits; 0 gives the most probable code at every place.
        top_k: only so many of the most probable codes are drawn, 1 .. K; None for all.
        top_p: only the fewest most probable codes are drawn that have this probability together; None for all.
        known: codes by name that are not drawn but taken, of one row for all or of n; -1 where one is to be drawn.
        sides: of what is drawn, in pixels or samples, for a prior over any size; None for the size that it is made for.
        conditions: of the prior, by input.

    Returns:
        Codes of every level by name, 0 .. K - 1.

    Raises:
        CapabilityError: the model has no learned prior.
        ParameterError: top_k is out of range, the prior does not draw that size, or known codes are not of it.
        TooLargeError: what is drawn would be over the limits.
    """
    links = model.prior.links
    sides = draw_sides(model) if sides is None else check_draw_sides(engine.settings, model, sides)
    check_size(engine.settings, model, sides, total=n * math.prod(sides))
    _check_top_k(model, top_k)
    shapes = grid_shapes(model, sides)
    _check_features(engine, model, shapes, n)
    fixed = _spread(model, known or {}, shapes, n)
    asked: Arrays = {"temperature": np.full(n, float(temperature)), "top_k": np.full(n, top_k or ALL_CODES)}
    if top_p is not None:
        asked["top_p"] = np.full(n, top_p)
    progress = current_caller().progress
    if progress is not None:
        progress.expect(n * sum(math.prod(shape) for shape in shapes.values()))
    grids: list[_Grid] = []
    for index, link in enumerate(links):
        grid = _grid_of(model, link, shapes)
        rows = asked | {"uniform": await _noise(seed, first_index, n, math.prod(grid), index)}
        if fixed:
            rows["known"] = link_grid(model, fixed, link)
        rows |= await features(engine, model, index, grids)
        rows |= conditions or {}
        grids.append(await engine.draw(model, rows, link=index, grid=grid, admit=None if index == 0 else 0))
    return _join(model, grids, shapes)


def _check_top_k(model: ServedModel, top_k: int | None) -> None:
    """Refuse to choose from more codes than there are."""
    most = max(level.num_embeddings for level in levels_of(model).values())
    if top_k is not None and not 1 <= top_k <= most:
        raise ParameterError(f"top_k is {top_k}, expected 1 .. {most}, the codes of {model.reference}")


def _grid_of(model: ServedModel, link: Link, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Give the grid of a link."""
    return shapes[names_of(model, CODES)[link.level]][-len(link.grid) :]


def _check_features(engine: Engine, model: ServedModel, shapes: Mapping[str, tuple[int, ...]], n: int) -> None:
    """Refuse to keep too much of what the earlier links say of each place of a later one."""
    most, size = engine.settings.max_queue_bytes, np.dtype(np.float32).itemsize
    wanted = (
        n
        * size
        * max(
            math.prod(_grid_of(model, link, shapes)) * last_axis(model, f"{link_role(index)}_given")
            for index, link in enumerate(model.prior.links)
        )
    )
    if wanted > most:
        raise TooLargeError(
            f"{n} draws take {wanted} bytes for what later grids depend on, at most {most} are kept; ask for fewer, "
            "and go on with first_index"
        )


def _spread(
    model: ServedModel,
    known: Mapping[str, Integer[np.ndarray, "R *grid"]],
    shapes: Mapping[str, tuple[int, ...]],
    n: int,
) -> Codes:
    """Give the known codes of every row, where there are any.

    Raises:
        ParameterError: they are of another grid, of another number of rows, or not codes of the model.
    """
    if not known:
        return {}
    whole = {name: np.full((n, *shape), TO_DRAW, dtype=np.int32) for name, shape in shapes.items()}
    for name, codes in known.items():
        if len(codes) not in (1, n) or codes.shape[1:] != shapes[name]:
            raise ParameterError(
                f"the known {name} are {list(codes.shape)}, expected {[n, *shapes[name]]}, or one row for all: what "
                f"{model.reference} draws, -1 where a code is to be drawn"
            )
        level = levels_of(model)[name]
        check_range(
            codes, level, f"known {name}", f"{model.reference} has a codebook of {level.num_embeddings}", least=TO_DRAW
        )
        whole[name][:] = codes
    return whole


async def _noise(seed: int, first_index: int, n: int, places: int, link: int) -> NDArray[np.float64]:
    """Draw the noise of a link, in a thread where that takes long."""
    draw = partial(batch_uniform, seed, first_index, n, places, stream=codes_stream(link))
    return draw() if n <= _QUICK_ROWS else await asyncio.to_thread(draw)


def _join(
    model: ServedModel, grids: Sequence[Int32[np.ndarray, "n *grid"]], shapes: Mapping[str, tuple[int, ...]]
) -> Codes:
    """Lay the grids of the links where they belong; what no link was drawn of yet is absent."""
    names, n = names_of(model, CODES), len(grids[0])
    levels = levels_of(model)
    codes: Codes = {}
    for link, grid in zip(model.prior.links, grids, strict=False):
        name = names[link.level]
        if levels[name].num_codebooks == 1:
            codes[name] = grid
        else:
            codes.setdefault(name, np.full((n, *shapes[name]), ABSENT, dtype=np.int32))[:, link.codebook] = grid
    return codes


async def decode_drawn(
    engine: Engine,
    model: ServedModel,
    grids: Sequence[Int32[np.ndarray, "n *grid"]],
    conditions: Conditions = NO_CONDITIONS,
) -> NDArray[Any]:
    """Decode grids in the making.

    Later links add detail to what the first one draws. So what a finer level lacks is shown as its code 0, and what a
    later codebook lacks is left out, which is a picture of a lower rate.

    Args:
        engine: that runs.
        model: which.
        grids: of the links begun so far, of a request that has been let in; `UNDRAWN` where there is no code yet.
        conditions: of the decoder.

    Returns:
        Images, grey where the first link has no code yet, or sounds, silent there.
    """
    first = list(levels_of(model).values())[model.prior.links[0].level]
    shapes = grid_shapes(model, tuple(places * first.downsampling for places in grids[0].shape[1:]))
    drawn = _join(model, grids, shapes)
    codes = {}
    for name, level in levels_of(model).items():
        whole = drawn.get(name, np.full((len(grids[0]), *shapes[name]), UNDRAWN, dtype=np.int32))
        # UNDRAWN is ABSENT in all codebooks but the first, which has no such code.
        codes[name] = whole.copy()
        of_first = codes[name][:, 0] if codebook_axis(level) else codes[name]
        of_first[of_first == UNDRAWN] = 0
    decoded = await decode(engine, model, codes, conditions, admit=0)
    is_drawn = grids[0] != UNDRAWN
    for axis in range(1, is_drawn.ndim):
        is_drawn = is_drawn.repeat(first.downsampling, axis=axis)
    blank = decoded.dtype.type(_BLANK[model.manifest.geometry.modality])
    return np.where(is_drawn.reshape(is_drawn.shape + (1,) * (decoded.ndim - is_drawn.ndim)), decoded, blank)
