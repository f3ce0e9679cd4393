"""From containers to codes: what a model can have written, decoded, checked, and mended where that is asked for."""

import asyncio
from bisect import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32

from artifact.manifest import DiscreteLevel, condition_input
from codec.bands import join_codes
from codec.coded import Coded
from codec.codes import check_tokens, read_codes
from codec.conditions import read_conditions
from codec.container import Container
from codec.errors import CodecError, MalformedContainerError
from codec.fitting import fit_coded
from codec.layout import Layout
from codec.profile import Profile
from service import coding
from service.coding_chunks import Grids, Levels, layout_of, shapes_of, to_levels, why_not_covered
from service.coding_models import Header, check_writer, take_apart
from service.engine.engine import Engine
from service.engine.lanes import Lane, current_caller, in_lane
from service.engine.opening import ServedModel
from service.errors import DeadlineError, ParameterError
from service.faults import naming
from service.levels import ABSENT, Codes, check_size, levels_of
from service.settings import Settings

_BULK_PLACES = 2**13
"""Requests with more codes to be read step by step let others go first."""


@dataclass(frozen=True)
class Read:
    """What a container held.

    Attributes:
        header: what it says.
        levels: the codes, of the codebooks that it keeps.
        codes: likewise by name, `[*grid]` or `[Q, *grid]`, `ABSENT` where a codebook is left out.
        classes: that its prior was conditioned on, by the name of the condition; None for none.
        lost: the rows of pixels, or the samples, that were damaged and filled from beside them: (first, beyond the
            last) of each stretch.
    """

    header: Header
    levels: Levels
    codes: Codes
    classes: Mapping[str, int | None]
    lost: tuple[tuple[int, int], ...]

    @property
    def is_coded(self) -> bool:
        """Whether the codes were read step by step, under a prior."""
        return isinstance(self.header, Coded)


@dataclass
class _Item:
    """A container on its way to its codes.

    Attributes:
        header: what it says.
        shapes: the grids of each chunk; one for the raw profile.
        classes: see `Read`.
        chunks: the codes of each chunk, by number, as far as they are known.
        faults: what is wrong with chunks.
    """

    header: Header
    shapes: tuple[Grids, ...]
    classes: Mapping[str, int | None] = field(default_factory=dict)
    chunks: dict[int, Levels] = field(default_factory=dict)
    faults: dict[int, CodecError] = field(default_factory=dict)


async def read_all(
    engine: Engine, model: ServedModel, files: Sequence[bytes], *, salvage: bool = False, admit: int | None = None
) -> list[Read]:
    """Read containers of one model.

    Args:
        engine: that runs the exact prior.
        model: that should have written them.
        files: the containers.
        salvage: read what is left of damaged ones.
        admit: see `Engine.run`.

    Returns:
        What each of them holds.

    Raises:
        CodecError: one is damaged, unknown, or not what the model writes.
        ParameterError: one is of another model.
        UnknownPriorError: one was written under another exact prior than the model has.
        InexactError: the exact prior cannot be run exactly here.
        TooLargeError: they would decode to more than the limits.
    """
    layout = layout_of(model, engine.settings)
    items = await asyncio.to_thread(_take_all_apart, files, model, layout, engine.settings, salvage)
    alike: dict[Grids, list[tuple[int, int]]] = defaultdict(list)
    for index, number, shape in _chunks_to_read(items):
        alike[shape].append((index, number))
    if alike:
        coding.check_exact(model)
        _check_time(engine, model, alike)
    places = sum(grid.count * len(chunks) for shape, chunks in alike.items() for grid in shape)
    with in_lane(Lane.BULK) if places > _BULK_PLACES else nullcontext():
        for shape, chunks in alike.items():
            await _read_alike(engine, model, items, shape, chunks, admit=admit)
            admit = 0
    return await asyncio.to_thread(_put_all_together, items, model, layout, salvage)


