"""Containers of all kinds, under a prior that is a formula: written and read as a service would, without networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32

from codec.bands import cut_codes, join_codes
from codec.coded import Chunk, Coded, write_coded
from codec.codes import check_tokens, read_codes, tokens_crc, write_codes
from codec.conditions import read_conditions
from codec.container import Container, write_container
from codec.entropy import ChunkDecoder, encode_chunk
from codec.errors import CodecError
from codec.fitting import fit_coded
from codec.layout import Grid, Layout, LevelLayout
from codec.probabilities import intervals
from codec.profile import Profile
from codec.reading import read_any

Codes = tuple[Int32[np.ndarray, "..."], ...]

PRIOR_HASH = "8899aabb" * 8


class WrongModelError(CodecError):
    """The container names another model or prior."""


@dataclass(frozen=True)
class Specimen:
    """An item, and how it is written.

    Attributes:
        layout: of its model.
        model_hash: likewise, 64 hexadecimal digits.
        extent: of the original.
        profile: how its tokens are written.
        codebooks: that are kept; None for all.
        conditions: their number.
        classes: how many each condition of its model has.
        chunk_rows: of each chunk; None for one chunk.
    """

    layout: Layout
    model_hash: str
    extent: tuple[int, ...]
    profile: Profile = Profile.PRIOR
    codebooks: int | None = None
    conditions: int = 0
    classes: tuple[int, ...] = ()
    chunk_rows: int | None = None

    @cached_property
    def codes(self) -> Codes:
        """Its codes, an array a level."""
        rng = np.random.default_rng(0)
        kept = [
            Grid(min(grid.num_codebooks, self.codebooks or grid.num_codebooks), grid.sides)
            for grid in self.layout.grids(self.extent)
        ]
        return tuple(
            (level.num_embeddings * rng.random(grid.shape) ** 3).astype(np.int32)
            for grid, level in zip(kept, self.layout.levels, strict=True)
        )

    @cached_property
    def data(self) -> bytes:
        """Its container."""
        if self.profile is Profile.RAW:
            return write_codes(self.codes, layout=self.layout, model_hash=self.model_hash, extent=self.extent)
        empty = Coded(
            profile=self.profile,
            model_prefix=self.model_hash[:16],
            prior_prefix=PRIOR_HASH[:8],
            extent=self.extent,
            chunks=(),
            chunk_rows=self.chunk_rows,
            codebooks=self.codebooks,
            conditions=self.conditions,
        )
        return rewrite(empty, self.codes, self.layout)


SPECIMENS = (
    Specimen(
        Layout((LevelLayout(100, 1, 4),), (None, None), multiple_of=4, maximum=64), "01" * 32, (9, 14), Profile.RAW
    ),
    Specimen(
        Layout((LevelLayout(1024, 3, 80),), (None,), multiple_of=160, maximum=16_000), "23" * 32, (1500,), Profile.RAW
    ),
    Specimen(Layout((LevelLayout(100, 1, 4),), (None, None), multiple_of=4, maximum=64), "45" * 32, (19, 14)),
    Specimen(
        Layout((LevelLayout(6, 1, 8), LevelLayout(20, 2, 4)), (24, 24), multiple_of=1, maximum=64),
        "67" * 32,
        (23, 24),
        codebooks=1,
        conditions=11,
        classes=(9, 3),
        chunk_rows=1,
    ),
    Specimen(
        Layout((LevelLayout(256, 4, 80),), (None,), multiple_of=160, maximum=16_000),
        "89" * 32,
        (1500,),
        codebooks=3,
        chunk_rows=6,
    ),
)


def toy_logits(before: int, place: int, conditions: int, K: int) -> Int32[np.ndarray, " K"]:
    """Give logits that depend on the token before, the place and the conditions."""
    seed = 101 * before + 31 * place + 17 * conditions + 7
    return (np.arange(K, dtype=np.int32) * seed % 97 - np.arange(K, dtype=np.int32)) * np.int32(8)


def read(data: bytes, specimen: Specimen) -> tuple[Container | Coded, Codes]:
    """Read a container as a service would that has a specimen's model.

    Args:
        data: the file.
        specimen: whose model is at hand.

    Returns:
        What it says, and its codes.

    Raises:
        CodecError: it is refused.
    """
    container = read_any(data)
    _check(container, specimen)
    if isinstance(container, Container):
        return container, read_codes(container, specimen.layout)
    bands = []
    for chunk, grids in zip(container.chunks, fit_coded(container, specimen.layout), strict=True):
        codes = _decode(chunk.payload, grids, specimen.layout, container.conditions)
        check_tokens(codes, chunk.content_crc)
        bands.append(codes)
    return container, join_codes(bands, len(container.extent))


def rewrite(container: Container | Coded, codes: Codes, layout: Layout) -> bytes:
    """Write codes with all else that a container says, checksums and payload anew.

    Args:
        container: whose header it shall be.
        codes: an array a level.
        layout: of the model.

    Returns:
        The file.
    """
    if isinstance(container, Container):
        return write_container(container)
    return write_coded(_with_chunks(container, _encode_all(container, codes, layout)))


def forge(coded: Coded, specimen: Specimen) -> bytes:
    """Give a container content checksums that fit what its payloads decode to.

    Args:
        coded: whose payloads may be anything.
        specimen: of whose model it is.

    Returns:
        The file.

    Raises:
        CodecError: it does not fit the model.
    """
    _check(coded, specimen)
    chunks = []
    for chunk, grids in zip(coded.chunks, fit_coded(coded, specimen.layout), strict=True):
        codes = _decode(chunk.payload, grids, specimen.layout, coded.conditions, is_checked=False)
        chunks.append(Chunk(tokens_crc(codes), chunk.payload))
    return write_coded(_with_chunks(coded, chunks))


def _with_chunks(coded: Coded, chunks: Sequence[Chunk]) -> Coded:
    return Coded(**{**vars(coded), "chunks": tuple(chunks)})


def _check(container: Container | Coded, specimen: Specimen) -> None:
    """Refuse what names another model or prior, or classes that it does not have."""
    prior = None if isinstance(container, Container) else PRIOR_HASH[: len(container.prior_prefix)]
    if not specimen.model_hash.startswith(container.model_prefix) or prior != container.prior_prefix:
        raise WrongModelError("the container is of another model")
    if isinstance(container, Coded):
        read_conditions(container.conditions, specimen.classes)


def _encode_all(coded: Coded, codes: Codes, layout: Layout) -> list[Chunk]:
    return [
        Chunk(tokens_crc(band), _encode(band, layout, coded.conditions))
        for band in cut_codes(codes, len(coded.extent), coded.chunk_rows)
    ]


def _encode(codes: Codes, layout: Layout, conditions: int) -> bytes:
    starts, sizes = [], []
    for level, tokens in zip(layout.levels, codes, strict=True):
        before = 0
        for place, token in enumerate(tokens.ravel()):
            logits = toy_logits(before, place, conditions, level.num_embeddings)
            start, size = intervals(logits[None], np.array([token]))
            starts.append(start)
            sizes.append(size)
            before = int(token)
    return encode_chunk(np.concatenate(starts), np.concatenate(sizes))


def _decode(
    payload: bytes, grids: Sequence[Grid], layout: Layout, conditions: int, *, is_checked: bool = True
) -> Codes:
    decoder, found = ChunkDecoder(payload), []
    for grid, level in zip(grids, layout.levels, strict=True):
        tokens, before = np.empty(grid.count, dtype=np.int32), 0
        for place in range(grid.count):
            before = decoder.decode(toy_logits(before, place, conditions, level.num_embeddings))
            tokens[place] = before
        found.append(tokens.reshape(grid.shape))
    if is_checked:
        decoder.finish()
    return tuple(found)
