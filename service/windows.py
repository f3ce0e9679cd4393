"""Large inputs through a model piece by piece: what one run over the whole would give, in memory that one piece takes.

Pieces begin at multiples of the window, counted from the beginning of the input. Each is computed with as much around
it as its own places depend on, so that codes differ from those of one run by the rounding of another shape alone, and
pixels or samples have no seams.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from artifact.manifest import AudioGeometry, ImageGeometry
from media.windows import Piece, Slices, cut
from service.engine.engine import Engine
from service.engine.lanes import Lane, current_caller, in_lane
from service.engine.opening import ServedModel
from service.engine.work import Arrays
from service.levels import Codes, input_sides, levels_of
from service.settings import Settings


async def encode(engine: Engine, model: ServedModel, x: NDArray[Any]) -> Codes:
    """Give the codes of inputs.

    Args:
        engine: that runs.
        model: of integer codes.
        x: `[B, H, W, C]` or `[B, T]`, checked.

    Returns:
        The codes of every level by name, int32 `[B, *grid]`, with Q in front of the grid where there are several
        codebooks.
    """
    cell = cell_size(model)
    places = _places(model, x.shape, cell)
    pieces = _cut(engine.settings, model, places, _encode_halo(model))
    scales = {name: cell // level.downsampling for name, level in levels_of(model).items()}
    whole = {name: _Whole([side * scale for side in places]) for name, scale in scales.items()}
    async for piece, codes in _run(
        engine, model, "encode", pieces, lambda p: {"x": x[_after_batch(p.given(cell))]}, None
    ):
        if len(pieces) == 1:
            return codes
        for name, scale in scales.items():
            grid = codes[name]
            axis = grid.ndim - len(places)
            whole[name].put(grid[_last_axes(piece.kept(scale))], piece.own(scale), axis)
    return {name: one.array for name, one in whole.items()}


async def decode(
    engine: Engine,
    model: ServedModel,
    codes: Codes,
    conditions: Arrays,
    finish: Callable[[NDArray[Any]], NDArray[Any]],
    *,
    role: str = "decode",
    admit: int | None = None,
) -> NDArray[Any]:
    """Give the likelihood's mean.

    Args:
        engine: that runs.
        model: of integer codes.
        codes: of every level by name, checked.
        conditions: of the decoder by name, int64 `[B]`.
        finish: makes of a piece of the mean what is kept of it, element by element; called in a thread.
        role: of the graph that decodes.
        admit: see `Engine.run`.

    Returns:
        What `finish` gave, `[B, H, W, C]` or `[B, T]`.
    """
    cell = cell_size(model)
    places, pieces = _of_codes(engine.settings, model, codes, cell)
    whole = _Whole([side * cell for side in places])

    def given(piece: Piece) -> Arrays:
        return {**_part_of(codes, model, piece, cell), **conditions}

    async for piece, outputs in _run(engine, model, role, pieces, given, admit):
        part = await asyncio.to_thread(finish, outputs["mean"][_after_batch(piece.kept(cell))])
        if len(pieces) == 1:
            return part
        whole.put(part, piece.own(cell), 1)
    return whole.array


async def log_likelihood(
    engine: Engine,
    model: ServedModel,
    x: NDArray[Any],
    codes: Codes,
    conditions: Arrays,
    extents: Sequence[tuple[int, ...]],
) -> Float64[np.ndarray, " B"]:
    """Give log p(x given codes) in nats, summed over what belongs to the originals.

    Args:
        engine: that runs.
        model: of integer codes.
        x: as for `encode`; its codes have been computed, so that the request is let in.
        codes: of every level by name.
        conditions: of the decoder by name, int64 `[B]`.
        extents: (height, width) or (length,) of each original, at the beginning of `x`; what lies beyond is padding.

    Returns:
        One sum an input.
    """
    cell = cell_size(model)
    _, pieces = _of_codes(engine.settings, model, codes, cell)

    def given(piece: Piece) -> Arrays:
        return {"x": x[_after_batch(piece.given(cell))], **_part_of(codes, model, piece, cell), **conditions}

    sums = np.zeros(len(x))
    async for piece, outputs in _run(engine, model, "log_likelihood", pieces, given, 0):
        nats = outputs["log_p_x_given_z"][_after_batch(piece.kept(cell))]
        sums += await asyncio.to_thread(_sum_inside, nats, [own.start for own in piece.own(cell)], extents)
    return sums


def cell_size(model: ServedModel) -> int:
    """Give the smallest step that an input can be cut at, in pixels or samples: that of the coarsest codes."""
    return math.lcm(*(level.downsampling for level in levels_of(model).values()))


def window_size(settings: Settings, model: ServedModel) -> int | None:
    """Give the longest side that is run at once, in pixels or samples; None where that is the whole input."""
    geometry = model.manifest.geometry
    if model.manifest.windows is None or any(input_sides(model)):
        return None
    if isinstance(geometry, AudioGeometry):
        wished = round(settings.window_s * geometry.sample_rate_hz)
    else:
        wished = settings.window_pixels
    cell = cell_size(model)
    return max(1, min(wished, geometry.maximum) // cell) * cell


def is_cut(settings: Settings, model: ServedModel, sides: Sequence[int]) -> bool:
    """Tell whether an input is run in several pieces.

    Args:
        settings: the window.
        model: which.
        sides: (height, width) or (length,) of the input.
    """
    window = window_size(settings, model)
    return window is not None and max(sides) > window


def _sum_inside(nats: NDArray[Any], starts: Sequence[int], extents: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    """Sum what belongs to the originals of a piece that begins at `starts`."""
    kept = [
        tuple(slice(max(0, side - start)) for side, start in zip(extent, starts, strict=True)) for extent in extents
    ]
    return np.array([row[inside].sum(dtype=np.float64) for row, inside in zip(nats, kept, strict=True)])


def _places(model: ServedModel, shape: tuple[int, ...], cell: int) -> tuple[int, ...]:
    """Give the cells of an input on each axis."""
    return tuple(side // cell for side in shape[1 : 1 + _axes(model)])


def _axes(model: ServedModel) -> int:
    """Count the axes that an input is cut along."""
    return 2 if isinstance(model.manifest.geometry, ImageGeometry) else 1


def _of_codes(settings: Settings, model: ServedModel, codes: Codes, cell: int) -> tuple[tuple[int, ...], list[Piece]]:
    """Give the cells that codes stand for on each axis, and the pieces to decode them in."""
    name, level = next(iter(levels_of(model).items()))
    places = tuple(side * level.downsampling // cell for side in codes[name].shape[-_axes(model) :])
    return places, _cut(settings, model, places, _decode_halo(model))


def _cut(settings: Settings, model: ServedModel, places: tuple[int, ...], halo: int) -> list[Piece]:
    """Cut an input at canonical places; a model that runs whole inputs alone gets it in one piece."""
    window, cell = window_size(settings, model), cell_size(model)
    return cut(places, window=max(places) if window is None else window // cell, halo=-(-halo // cell))


def _encode_halo(model: ServedModel) -> int:
    """Give the pixels or samples around a piece that its codes depend on."""
    return model.manifest.windows.encode_halo if model.manifest.windows is not None else 0


def _decode_halo(model: ServedModel) -> int:
    """Give how far around a piece lie the places that it depends on, in pixels or samples."""
    finest = min(level.downsampling for level in levels_of(model).values())
    return model.manifest.windows.decode_halo * finest if model.manifest.windows is not None else 0


def _part_of(codes: Codes, model: ServedModel, piece: Piece, cell: int) -> Arrays:
    """Give what a piece is decoded from."""
    levels = levels_of(model)
    return {name: array[_last_axes(piece.given(cell // levels[name].downsampling))] for name, array in codes.items()}


def _after_batch(slices: Slices) -> tuple[Any, ...]:
    """Give the index of a part of an input, whose channels come last where it has any."""
    return (slice(None), *slices)


def _last_axes(slices: Slices) -> tuple[Any, ...]:
    """Give the index of a part of a grid of codes, whose codebooks come first where there are several."""
    return (..., *slices)


async def _run(
    engine: Engine,
    model: ServedModel,
    role: str,
    pieces: Sequence[Piece],
    given: Callable[[Piece], Arrays],
    admit: int | None,
) -> AsyncIterator[tuple[Piece, Arrays]]:
    """Run a graph over pieces, one after the other; after the first one they let more urgent work go before them."""
    caller = current_caller()
    for index, piece in enumerate(pieces):
        with in_lane(Lane.BULK) if index else nullcontext():
            outputs = await engine.run(model, role, given(piece), admit=admit if index == 0 else 0)
        yield piece, outputs
        if caller.progress is not None and len(pieces) > 1:
            caller.progress.tell(index + 1, len(pieces))


class _Whole:
    """An array that is put together from its pieces.

    Args:
        sides: its sizes on the axes that were cut.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        self.array: NDArray[Any] = np.empty(0)
        self._sides = tuple(sides)

    def put(self, part: NDArray[Any], own: Slices, axis: int) -> None:
        """Lay a piece where it belongs; `axis` is the first of those that were cut."""
        if not self.array.size:
            end = axis + len(self._sides)
            self.array = np.empty((*part.shape[:axis], *self._sides, *part.shape[end:]), part.dtype)
        self.array[(slice(None),) * axis + own] = part