def _check_time(engine: Engine, model: ServedModel, alike: Mapping[Grids, Sequence[tuple[int, int]]]) -> None:
    """Refuse to begin what will not be done in time."""
    seconds = 0.0
    for shape, chunks in alike.items():
        batches = -(-len(chunks) // engine.settings.slots)
        seconds += batches * coding.seconds_of(engine, model, shapes_of(coding.exact_prior(model), shape))
    if current_caller().would_leave_in(seconds):
        raise DeadlineError(
            f"the codes take about {seconds:.0f} s to be read, longer than the deadline; ask for less at once, or with "
            "the header Prefer: respond-async"
        )


def _take_all_apart(
    files: Sequence[bytes], model: ServedModel, layout: Layout, settings: Settings, salvage: bool
) -> list[_Item]:
    """Read all that can be read without running anything, and hold it against the model and the limits."""
    items, total = [], 0
    for index, data in enumerate(files):
        with naming(index, len(files)):
            header, damaged = take_apart(data, salvage=salvage)
            check_writer(model, header)
            grids = layout.grids(header.extent)
            sides = tuple(side * layout.levels[0].downsampling for side in grids[0].sides)
            total += int(np.prod(sides))
            check_size(settings, model, sides, total=total)
            if isinstance(header, Container):
                raw = read_codes(header, layout)
                items.append(_Item(header, (grids,), chunks={0: raw}))
            else:
                items.append(_coded(header, model, layout, damaged))
    return items


def _coded(header: Coded, model: ServedModel, layout: Layout, damaged: Sequence[int]) -> _Item:
    """Hold a container of coded chunks against the model."""
    if header.profile is not Profile.PRIOR:
        raise ParameterError(
            f"the container has the profile {header.profile.name.lower()}, and those before it are of codes; send "
            "containers of one profile at a time"
        )
    prior, shapes = coding.exact_prior(model), fit_coded(header, layout)
    for shape in dict.fromkeys(shapes):
        if (fault := why_not_covered(prior, shape, None)) is not None:
            raise MalformedContainerError(f"{model.reference} cannot have written this under its prior: {fault}")
    chosen = read_conditions(header.conditions, [len(classes) for classes in prior.conditions.values()])
    faults: dict[int, CodecError] = {
        number: MalformedContainerError(f"chunk {number} is damaged") for number in damaged
    }
    return _Item(header, shapes, dict(zip(prior.conditions, chosen, strict=True)), faults=faults)


def _chunks_to_read(items: Sequence[_Item]) -> Iterator[tuple[int, int, Grids]]:
    """List the chunks that are to be read step by step: item, number and shape."""
    for index, item in enumerate(items):
        for number, shape in enumerate(item.shapes):
            if number not in item.chunks and number not in item.faults:
                yield index, number, shape


async def _read_alike(
    engine: Engine,
    model: ServedModel,
    items: Sequence[_Item],
    shape: Grids,
    chunks: Sequence[tuple[int, int]],
    *,
    admit: int | None,
) -> None:
    """Read chunks of one shape side by side, some of them at a time."""
    prior, most = coding.exact_prior(model), engine.settings.slots
    for first in range(0, len(chunks), most):
        part = chunks[first : first + most]
        payloads = [_payload(items[index].header, number) for index, number in part]
        classes = {
            condition_input(name): np.array(
                [_or_none(items[index].classes[name], names) for index, _ in part], dtype=np.int64
            )
            for name, names in prior.conditions.items()
        }
        coded, faults = await coding.read(
            engine, model, payloads, shapes_of(prior, shape), classes, admit=0 if first or admit == 0 else len(chunks)
        )
        for row, (index, number) in enumerate(part):
            items[index].chunks[number] = to_levels(prior, shape, coded, row)
            if (fault := faults[row]) is not None:
                items[index].faults[number] = fault


def _payload(header: Header, number: int) -> bytes:
    """Give the coded bytes of a chunk."""
    return header.chunks[number].payload if isinstance(header, Coded) else b""


def _or_none(index: int | None, names: Sequence[str]) -> int:
    """Give the number of a class, as a graph takes it."""
    return len(names) if index is None else index


def _put_all_together(items: Sequence[_Item], model: ServedModel, layout: Layout, salvage: bool) -> list[Read]:
    """Check the codes of all items, and join them."""
    found = []
    for index, item in enumerate(items):
        with naming(index, len(items)):
            found.append(_put_together(item, model, layout, salvage))
    return found


def _put_together(item: _Item, model: ServedModel, layout: Layout, salvage: bool) -> Read:
    """Check the codes of an item's chunks, and join them."""
    axes = len(item.header.extent)
    _check(item)
    if item.faults and (not salvage or len(item.faults) == len(item.shapes)):
        raise next(iter(item.faults.values()))
    lost = tuple(_stretch(item, number, layout) for number in sorted(item.faults))
    sound = sorted(item.chunks.keys() - item.faults.keys())
    chunks = [
        item.chunks[at] if at not in item.faults else _fill(item, at, sound, axes) for at in range(len(item.shapes))
    ]
    levels = chunks[0] if len(chunks) == 1 else join_codes(chunks, axes)
    names = zip(levels_of(model).items(), levels, strict=True)
    codes = {name: _completed(grid, level, axes) for (name, level), grid in names}
    return Read(item.header, levels, codes, item.classes, lost)


def _check(item: _Item) -> None:
    """Compare the codes of each chunk with their checksum."""
    if isinstance(item.header, Container):
        return
    for number, levels in item.chunks.items():
        if number in item.faults:
            continue
        try:
            check_tokens(levels, item.header.chunks[number].content_crc)
        except CodecError as error:
            item.faults[number] = error


def _stretch(item: _Item, number: int, layout: Layout) -> tuple[int, int]:
    """Give the rows of pixels, or the samples, of a chunk."""
    rows, scale, end = item.shapes[number][0].sides[0], layout.levels[0].downsampling, item.header.extent[0]
    start = number * item.shapes[0][0].sides[0]
    return start * scale, min((start + rows) * scale, end)


def _fill(item: _Item, number: int, sound: Sequence[int], axes: int) -> Levels:
    """Give codes in place of a chunk that is lost: those of the nearest row of another chunk, over and over."""
    place = bisect(sound, number)
    near = min(sound[max(0, place - 1) : place + 1], key=lambda other: abs(other - number))
    edge = -1 if near < number else 0
    return tuple(
        np.repeat(np.take(codes, [edge], axis=-axes), grid.sides[0], axis=-axes)
        for codes, grid in zip(item.chunks[near], item.shapes[number], strict=True)
    )


def _completed(codes: Int32[np.ndarray, "..."], level: DiscreteLevel, axes: int) -> Int32[np.ndarray, "..."]:
    """Give the codes of all codebooks of an item's level, `ABSENT` where the container has none."""
    if level.num_codebooks == 1:
        return codes
    present = codes.reshape(-1, *codes.shape[-axes:])
    whole = np.full((level.num_codebooks, *present.shape[1:]), ABSENT, dtype=np.int32)
    whole[: len(present)] = present
    return whole
