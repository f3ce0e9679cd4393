"""Strangers' containers: the exact tokens or a typed error, and no memory for claims."""

import dataclasses
import random
import tracemalloc
from collections.abc import Callable

import google_crc32c
import numpy as np
import pytest

from codec.codes import read_codes, write_codes
from codec.container import Container, read_container, write_container
from codec.errors import CodecError
from codec.framing import seal
from codec.layout import Grid, Layout, LevelLayout

HASH = "0123456789abcdef" * 4
HEADER_BYTES = 45
MUTATIONS = 9_000
FORGERIES = 1_000


@dataclasses.dataclass(frozen=True)
class Original:
    layout: Layout
    extent: tuple[int, ...]
    codes: tuple[np.ndarray, ...]
    data: bytes


def original(layout: Layout, extent: tuple[int, ...]) -> Original:
    rng = np.random.default_rng(0)
    codes = tuple(
        rng.integers(0, level.num_embeddings, grid.shape)
        for level, grid in zip(layout.levels, layout.grids(extent), strict=True)
    )
    return Original(layout, extent, codes, write_codes(codes, layout=layout, model_hash=HASH, extent=extent))


ORIGINALS = [
    original(Layout((LevelLayout(100, 1, 4),), (None, None), multiple_of=4, maximum=64), (9, 14)),
    original(Layout((LevelLayout(6, 1, 8), LevelLayout(20, 2, 4)), (16, 24), multiple_of=1, maximum=64), (13, 24)),
    original(Layout((LevelLayout(1024, 3, 80),), (None,), multiple_of=160, maximum=16_000), (1500,)),
]


def flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def insert(data: bytearray, rng: random.Random) -> None:
    position = rng.randint(0, len(data))
    data[position:position] = rng.randbytes(rng.randint(1, 8))


def delete(data: bytearray, rng: random.Random) -> None:
    position = rng.randrange(len(data))
    del data[position : position + rng.randint(1, 8)]


def splice(data: bytearray, rng: random.Random) -> None:
    """Put a piece of some container over another."""
    other = rng.choice(ORIGINALS).data
    start, position = rng.randrange(len(other)), rng.randrange(len(data))
    piece = other[start : start + rng.randint(1, 40)]
    data[position : position + len(piece)] = piece


def edit_number(data: bytearray, rng: random.Random) -> None:
    """Put a number in place of a byte of the header, at times too long or not in its shortest form."""
    number = rng.choice([0, 1, 2, 127, 128, 4096, 2**31 - 1, 2**31, 2**35 - 1, rng.getrandbits(rng.randint(1, 40))])
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    groups += [0] * rng.choice([0, 0, 0, 1, 4])
    position = rng.randrange(4, HEADER_BYTES)
    data[position : position + rng.choice([0, 1, 1, 1, 2])] = [*(group | 0x80 for group in groups[:-1]), groups[-1]]


def truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def extend(data: bytearray, rng: random.Random) -> None:
    data += rng.randbytes(rng.randint(1, 40))


WAYS: list[Callable[[bytearray, random.Random], None]] = [flip, insert, delete, splice, edit_number, truncate, extend]


def mutated(data: bytes, rng: random.Random) -> bytes:
    body = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        rng.choice(WAYS)(body, rng)
        if not body:
            break
    return bytes(body)


def test_a_damaged_container_gives_its_tokens_or_an_error() -> None:
    rng, accepted = random.Random(1), 0
    for number in range(MUTATIONS):
        case = rng.choice(ORIGINALS)
        # Half have an outer checksum that fits, so that the rules behind it are reached.
        data = seal(mutated(case.data[:-4], rng)) if number % 2 else mutated(case.data, rng)
        try:
            container = read_container(data)
            found = read_codes(container, case.layout)
        except CodecError:
            continue
        accepted += 1
        assert write_container(container) == data
        assert all(np.array_equal(level, codes) for level, codes in zip(found, case.codes, strict=True))
    # Another hash, or another extent of the same padded size, changes no token.
    assert accepted > 20


def forged(container: Container, layout: Layout, rng: random.Random) -> Container:
    """Change the payload or the geometry, and write the checksum of the tokens that come of it."""
    payload = bytearray(container.payload)
    rng.choice([flip, flip, flip, splice, truncate, extend])(payload, rng)
    digits = "".join(f"{byte:08b}" for byte in payload)
    tokens, position = b"", 0
    for grid, level in zip(container.grids, layout.levels, strict=True):
        width = level.token_bits
        places = range(position, min(position + grid.count * width, len(digits) - width + 1), width)
        tokens += b"".join(int(digits[place : place + width], 2).to_bytes(4, "little") for place in places)
        position += -(-grid.count * width // 8) * 8
    extent = tuple(max(1, side + rng.choice([0, 0, 0, -1, 1, 7])) for side in container.extent)
    return dataclasses.replace(container, payload=bytes(payload), extent=extent, tokens_crc=google_crc32c.value(tokens))


def test_a_forged_container_is_refused_or_is_the_one_form_of_its_tokens() -> None:
    rng, accepted = random.Random(2), 0
    for _ in range(FORGERIES):
        case = rng.choice(ORIGINALS)
        data = write_container(forged(read_container(case.data), case.layout, rng))
        try:
            container = read_container(data)
            found = read_codes(container, case.layout)
        except CodecError:
            continue
        accepted += 1
        assert write_codes(found, layout=case.layout, model_hash=HASH, extent=container.extent) == data
    assert accepted > 100


GENEROUS = Layout((LevelLayout(1024, 4, 1),), (None, None), multiple_of=1, maximum=2**31 - 1)


@pytest.mark.parametrize("layout", [ORIGINALS[0].layout, GENEROUS])
@pytest.mark.parametrize(
    ("grids", "extent"),
    [
        ((Grid(4, (2**31 - 1, 2**31 - 1)),), (2**31 - 1, 2**31 - 1)),
        ((Grid(2**31 - 1, (2**31 - 1, 2**31 - 1)),), (1, 1)),
        ((Grid(4, (1, 2**20)),), (1, 2**20)),
        ((Grid(1, (2**31 - 1, 1)),) * 64, (2**31 - 1, 1)),
    ],
)
def test_claims_take_no_memory(layout: Layout, grids: tuple[Grid, ...], extent: tuple[int, int]) -> None:
    claims = dataclasses.replace(read_container(ORIGINALS[0].data), grids=grids, extent=extent)
    data = write_container(claims)
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            read_codes(read_container(data), layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18


def test_a_claimed_payload_takes_no_memory() -> None:
    data = ORIGINALS[0].data
    header = data[: -4 - len(read_container(data).payload) - 4 - 1]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="announces a payload of 2147483647 bytes"):
            read_container(seal(header + b"\xff\xff\xff\xff\7" + bytes(4)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18
