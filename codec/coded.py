"""The container of version 2: what was coded under an exact model, in one chunk or several; see docs/format.md."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from codec.errors import ContainerLimitError, MalformedContainerError, UnsupportedContainerError
from codec.framing import CHECKSUM_BYTES, MAGIC, Cursor, check_magic, crc32c, seal, unseal, write_checksum, write_number
from codec.profile import Profile

VERSION: Final = 2
PREFIX_BYTES: Final = 8
"""How much of the model's sha256 a container keeps."""

PRIOR_PREFIX_BYTES: Final = 4
"""How much of the sha256 of what the payload was coded under."""

MAX_CHUNKS: Final = 1 << 16
"""Most chunks of a container."""

PROFILES: Final = (Profile.PRIOR, Profile.LOSSLESS_VQ, Profile.ARCHIVE)

_SOUND, _CONDITIONS, _CHUNKS, _CODEBOOKS = 0x10, 0x20, 0x40, 0x80
_PROFILE_MASK = 0x0F
_INDEX_BYTES = 4


@dataclass(frozen=True)
class Chunk:
    """What is coded by itself.

    Attributes:
        content_crc: CRC-32C of what it decodes to.
        payload: the coded bytes.
    """

    content_crc: int
    payload: bytes


@dataclass(frozen=True)
class Coded:
    """What a container of version 2 says.

    Attributes:
        profile: what is coded, and how.
        model_prefix: the first 16 hexadecimal digits of the model's hash.
        prior_prefix: the first 8 of the canonical hash of what the payload was coded under.
        extent: the original's (height, width) in pixels or (length,) in samples.
        chunks: at least one, from the top or the beginning on.
        chunk_rows: of the coarsest grid in each chunk but the last; None for a single chunk.
        codebooks: that are kept of a level that has more; None where all are.
        conditions: see `codec.conditions`; 0 for none.
    """

    profile: Profile
    model_prefix: str
    prior_prefix: str
    extent: tuple[int, ...]
    chunks: tuple[Chunk, ...]
    chunk_rows: int | None = None
    codebooks: int | None = None
    conditions: int = 0

    @property
    def payload_bytes(self) -> int:
        """The length of all payloads."""
        return sum(len(chunk.payload) for chunk in self.chunks)

    @property
    def overhead_bytes(self) -> int:
        """The container's length without the payloads."""
        own = CHECKSUM_BYTES * (1 if self.chunk_rows is None else 2)
        return len(_write_header(self)) + own * len(self.chunks) + CHECKSUM_BYTES


def write_coded(coded: Coded) -> bytes:
    """Write a container of version 2.

    Args:
        coded: its content.

    Returns:
        The file.

    Raises:
        ContainerLimitError: a number is larger than 2^31 - 1, or there are more than `MAX_CHUNKS` chunks.
        ValueError: there are several chunks and no `chunk_rows`, or the other way round.
    """
    if (len(coded.chunks) > 1) != (coded.chunk_rows is not None):
        raise ValueError(
            f"{len(coded.chunks)} chunks with chunk_rows={coded.chunk_rows}: expected it with several alone"
        )
    if len(coded.chunks) > MAX_CHUNKS:
        raise ContainerLimitError(
            f"there are {len(coded.chunks)} chunks, expected at most {MAX_CHUNKS}: choose more rows a chunk"
        )
    header = _write_header(coded)
    bodies = [chunk.content_crc.to_bytes(CHECKSUM_BYTES, "little") + chunk.payload for chunk in coded.chunks]
    if coded.chunk_rows is not None:
        bodies = [body + _chunk_checksum(header, number, body) for number, body in enumerate(bodies)]
    return seal(header + b"".join(bodies))


def read_coded(data: bytes) -> Coded:
    """Read what a container says; whether a model makes such things of its extent is for `codec.fitting` to judge.

    Args:
        data: the whole file.

    Returns:
        Its content, structurally sound.

    Raises:
        MalformedContainerError: it is no container, is damaged or contradicts itself.
        UnsupportedContainerError: it is of another version, or has an unknown profile.
        ContainerLimitError: it has more than `MAX_CHUNKS` chunks.
    """
    cursor = Cursor(unseal(data), len(MAGIC))
    coded, lengths = _read_header(cursor)
    if coded.chunk_rows is None:
        return replace(coded, chunks=(_read_chunk(cursor, cursor.left - CHECKSUM_BYTES),))
    expected = sum(length + 2 * CHECKSUM_BYTES for length in lengths)
    if cursor.left != expected:
        raise MalformedContainerError(
            f"the container announces chunks of {expected} bytes and holds {cursor.left}: write it anew"
        )
    header, chunks = cursor.passed(), []
    for number, length in enumerate(lengths):
        body = cursor.take(length + CHECKSUM_BYTES, "chunk")
        if cursor.take(CHECKSUM_BYTES, "chunk checksum") != _chunk_checksum(header, number, body):
            raise MalformedContainerError(f"the checksum of chunk {number} does not match: write it anew")
        chunks.append(_read_chunk(Cursor(body, 0), length))
    return replace(coded, chunks=tuple(chunks))


