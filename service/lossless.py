"""Pictures and sounds stored to the bit by models of codes: tokens, and what these leave out."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifact.manifest import Manifest
from codec.coded import PREFIX_BYTES, PRIOR_PREFIX_BYTES, Chunk, Coded, read_coded, write_coded
from codec.errors import CodecError, MalformedContainerError
from codec.framing import crc32c
from codec.layout import Layout
from codec.lossless import Lossless
from codec.profile import Profile
from codec.residual_payload import Residual
from service import coding, discrete
from service.bitstreams import Written
from service.coding_chunks import Levels, layout_of
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import VerificationError
from service.faults import naming
from service.levels import Codes, check_size, levels_of
from service.lossless_tokens import Held, Tokens, read_tokens, write_tokens
from service.pictures import Pictures
from service.residuals import Original, Residuals, exact_part, residuals_of
from service.sounds import Sounds

_FULL_SCALE = np.float32(32768)


def can_lossless(manifest: Manifest) -> bool:
    """Tell whether a model stores pictures or sounds to the bit, each by itself."""
    return exact_part(manifest) is not None


async def compress_lossless(
    engine: Engine, model: ServedModel, given: Pictures | Sounds, *, is_full: bool
) -> list[Written]:
    """Store pictures or sounds to the bit, each by itself; every one is read again before it is given away.

    Args:
        engine: that runs.
        model: with the exact networks for it.
        given: pictures or sounds.
        is_full: whether whole containers are read again, their tokens step by step.

    Returns:
        A container an item.

    Raises:
        InexactError: the exact networks cannot be run exactly here.
        ParameterError: what was sent cannot be given back as it was.
        TooLargeError: they would take too long.
        VerificationError: what was written does not read as what it was written for.
    """
    coding.check_exact(model)
    residuals = residuals_of(model)
    originals = residuals.originals(given)
    residuals.check([_extent(residuals, one) for one in originals])
    codes = await discrete.encode(engine, model, given.x)
    found = []
    for index, original in enumerate(originals):
        own, extent = {name: codes[name][index : index + 1] for name in levels_of(model)}, _extent(residuals, original)
        tokens = await write_tokens(engine, model, _levels(own), extent)
        residual = await residuals.write(engine, original, own)
        if not np.array_equal(await residuals.read(engine, residual.data, extent, own, admit=0), original):
            raise VerificationError("what was written to the bit reads as something else")
        found.append(_join(residuals, original, tokens, residual))
        if is_full:
            await _read_again(engine, residuals, found[-1].container, original, own)
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
        found.append(original / _FULL_SCALE if original.dtype == np.int16 else original)
    return found


async def read_codes(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> list[Codes]:
    """Read the codes of what was stored to the bit, and as little as possible else.

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
    residuals, layout = _checked(engine, model, coded)
    found: list[Codes] = []
    for index, header in enumerate(coded):
        with naming(index, len(coded)):
            held, admit = _held(residuals, layout, header), 0 if index else None
            if held.content.tokens_crc is None:  # that they are right only the picture tells, which is made of them
                await _read(engine, residuals, layout, header, admit=admit)
                admit = 0
            levels = await read_tokens(engine, model, layout, held, admit=admit)
        found.append(dict(zip(levels_of(model), levels, strict=True)))
    return found


def _extent(residuals: Residuals, original: Original) -> tuple[int, ...]:
    return original.shape[: residuals.axes]


def _levels(codes: Codes) -> Levels:
    """Give the codes of a single item level by level."""
    return tuple(grid[0] for grid in codes.values())


def _checked(engine: Engine, model: ServedModel, coded: Sequence[Coded]) -> tuple[Residuals, Layout]:
    """Hold containers against the model and the limits, before anything is run."""
    coding.check_exact(model)
    residuals, layout = residuals_of(model), layout_of(model, engine.settings)
    total = 0
    for index, header in enumerate(coded):
        with naming(index, len(coded)):
            total += math.prod(header.extent)
            _check_fields(residuals, header)
            sides = tuple(side * layout.levels[0].downsampling for side in layout.grids(header.extent)[0].sides)
            check_size(engine.settings, model, sides, total=max(total, math.prod(sides)))
    residuals.check([header.extent for header in coded])
    return residuals, layout


def _check_fields(residuals: Residuals, header: Coded) -> None:
    """Refuse a header that says what no such container says."""
    there = {
        "chunks": header.chunk_rows is not None,
        "codebooks": header.codebooks is not None,
        "conditions": header.conditions != 0,
        f"an extent of {len(header.extent)} axes": len(header.extent) != residuals.axes,
    }
    if any(there.values()):
        listed = " and ".join(name for name, is_there in there.items() if is_there)
        raise MalformedContainerError(
            f"the container of something stored to the bit has {listed}, expected none and {residuals.axes} axes: it "
            f"was not written by {residuals.model.reference}, write it anew"
        )


def _join(residuals: Residuals, original: Original, tokens: Tokens, residual: Residual) -> Written:
    """Write the container of an original."""
    payload = Lossless(tokens.prior_prefix, tokens.crc, tokens.chunks, residual.data).write()
    coded = Coded(
        profile=Profile.LOSSLESS_VQ,
        model_prefix=residuals.model.manifest.model_hash[: 2 * PREFIX_BYTES],
        prior_prefix=residuals.canonical_hash[: 2 * PRIOR_PREFIX_BYTES],
        extent=_extent(residuals, original),
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
    """Read an original, with its tokens where it is made of them."""
    (chunk,), model = header.chunks, residuals.model
    held, codes = _held(residuals, layout, header), dict[str, Any]()
    if residuals.needs_codes:
        levels = await read_tokens(engine, model, layout, held, admit=admit)
        codes = {name: level[None] for name, level in zip(levels_of(model), levels, strict=True)}
        admit = admit if held.content.prior_prefix is None else 0
    original = await residuals.read(engine, held.content.residual, header.extent, codes, admit=admit)
    if (found := _crc(original)) != chunk.content_crc:
        raise MalformedContainerError(
            f"what was stored has the checksum {found:08x}, expected {chunk.content_crc:08x}: the container is "
            "damaged, send it as it was written"
        )
    return original


def _held(residuals: Residuals, layout: Layout, header: Coded) -> Held:
    """Take the payload of a container apart."""
    held = Held.of(residuals.model, layout, header)
    if held.content.tokens_crc is None and not residuals.needs_codes:
        raise MalformedContainerError(
            "the tokens beside the sound have no checksum, expected one: it is damaged, send it as it was written"
        )
    return held


async def _read_again(engine: Engine, residuals: Residuals, container: bytes, original: Original, codes: Codes) -> None:
    """Read a container as `/decompress` will, and compare what it holds."""
    header, layout = read_coded(container), layout_of(residuals.model, engine.settings)
    try:
        read = await _read(engine, residuals, layout, header, admit=0)
        held = _held(residuals, layout, header)
        levels = await read_tokens(engine, residuals.model, layout, held, admit=0)
    except CodecError as error:
        raise VerificationError(f"what was written cannot be read: {error}") from error
    if not np.array_equal(read, original) or not all(map(np.array_equal, levels, _levels(codes))):
        raise VerificationError("what was written reads as something else")
