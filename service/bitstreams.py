"""Codes as containers: under the exact prior where a model has one, else as they are."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np

from artifact.manifest import DiscreteLevel, condition_input
from codec.bands import cut_codes, cut_grids
from codec.coded import PREFIX_BYTES, PRIOR_PREFIX_BYTES, Chunk, Coded, write_coded
from codec.codes import tokens_crc, write_codes
from codec.conditions import write_conditions
from codec.errors import CodecError
from codec.layout import Grid, Layout
from codec.profile import Profile
from service import coding
from service.coding_chunks import Grids, Levels, layout_of, to_links, usual_chunk_rows, why_not_covered
from service.coding_reading import read_all
from service.conditions import Asked, Inputs, to_conditions
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import CapabilityError, ParameterError, VerificationError
from service.levels import Codes, levels_of
from service.options import CompressOptions


@dataclass(frozen=True)
class Wish:
    """How codes are to be written.

    Attributes:
        profile: `raw`, `prior`, or None for the smaller one of those that there are.
        chunk_rows: rows of the coarsest grid in a chunk; None for the usual.
        codebooks: that are written of a level that has more, the first ones; None for all.
        asked: classes that the exact prior is conditioned on, as in `to_conditions`.
        is_full: whether what is written is read again step by step.
    """

    profile: Literal["raw", "prior"] | None = None
    chunk_rows: int | None = None
    codebooks: int | None = None
    asked: Asked | None = None
    is_full: bool = False

    @classmethod
    def of(cls, options: CompressOptions) -> Self:
        """Take what a caller asked for."""
        return cls(options.profile, options.chunk_rows, options.codebooks, options.asked, options.verify == "full")

    @property
    def is_for_prior(self) -> bool:
        """Whether something is asked for that only a prior has a use for."""
        return self.chunk_rows is not None or any(classes is not None for classes in (self.asked or {}).values())


@dataclass(frozen=True)
class Written:
    """A container, and what it came to.

    Attributes:
        container: the file.
        profile: how it was coded.
        chunks: that are coded by themselves.
        surprise_bits: -log2 of the probability of the codes, under the prior that they were coded under: the exact one,
            or for the raw profile the uniform one; of what is stored to the bit, of all that is coded.
        figures: others by name, with their units.
    """

    container: bytes
    profile: Profile
    chunks: int
    surprise_bits: float
    figures: Mapping[str, float] = field(default_factory=dict)


async def write_all(
    engine: Engine, model: ServedModel, codes: Codes, extents: Sequence[tuple[int, ...]], wish: Wish
) -> list[Written]:
    """Write a container for each picture or sound.

    Args:
        engine: that runs the exact prior.
        model: whose codes they are.
        codes: of the items, of a request that has been let in.
        extents: the (height, width) in pixels or (length,) in samples of each original.
        wish: how.

    Returns:
        The containers.

    Raises:
        CapabilityError: the prior is wished for, and there is none for this size; or it cannot be run exactly here.
        ParameterError: the wishes do not go together, or not with the model.
        VerificationError: what was written does not read as what it was written for.
    """
    layout, levels = layout_of(model, engine.settings), levels_of(model)
    items = [
        tuple(_present(codes[name][index], level, wish.codebooks) for name, level in levels.items())
        for index in range(len(extents))
    ]
    plain = await asyncio.to_thread(lambda: [_raw(model, layout, *item) for item in zip(items, extents, strict=True)])
    grids = _kept(layout.grids(extents[0]), wish.codebooks)
    if not _is_coded(model, grids, wish):
        return plain
    coded = await _code_all(engine, model, grids, items, extents, wish)
    found = [
        one if wish.profile == "prior" or len(one.container) <= len(raw.container) else raw
        for one, raw in zip(coded, plain, strict=True)
    ]
    if wish.is_full:
        await _read_again(engine, model, found, items)
    return found


def _present(codes: np.ndarray, level: DiscreteLevel, codebooks: int | None) -> np.ndarray:
    """Give the first codebooks of an item's level; a single one has no axis of its own."""
    if codebooks is None or codebooks >= level.num_codebooks:
        return codes
    return codes[0] if codebooks == 1 else codes[:codebooks]


def _kept(grids: Grids, codebooks: int | None) -> Grids:
    """Give the grids with the codebooks that are kept."""
    return tuple(Grid(min(grid.num_codebooks, codebooks or grid.num_codebooks), grid.sides) for grid in grids)


def _raw(model: ServedModel, layout: Layout, item: Levels, extent: tuple[int, ...]) -> Written:
    """Write an item as it is."""
    container = write_codes(item, layout=layout, model_hash=model.manifest.model_hash, extent=extent)
    bits = sum(codes.size * math.log2(level.num_embeddings) for codes, level in zip(item, layout.levels, strict=True))
    return Written(container, Profile.RAW, 1, bits)


