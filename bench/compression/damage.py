"""What can happen to a container on its way, and what somebody might do to it."""

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

from bench.compression.specimens import Specimen, forge
from codec.coded import Chunk, Coded, write_coded
from codec.container import write_container
from codec.errors import CodecError
from codec.framing import seal
from codec.reading import read_any

Way = Callable[[bytearray, random.Random, Sequence[Specimen]], None]

_HEADER_BYTES = 40
_NUMBERS = [0, 1, 2, 3, 127, 128, 4096, 2**24, 2**28, 2**31 - 1]


def _flip(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:  # noqa: ARG001
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _insert(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:  # noqa: ARG001
    place = rng.randint(0, len(data))
    data[place:place] = rng.randbytes(rng.randint(1, 8))


def _delete(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:  # noqa: ARG001
    place = rng.randrange(len(data))
    del data[place : place + rng.randint(1, 8)]


def _truncate(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:  # noqa: ARG001
    del data[rng.randrange(len(data)) :]


def _extend(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:  # noqa: ARG001
    data += rng.randbytes(rng.randint(1, 40))


def _splice(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:
    """Put a piece of another container over a piece of this one."""
    other = rng.choice(others).data
    start, place = rng.randrange(len(other)), rng.randrange(len(data))
    piece = other[start : start + rng.randint(1, 60)]
    data[place : place + len(piece)] = piece


def _claim(data: bytearray, rng: random.Random, others: Sequence[Specimen]) -> None:  # noqa: ARG001
    """Put a number, often a huge one, in place of a byte of the header, at times not in its shortest form."""
    number = rng.choice([*_NUMBERS, 2**31, 2**35 - 1, rng.getrandbits(rng.randint(1, 40))])
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    groups += [0] * rng.choice([0, 0, 0, 1, 4])
    place = rng.randrange(min(4, len(data)), min(_HEADER_BYTES, len(data)) + 1)
    data[place : place + rng.choice([0, 1, 1, 1, 2])] = [*(group | 0x80 for group in groups[:-1]), groups[-1]]


WAYS: dict[str, Way] = {
    "flips": _flip,
    "inserted": _insert,
    "deleted": _delete,
    "truncated": _truncate,
    "extended": _extend,
    "spliced": _splice,
    "sizes": _claim,
}
"""Damage to the bytes, by name."""


def damaged(specimen: Specimen, way: str, rng: random.Random, others: Sequence[Specimen], *, is_sealed: bool) -> bytes:
    """Damage the bytes of a container.

    Args:
        specimen: whose.
        way: of `WAYS`; by chance another one on top.
        rng: what is left to chance.
        others: to take pieces from.
        is_sealed: whether the closing checksum is made to fit.

    Returns:
        The bytes.
    """
    data = bytearray(specimen.data[:-4] if is_sealed else specimen.data)
    WAYS[way](data, rng, others)
    if rng.random() < 0.25 and data:
        rng.choice(list(WAYS.values()))(data, rng, others)
    return seal(bytes(data)) if is_sealed else bytes(data)


def forged(specimen: Specimen, rng: random.Random, others: Sequence[Specimen], *, fits: bool) -> bytes:
    """Change what a container says, and make all checksums fit that can be made to.

    Args:
        specimen: whose.
        rng: what is left to chance.
        others: to take pieces from.
        fits: whether the checksum of the tokens is made to fit too, where the rest fits the model.

    Returns:
        The bytes.
    """
    container = read_any(specimen.data)
    extent = tuple(max(1, rng.choice([side, side, side + 1, side - 1, *_NUMBERS])) for side in container.extent)
    if rng.random() < 0.5:
        extent = container.extent
    if not isinstance(container, Coded):
        payload = _changed(container.payload, rng, others)
        return write_container(dataclasses.replace(container, payload=payload, extent=extent))
    chunks = list(container.chunks)
    place = rng.randrange(len(chunks))
    chunks[place] = Chunk(chunks[place].content_crc, _changed(chunks[place].payload, rng, others))
    if len(chunks) > 1 and rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    changes: dict[str, Any] = {"extent": extent, "chunks": tuple(chunks)}
    if rng.random() < 0.3:
        changes["conditions"] = rng.choice(_NUMBERS)
    if rng.random() < 0.2:
        changes["codebooks"] = rng.choice([None, *_NUMBERS[1:]])
    if len(chunks) > 1 and rng.random() < 0.3:
        changes["chunk_rows"] = rng.choice(_NUMBERS[1:])
    coded = dataclasses.replace(container, **changes)
    try:
        return forge(coded, specimen) if fits else write_coded(coded)
    except CodecError:
        return write_coded(coded)


def _changed(payload: bytes, rng: random.Random, others: Sequence[Specimen]) -> bytes:
    data = bytearray(payload)
    if data and rng.random() < 0.8:
        rng.choice(list(WAYS.values()))(data, rng, others)
    return bytes(data)
