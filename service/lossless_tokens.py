"""The tokens beside what is stored to the bit: under the exact prior, or as they are."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from artifact.manifest import condition_input
from codec.bands import cut_codes, cut_grids, join_codes
from codec.coded import PRIOR_PREFIX_BYTES, Coded
from codec.codes import tokens_crc
from codec.errors import ContainerLimitError, MalformedContainerError
from codec.layout import Layout
from codec.lossless import Lossless, read_lossless
from codec.raw import read_payload, write_payload
from service import coding
from service.coding_chunks import (
    Grids,
    Levels,
    layout_of,
    shapes_of,
    to_levels,
    to_links,
    usual_chunk_rows,
    why_not_covered,
)
from service.conditions import Inputs
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import UnknownPriorError


@dataclass(frozen=True)
class Tokens:
    """The tokens of an original.

    Attributes:
        prior_prefix: see `codec.lossless.Lossless`.
        crc: likewise.
        chunks: likewise.
        bits: -log2 of their probability.
    """

    prior_prefix: str | None
    crc: int
    chunks: tuple[bytes, ...]
    bits: float


@dataclass(frozen=True)
class Held:
    """A payload, taken apart.

    Attributes:
        content: what it says.
        grids: of the tokens.
        shapes: of each chunk of them.
    """

    content: Lossless
    grids: Grids
    shapes: tuple[Grids, ...]

    @classmethod
    def of(cls, model: ServedModel, layout: Layout, header: Coded) -> "Held":
        """Take the payload of a container apart."""
        grids, prior = layout.grids(header.extent), model.manifest.exact_prior
        shapes = cut_grids(grids, None if prior is None else usual_chunk_rows(prior, grids))
        return cls(read_lossless(header.chunks[0].payload, len(shapes)), grids, shapes)


async def write_tokens(engine: Engine, model: ServedModel, levels: Levels, extent: tuple[int, ...]) -> Tokens:
    """Write the tokens of an original under the exact prior, or as they are where that is smaller."""
    layout = layout_of(model, engine.settings)
    grids, prior = layout.grids(extent), model.manifest.exact_prior
    packed, crc = write_payload(levels, layout), tokens_crc(levels)
    bits = sum(grid.count * math.log2(level.num_embeddings) for grid, level in zip(grids, layout.levels, strict=True))
    raw = Tokens(None, crc, (packed,), bits)
    rows = None if prior is None else usual_chunk_rows(prior, grids)
    if prior is None or why_not_covered(prior, grids, rows) is not None:
        return raw
    chunks: list[bytes] = []
    bits = 0.0
    for shape, chunk in zip(cut_grids(grids, rows), cut_codes(levels, len(extent), rows), strict=True):
        (payload,) = await coding.write(engine, model, to_links(prior, shape, [chunk]), _no_classes(model, 1))
        chunks.append(payload.data)
        bits += payload.bits
    if sum(map(len, chunks)) + PRIOR_PREFIX_BYTES >= len(packed):
        return raw
    return Tokens(prior.canonical_hash[: 2 * PRIOR_PREFIX_BYTES], crc, tuple(chunks), bits)


async def read_tokens(engine: Engine, model: ServedModel, layout: Layout, held: Held, *, admit: int | None) -> Levels:
    """Read the tokens of an original.

    Args:
        engine: that runs.
        model: that wrote them.
        layout: of its codes.
        held: the payload.
        admit: see `Engine.run`.

    Returns:
        An array a level.

    Raises:
        CodecError: they are damaged.
        UnknownPriorError: they were written under another exact prior than the model has.
    """
    if held.content.prior_prefix is None:
        levels = read_payload(held.content.tokens[0], held.grids, layout)
        _check_range(levels, layout)
    else:
        levels = await _read_under_prior(engine, model, held, admit=admit)
    expected = held.content.tokens_crc
    if expected is not None and (found := tokens_crc(levels)) != expected:
        raise MalformedContainerError(
            f"the tokens have the checksum {found:08x}, expected {expected:08x}: the container is damaged, send it as "
            "it was written"
        )
    return levels


def _no_classes(model: ServedModel, count: int) -> Inputs:
    """Tell the exact prior of no class."""
    prior = coding.exact_prior(model)
    return {condition_input(name): np.full(count, len(names)) for name, names in prior.conditions.items()}


def _check_range(levels: Levels, layout: Layout) -> None:
    """Refuse tokens that are no codes."""
    for number, (tokens, level) in enumerate(zip(levels, layout.levels, strict=True)):
        if tokens.max(initial=0) >= level.num_embeddings:
            raise ContainerLimitError(
                f"level {number} has codes up to {tokens.max()}, the model has 0 .. {level.num_embeddings - 1}: use "
                "the model that they come from"
            )


async def _read_under_prior(engine: Engine, model: ServedModel, held: Held, *, admit: int | None) -> Levels:
    """Read tokens step by step, chunks of one shape side by side."""
    prior, shapes = coding.exact_prior(model), held.shapes
    if (own := prior.canonical_hash[: 2 * PRIOR_PREFIX_BYTES]) != held.content.prior_prefix:
        raise UnknownPriorError(
            f"the tokens were written under the exact prior whose hash begins with {held.content.prior_prefix}, "
            f"{model.reference} has {own}; serve the version that has it"
        )
    alike: dict[Grids, list[int]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        if (fault := why_not_covered(prior, shape, None)) is not None:
            raise MalformedContainerError(f"{model.reference} cannot have written this under its prior: {fault}")
        alike[shape].append(number)
    chunks: dict[int, Levels] = {}
    for shape, numbers in alike.items():
        payloads, classes = [held.content.tokens[number] for number in numbers], _no_classes(model, len(numbers))
        coded, faults = await coding.read(engine, model, payloads, shapes_of(prior, shape), classes, admit=admit)
        admit = 0
        for row, number in enumerate(numbers):
            if (damage := faults[row]) is not None:
                raise damage
            chunks[number] = to_levels(prior, shape, coded, row)
    return join_codes([chunks[number] for number in range(len(shapes))], len(shapes[0][0].sides))