def _is_coded(model: ServedModel, grids: Grids, wish: Wish) -> bool:
    """Tell whether items are coded under the prior; refuse wishes that nothing can be made of."""
    if wish.profile == "raw":
        if wish.is_for_prior:
            raise ParameterError("profile is raw, which has neither chunks nor classes; leave them out, or the profile")
        return False
    fault = _why_not_coded(model, grids, wish)
    if fault is None:
        coding.check_exact(model)
        return True
    if wish.profile == "prior" or wish.is_for_prior:
        raise CapabilityError(f"{model.reference} cannot code this under a prior: {fault}; ask for profile=raw alone")
    return False


def _why_not_coded(model: ServedModel, grids: Grids, wish: Wish) -> str | None:
    """Say why codes of a size are not coded under the prior; None where they are."""
    prior = model.manifest.exact_prior
    if prior is None:
        return "it has no exact prior"
    return why_not_covered(prior, grids, _rows(model, grids, wish))


def _rows(model: ServedModel, grids: Grids, wish: Wish) -> int | None:
    """Choose the rows of a chunk; None for a single chunk."""
    rows = wish.chunk_rows or usual_chunk_rows(coding.exact_prior(model), grids)
    return rows if rows is not None and rows < grids[0].sides[0] else None


async def _code_all(
    engine: Engine,
    model: ServedModel,
    grids: Grids,
    items: Sequence[Levels],
    extents: Sequence[tuple[int, ...]],
    wish: Wish,
) -> list[Written]:
    """Code items of one size under the prior."""
    prior, rows = coding.exact_prior(model), _rows(model, grids, wish)
    classes = _classes(model, wish.asked or {}, len(items))
    chunks = [cut_codes(item, len(grids[0].sides), rows) for item in items]
    payloads = await _payloads(engine, model, cut_grids(grids, rows), chunks, classes)
    header = Coded(
        profile=Profile.PRIOR,
        model_prefix=model.manifest.model_hash[: 2 * PREFIX_BYTES],
        prior_prefix=prior.canonical_hash[: 2 * PRIOR_PREFIX_BYTES],
        extent=extents[0],
        chunks=(),
        chunk_rows=rows,
        codebooks=wish.codebooks if grids != layout_of(model, engine.settings).grids(extents[0]) else None,
    )
    numbers = [_number(prior.conditions, classes, index) for index in range(len(items))]
    parts = zip(extents, numbers, chunks, payloads, strict=True)
    return [
        _join(replace(header, extent=extent, conditions=number), codes, coded) for extent, number, codes, coded in parts
    ]


def _classes(model: ServedModel, asked: Asked, rows: int) -> Inputs:
    """Give what the exact prior is conditioned on, of each item."""
    known = coding.exact_prior(model).conditions
    for name, classes in asked.items():
        if classes is not None and name not in known:
            raise ParameterError(f"{name} is given, and the exact prior of {model.reference} knows none; leave it out")
    return to_conditions(model, asked, rows, with_prior=True, is_exact=True).prior


async def _payloads(
    engine: Engine, model: ServedModel, shapes: Sequence[Grids], chunks: Sequence[Sequence[Levels]], classes: Inputs
) -> list[list[coding.Payload]]:
    """Code the chunks of items of one size, those of one shape side by side."""
    alike: dict[Grids, list[int]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        alike[shape].append(number)
    found: list[dict[int, coding.Payload]] = [{} for _ in chunks]
    for shape, numbers in alike.items():
        places = [(index, number) for index in range(len(chunks)) for number in numbers]
        side_by_side = to_links(coding.exact_prior(model), shape, [chunks[index][number] for index, number in places])
        of_each = {name: values[[index for index, _ in places]] for name, values in classes.items()}
        payloads = await coding.write(engine, model, side_by_side, of_each)
        for (index, number), payload in zip(places, payloads, strict=True):
            found[index][number] = payload
    return [[of_item[number] for number in range(len(shapes))] for of_item in found]


def _join(header: Coded, chunks: Sequence[Levels], payloads: Sequence[coding.Payload]) -> Written:
    """Write the chunks of an item as a container."""
    parts = (Chunk(tokens_crc(codes), payload.data) for codes, payload in zip(chunks, payloads, strict=True))
    container = write_coded(replace(header, chunks=tuple(parts)))
    return Written(container, header.profile, len(payloads), sum(payload.bits for payload in payloads))


def _number(conditions: Mapping[str, tuple[str, ...]], classes: Inputs, row: int) -> int:
    """Give the classes of an item as one number."""
    counts = [len(names) for names in conditions.values()]
    chosen = [int(classes[condition_input(name)][row]) for name in conditions]
    return write_conditions(
        [index if index < count else None for index, count in zip(chosen, counts, strict=True)], counts
    )


async def _read_again(engine: Engine, model: ServedModel, found: Sequence[Written], items: Sequence[Levels]) -> None:
    """Read containers as `/decompress` will, and compare."""
    try:
        read = await read_all(engine, model, [one.container for one in found], admit=0)
    except CodecError as error:
        raise VerificationError(f"what was written cannot be read: {error}") from error
    for one, item in zip(read, items, strict=True):
        if not all(map(np.array_equal, one.levels, item)):
            raise VerificationError("what was written reads as other codes")