def salvage_coded(data: bytes) -> tuple[Coded, tuple[int, ...]]:
    """Read the undamaged chunks of a container that may be damaged.

    A chunk is looked for where it should be, and where it would be if bytes before it had been lost or added.

    Args:
        data: what is left of the file.

    Returns:
        Its content, a damaged chunk having an empty payload; and the numbers of the damaged chunks.

    Raises:
        MalformedContainerError: it is no container, or its header is damaged, or a container of one chunk is.
        UnsupportedContainerError: it is of another version, or has an unknown profile.
        ContainerLimitError: it has more than `MAX_CHUNKS` chunks.
    """
    check_magic(data)
    cursor = Cursor(data, len(MAGIC))
    coded, lengths = _read_header(cursor)
    if coded.chunk_rows is None:
        return read_coded(data), ()
    moved = cursor.left - CHECKSUM_BYTES - sum(length + 2 * CHECKSUM_BYTES for length in lengths)
    header, start = cursor.passed(), cursor.position
    chunks, damaged = [], []
    for number, length in enumerate(lengths):
        places = (data[place : place + length + 2 * CHECKSUM_BYTES] for place in (start, start + moved) if place >= 0)
        found = _find_chunk(header, number, places, length)
        chunks.append(found or Chunk(0, b""))
        if found is None:
            damaged.append(number)
        start += length + 2 * CHECKSUM_BYTES
    return replace(coded, chunks=tuple(chunks)), tuple(damaged)


def _find_chunk(header: bytes, number: int, pieces: Iterable[bytes], length: int) -> Chunk | None:
    """Read a chunk from the first piece whose checksum is that of this chunk of this container."""
    for piece in pieces:
        body, checksum = piece[:-CHECKSUM_BYTES], piece[-CHECKSUM_BYTES:]
        if len(body) == length + CHECKSUM_BYTES and checksum == _chunk_checksum(header, number, body):
            return _read_chunk(Cursor(body, 0), length)
    return None


def _chunk_checksum(header: bytes, number: int, body: bytes) -> bytes:
    """Write a chunk's checksum, so that no chunk is taken for one of another place or container."""
    return write_checksum(header[-CHECKSUM_BYTES:] + number.to_bytes(_INDEX_BYTES, "little") + body)


def _read_chunk(cursor: Cursor, length: int) -> Chunk:
    return Chunk(cursor.checksum("content checksum"), cursor.take(length, "payload"))


def _write_header(coded: Coded) -> bytes:
    """Write all that stands before the first chunk."""
    flags = _SOUND * (len(coded.extent) == 1) + _CONDITIONS * (coded.conditions > 0)
    flags += _CHUNKS * (coded.chunk_rows is not None) + _CODEBOOKS * (coded.codebooks is not None)
    optional = (coded.codebooks, coded.conditions or None, coded.chunk_rows)
    header = b"".join(
        [
            MAGIC,
            bytes([VERSION, flags | coded.profile]),
            bytes.fromhex(coded.model_prefix + coded.prior_prefix),
            *(write_number(number) for number in (*coded.extent, *optional) if number is not None),
        ]
    )
    if coded.chunk_rows is None:
        return header
    table = (len(coded.chunks), *(len(chunk.payload) for chunk in coded.chunks))
    return seal(header + b"".join(write_number(number) for number in table))


def _read_header(cursor: Cursor) -> tuple[Coded, list[int]]:
    """Read all that stands before the first chunk: what it says, without chunks, and the payload length of each."""
    (version,) = cursor.take(1, "version")
    if version != VERSION:
        raise UnsupportedContainerError(
            f"the container has version {version}, expected {VERSION}: read it with the latentd that wrote it, or newer"
        )
    (kind,) = cursor.take(1, "profile")
    if kind & _PROFILE_MASK not in PROFILES:
        known = ", ".join(f"{profile.value} ({profile.name.lower()})" for profile in PROFILES)
        raise UnsupportedContainerError(
            f"the container has the profile {kind & _PROFILE_MASK}, expected {known}: read it with a newer latentd"
        )
    coded = Coded(
        profile=Profile(kind & _PROFILE_MASK),
        model_prefix=cursor.take(PREFIX_BYTES, "model hash").hex(),
        prior_prefix=cursor.take(PRIOR_PREFIX_BYTES, "prior hash").hex(),
        extent=cursor.sides(1 if kind & _SOUND else 2, "original size"),
        chunks=(),
        codebooks=cursor.size("number of codebooks") if kind & _CODEBOOKS else None,
        conditions=cursor.size("conditions") if kind & _CONDITIONS else 0,
        chunk_rows=cursor.size("rows of a chunk") if kind & _CHUNKS else None,
    )
    return coded, _read_table(cursor) if kind & _CHUNKS else []


def _read_table(cursor: Cursor) -> list[int]:
    """Read the payload length of each chunk, and the checksum of the header."""
    count = cursor.size("number of chunks")
    if count < 2:
        raise MalformedContainerError(f"the container has a table of {count} chunk, expected 2 or more: write it anew")
    if count > MAX_CHUNKS:
        raise ContainerLimitError(
            f"the container has {count} chunks, expected at most {MAX_CHUNKS}: no writer makes so many"
        )
    lengths = [cursor.number("payload length") for _ in range(count)]
    expected = crc32c(cursor.passed())
    if cursor.checksum("header checksum") != expected:
        raise MalformedContainerError("the checksum of the header does not match: send the container as it was written")
    return lengths
