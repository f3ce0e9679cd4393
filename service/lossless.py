"""Pictures and sounds stored to the bit by models of codes: tokens, and what these leave out."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.manifest import Manifest, condition_input
from codec.bands import cut_codes, cut_grids, join_codes
from codec.coded import PREFIX_BYTES, PRIOR_PREFIX_BYTES, Chunk, Coded, read_coded, write_coded
from codec.errors import CodecError, ContainerLimitError, MalformedContainerError
from codec.framing import crc32c
from codec.layout import Layout
from codec.lossless import Lossless, read_lossless
from codec.profile import Profile
from codec.raw import read_payload, write_payload
from codec.residual_payload import Residual
from service import coding, discrete
from service.bitstreams import Written
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
from service.errors import UnknownPriorError, VerificationError
from service.faults import naming
from service.levels import Codes, check_size, levels_of
from service.pictures import Pictures
from service.residuals import Original, Residuals, has_residuals, residuals_of
from service.sounds import Sounds


@dataclass(frozen=True)
class _Tokens:
    """The tokens of an original.

    Attributes:
        prior_prefix: see `codec.lossless.Lossless`.
        chunks: likewise.
        bits: -log2 of their probability.
    """

    prior_prefix: str | None
    chunks: tuple[bytes, ...]
    bits: float


def can_lossless(manifest: Manifest) -> bool:
    """Tell whether a model stores pictures or sounds to the bit, each by itself."""
    return has_residuals(manifest)


async def compress_lossless(
    engine: Engine, model: ServedModel, given: Pictures | Sounds, *, is_full: bool
) -> list[Written]:
    """Store pictures or sounds to the bit, each by itself; every one is read again before it is given away.

    Args:
        engine: that runs.
        model: with the exact networks for it.
        given: pictures or sounds.
        is_full: whether their tokens are read again as well, step by step.

    Returns:
        A container an item.

    Raises:
        InexactError: the exact networks cannot be run exactly here.
        ParameterError: what was sent cannot be given back as it was.
        TooLargeError: one would take too long.
        VerificationError: what was written does not read as what it was written for.
    """
    coding.check_exact(model)
    residuals = residuals_of(model)
    originals = residuals.originals(given)
    extents = [one.shape[: residuals.axes] for one in originals]
    for extent in extents:
        residuals.check(extent)
    codes = await discrete.encode(engine, model, given.x)
    known = await residuals.around(engine, codes, extents, admit=0)
    found = []
    for index, (original, extent) in enumerate(zip(originals, extents, strict=True)):
        levels = tuple(codes[name][index] for name in levels_of(model))
        tokens = await _write_tokens(engine, model, levels, extent)
        residual = await asyncio.to_thread(residuals.write, original, known[index])
        found.append(_join(residuals, original, tokens, residual))
    if is_full:
        await _read_again(engine, model, found, [residuals.answered(one) for one in originals])
    return found


async def decompress_lossless(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> list[NDArray[Any]]:
    """Read pictures or sounds that were stored to the bit.

    Args:
        engine: that runs.
        model: that wrote them.
        coded: the containers.

    Returns:
        The pictures, `[H, W, C]` uint8, or sounds, `[T]` float32 in -1 .. 1.

    Raises:
        CodecError: one is damaged, or not what the model writes.
        InexactError: the exact networks cannot be run exactly here.
        TooLargeError: they are larger than the limits.
        UnknownPriorError: one's tokens were written under another exact prior than the model has.
    """
    residuals, layout = _checked(engine, model, coded)
    found: list[NDArray[Any]] = []
    for index, header in enumerate(coded):
        with naming(index, len(coded)):
            original = await _read(engine, residuals, layout, header, admit=0 if index else None)
            found.append(residuals.answered(original))
    return found


async def read_codes(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> list[Codes]:
    """Read the codes of what was stored to the bit, and nothing else of it.

    Args:
        engine: that runs.
        model: that wrote them.
        coded: the containers.

    Returns:
        Their codes by name.

    Raises:
        CodecError: as in `decompress_lossless`.
        InexactError: likewise.
        TooLargeError: likewise.
        UnknownPriorError: likewise.
    """
    _, layout = _checked(engine, model, coded)
    found: list[Codes] = []
    for index, header in enumerate(coded):
        with naming(index, len(coded)):
            held, shapes = _held(model, layout, header)
            levels = await _read_levels(engine, model, layout, header, held, shapes, admit=0 if index else None)
            found.append(dict(zip(levels_of(model), levels, strict=True)))
    return found


def _checked(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> tuple[Residuals, Layout]:
    """Hold containers against the model and the limits, before anything is run."""
    coding.check_exact(model)
    residuals, layout = residuals_of(model), layout_of(model, engine.settings)
    total = 0
    for index, header in enumerate(coded):
        with naming(index, len(coded)):
            total += math.prod(header.extent)
            _check(engine, residuals, layout, header, total)
    return residuals, layout


def _check(engine: Engine, residuals: Residuals, layout: Layout, header: Coded, total: int) -> None:
    """Hold a container against the model and the limits; see `_checked`."""
    is_other = len(header.extent) != residuals.axes
    if is_other or header.chunk_rows is not None or header.codebooks is not None or header.conditions:
        raise MalformedContainerError(
            "the container of something stored to the bit has chunks, codebooks, conditions or another extent than "
            f"{residuals.model.reference} takes, expected none of these: write it anew"
        )
    grids = layout.grids(header.extent)
    sides = tuple(side * layout.levels[0].downsampling for side in grids[0].sides)
    check_size(engine.settings, residuals.model, sides, total=max(total, math.prod(sides)))
    residuals.check(header.extent)


async def _write_tokens(engine: Engine, model: ServedModel, levels: Levels, extent: tuple[int, ...]) -> _Tokens:
    """Write the tokens of an original under the exact prior, or as they are where that is smaller."""
    layout = layout_of(model, engine.settings)
    grids, prior = layout.grids(extent), model.manifest.exact_prior
    packed = write_payload(levels, layout)
    bits = sum(grid.count * math.log2(level.num_embeddings) for grid, level in zip(grids, layout.levels, strict=True))
    raw = _Tokens(None, (packed,), bits)
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
    return _Tokens(prior.canonical_hash[: 2 * PRIOR_PREFIX_BYTES], tuple(chunks), bits)


def _no_classes(model: ServedModel, count: int) -> Inputs:
    """Tell the exact prior of no class."""
    prior = coding.exact_prior(model)
    return {condition_input(name): np.full(count, len(names)) for name, names in prior.conditions.items()}


def _join(residuals: Residuals, original: Original, tokens: _Tokens, residual: Residual) -> Written:
    """Write the container of an original."""
    payload = Lossless(tokens.prior_prefix, tokens.chunks, residual.data).write()
    coded = Coded(
        profile=Profile.LOSSLESS_VQ,
        model_prefix=residuals.model.manifest.model_hash[: 2 * PREFIX_BYTES],
        prior_prefix=residuals.canonical_hash[: 2 * PRIOR_PREFIX_BYTES],
        extent=original.shape[: residuals.axes],
        chunks=(Chunk(_crc(original), payload),),
    )
    container, bits = write_coded(coded), tokens.bits + residual.bits
    figures = {
        "token_bits": tokens.bits,
        "residual_bits": residual.bits,
        "net_bits_per_dim": bits / original.size,
        "bits_per_dim": 8 * len(container) / original.size,
    }
    return Written(container, Profile.LOSSLESS_VQ, 1, bits, figures)


def _crc(original: Original) -> int:
    """Give the checksum of an original: its values in C order, those of 16 bits little-endian."""
    return crc32c(original.astype(original.dtype.newbyteorder("<")).tobytes())


async def _read(engine: Engine, residuals: Residuals, layout: Layout, header: Coded, *, admit: int | None) -> Original:
    """Read an original."""
    (chunk,), model = header.chunks, residuals.model
    held, shapes = _held(model, layout, header)
    levels = await _read_levels(engine, model, layout, header, held, shapes, admit=admit)
    codes = {name: level[None] for name, level in zip(levels_of(model), levels, strict=True)}
    admit = admit if held.prior_prefix is None else 0
    (known,) = await residuals.around(engine, codes, [header.extent], admit=admit)
    original = await asyncio.to_thread(residuals.read, held.residual, known)
    if (found := _crc(original)) != chunk.content_crc:
        raise MalformedContainerError(
            f"what was stored has the checksum {found:08x}, expected {chunk.content_crc:08x}: the container is "
            "damaged, send it as it was written"
        )
    return original


def _held(model: ServedModel, layout: Layout, header: Coded) -> tuple[Lossless, tuple[Grids, ...]]:
    """Take a payload apart, and give the grids of each chunk of its tokens."""
    grids, prior = layout.grids(header.extent), model.manifest.exact_prior
    shapes = cut_grids(grids, None if prior is None else usual_chunk_rows(prior, grids))
    return read_lossless(header.chunks[0].payload, len(shapes)), shapes


async def _read_levels(
    engine: Engine,
    model: ServedModel,
    layout: Layout,
    header: Coded,
    held: Lossless,
    shapes: tuple[Grids, ...],
    *,
    admit: int | None,
) -> Levels:
    """Read the tokens of an original."""
    if held.prior_prefix is not None:
        return await _read_tokens(engine, model, held, shapes, admit=admit)
    levels = read_payload(held.tokens[0], layout.grids(header.extent), layout)
    _check_range(levels, layout)
    return levels


def _check_range(levels: Levels, layout: Layout) -> None:
    """Refuse tokens that are no codes."""
    for number, (tokens, level) in enumerate(zip(levels, layout.levels, strict=True)):
        if tokens.max(initial=0) >= level.num_embeddings:
            raise ContainerLimitError(
                f"level {number} has codes up to {tokens.max()}, the model has 0 .. {level.num_embeddings - 1}: use "
                "the model that they come from"
            )


async def _read_tokens(
    engine: Engine, model: ServedModel, held: Lossless, shapes: tuple[Grids, ...], *, admit: int | None
) -> Levels:
    """Read the tokens of an original step by step, chunks of one shape side by side."""
    prior = coding.exact_prior(model)
    if prior.canonical_hash[: 2 * PRIOR_PREFIX_BYTES] != held.prior_prefix:
        raise UnknownPriorError(
            f"the tokens were written under the exact prior whose hash begins with {held.prior_prefix}, "
            f"{model.reference} has {prior.canonical_hash[: 2 * PRIOR_PREFIX_BYTES]}; serve the version that has it"
        )
    alike: dict[Grids, list[int]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        if (fault := why_not_covered(prior, shape, None)) is not None:
            raise MalformedContainerError(f"{model.reference} cannot have written this under its prior: {fault}")
        alike[shape].append(number)
    chunks: dict[int, Levels] = {}
    for shape, numbers in alike.items():
        payloads, classes = [held.tokens[number] for number in numbers], _no_classes(model, len(numbers))
        coded, faults = await coding.read(engine, model, payloads, shapes_of(prior, shape), classes, admit=admit)
        admit = 0
        for row, number in enumerate(numbers):
            if (damage := faults[row]) is not None:
                raise damage
            chunks[number] = to_levels(prior, shape, coded, row)
    return join_codes([chunks[number] for number in range(len(shapes))], len(shapes[0][0].sides))


async def _read_again(
    engine: Engine, model: ServedModel, found: Sequence[Written], originals: Sequence[NDArray[Any]]
) -> None:
    """Read containers as `/decompress` will, and compare."""
    try:
        read = await decompress_lossless(engine, model, [read_coded(one.container) for one in found])
    except CodecError as error:
        raise VerificationError(f"what was written cannot be read: {error}") from error
    if not all(map(np.array_equal, read, originals)):
        raise VerificationError("what was written reads as something else")
