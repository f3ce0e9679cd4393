"""Version 2's structure: each field, each rule, each message, and what is left of a damaged one."""

import dataclasses
import random
from typing import Any

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.coded import MAX_CHUNKS, Chunk, Coded, read_coded, salvage_coded, write_coded
from codec.container import Container, read_container, write_container
from codec.errors import CodecError, ContainerLimitError, MalformedContainerError, UnsupportedContainerError
from codec.framing import MAGIC, seal
from codec.layout import Grid
from codec.profile import Profile
from codec.reading import read_any

MODEL, PRIOR = "0011223344556677", "8899aabb"
HASHES = bytes.fromhex(MODEL + PRIOR)
ONE = Coded(Profile.PRIOR, MODEL, PRIOR, (3, 133), (Chunk(0x01020304, b"payload"),))
SEVERAL = dataclasses.replace(
    ONE, chunks=(Chunk(1, b"first"), Chunk(2, b""), Chunk(3, b"third one"), Chunk(4, b"4")), chunk_rows=7
)
HEAD = MAGIC + b"\2\1" + HASHES
CUT = MAGIC + b"\2\x41" + HASHES + b"\3\3" + b"\1"
HALF = seal(CUT + b"\2\0\0")


def chunk(header: bytes, number: int, body: bytes) -> bytes:
    """Append the checksum of one of several chunks."""
    return body + google_crc32c.value(header[-4:] + bytes([number, 0, 0, 0]) + body).to_bytes(4, "little")


def numbers() -> st.SearchStrategy[int]:
    edges = [2 ** (7 * groups) + step for groups in range(1, 5) for step in (-1, 0)]
    return st.one_of(st.integers(1, 2**31 - 1), st.integers(1, 300), st.sampled_from([*edges, 2**31 - 1]))


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what `coded_of` takes."""
    chunks = draw(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=200)), min_size=1, max_size=5))
    return {
        "profile": draw(st.sampled_from([Profile.PRIOR, Profile.LOSSLESS_VQ, Profile.ARCHIVE])),
        "model_prefix": draw(st.binary(min_size=8, max_size=8)).hex(),
        "prior_prefix": draw(st.binary(min_size=4, max_size=4)).hex(),
        "extent": draw(st.tuples(*[numbers()] * draw(st.integers(1, 2)))),
        "chunks": chunks,
        "chunk_rows": draw(numbers()) if len(chunks) > 1 else None,
        "codebooks": draw(st.none() | numbers()),
        "conditions": draw(st.just(0) | numbers()),
    }


def coded_of(chunks: list[tuple[int, bytes]], **rest: Any) -> Coded:
    return Coded(chunks=tuple(Chunk(*chunk) for chunk in chunks), **rest)


@settings(deadline=None)
@given(fields())
def test_what_is_written_is_read(fields: dict[str, Any]) -> None:
    coded = coded_of(**fields)
    data = write_coded(coded)
    assert read_coded(data) == read_any(data) == coded
    assert salvage_coded(data) == (coded, ())
    assert coded.overhead_bytes == len(data) - coded.payload_bytes
    assert coded.payload_bytes == sum(len(chunk.payload) for chunk in coded.chunks)


def test_fields_stand_where_the_specification_puts_them() -> None:
    assert write_coded(ONE) == seal(HEAD + b"\3\x85\1" + b"\4\3\2\1" + b"payload")
    sound = Coded(
        Profile.ARCHIVE, MODEL, PRIOR, (300,), (Chunk(1, b"xy"), Chunk(2, b"")), chunk_rows=5, codebooks=2, conditions=9
    )
    header = seal(MAGIC + b"\2\xf3" + HASHES + b"\xac\2" + b"\2" + b"\x09" + b"\5" + b"\2" + b"\2\0")
    assert write_coded(sound) == seal(header + chunk(header, 0, b"\1\0\0\0xy") + chunk(header, 1, b"\2\0\0\0"))


@pytest.mark.parametrize("extent", [(3, 133), (16_383, 16_383), (2**28 - 1,)])
def test_a_single_chunk_takes_at_most_32_bytes_besides_its_payload(extent: tuple[int, ...]) -> None:
    widest = dataclasses.replace(ONE, extent=extent, codebooks=127, conditions=127)
    assert len(write_coded(widest)) - len(b"payload") <= 32


def test_both_versions_are_read() -> None:
    raw = Container(Profile.RAW, MODEL * 2, None, (Grid(1, (1, 3)),), (3, 133), 5, b"payload")
    assert read_any(write_container(raw)) == raw
    assert read_any(write_coded(ONE)) == ONE
    with pytest.raises(UnsupportedContainerError, match="version 2, expected 1"):
        read_container(write_coded(ONE))
    with pytest.raises(UnsupportedContainerError, match="version 1, expected 2"):
        read_coded(write_container(raw))
    with pytest.raises(UnsupportedContainerError, match="version 3, expected 1 or 2: read it with the latentd that"):
        read_any(seal(MAGIC + b"\3"))
    for data in (b"", b"\x8a", MAGIC, seal(MAGIC), b"PNG" * 9):
        with pytest.raises(MalformedContainerError):
            read_any(data)


@pytest.mark.parametrize("fields", [{"chunk_rows": 3}, {"chunks": (Chunk(1, b""),) * 2}])
def test_rows_and_chunks_belong_together(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="chunks with chunk_rows="):
        write_coded(dataclasses.replace(ONE, **fields))


def test_more_chunks_than_a_container_holds_are_not_written() -> None:
    with pytest.raises(ContainerLimitError, match="there are 65537 chunks, expected at most 65536: choose more rows"):
        write_coded(dataclasses.replace(SEVERAL, chunks=(Chunk(0, b""),) * (MAX_CHUNKS + 1)))


def test_numbers_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(ContainerLimitError, match="cannot hold the size 2147483648"):
        write_coded(dataclasses.replace(ONE, extent=(1, 2**31)))


@pytest.mark.parametrize("coded", [ONE, SEVERAL])
def test_every_truncation_and_every_flipped_bit_is_refused(coded: Coded) -> None:
    data = write_coded(coded)
    for length in range(len(data)):
        with pytest.raises(MalformedContainerError):
            read_coded(data[:length])
    for place in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        with pytest.raises(MalformedContainerError):
            read_coded(bytes(flipped))


@pytest.mark.parametrize("extra", [b"\n", b"\0", write_coded(ONE)])
def test_nothing_may_follow(extra: bytes) -> None:
    with pytest.raises(MalformedContainerError, match="damaged, cut short or followed by others"):
        read_coded(write_coded(ONE) + extra)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (
            MAGIC + b"\2\0",
            UnsupportedContainerError,
            r"the profile 0, expected 1 \(prior\), 2 \(lossless_vq\), 3",
        ),
        (MAGIC + b"\2\x84", UnsupportedContainerError, "the profile 4"),
        (HEAD[:-5], MalformedContainerError, "within its model hash"),
        (HEAD[:-1], MalformedContainerError, "within its prior hash"),
        (HEAD + b"\3", MalformedContainerError, "within its original size"),
        (HEAD + b"\0\3" + bytes(4), MalformedContainerError, "original size is 0"),
        (HEAD + b"\x83\0\3" + bytes(4), MalformedContainerError, "original size is no number of at most"),
        (HEAD + b"\3\3" + bytes(3), MalformedContainerError, "within its content checksum"),
        (MAGIC + b"\2\x81" + HASHES + b"\3\3\0", MalformedContainerError, "number of codebooks is 0"),
        (MAGIC + b"\2\x21" + HASHES + b"\3\3\0", MalformedContainerError, "conditions is 0, expected at least 1"),
        (MAGIC + b"\2\x41" + HASHES + b"\3\3\0", MalformedContainerError, "rows of a chunk is 0"),
        (CUT + b"\1" + bytes(99), MalformedContainerError, "a table of 1 chunk, expected 2 or more"),
        (CUT + b"\7" + bytes(6), MalformedContainerError, "within its payload length"),
        (CUT + b"\x80\x80\4" + bytes(62), MalformedContainerError, "within its payload length"),
        (CUT + b"\x81\x80\4" + bytes(62), ContainerLimitError, "has 65537 chunks, expected at most 65536"),
        (CUT + b"\2\0\0" + bytes(20), MalformedContainerError, "checksum of the header does not match"),
        (seal(CUT + b"\2\1\0") + bytes(16), MalformedContainerError, "announces chunks of 17 bytes and holds 16"),
        (HALF + bytes(17), MalformedContainerError, "announces chunks of 16 bytes and holds 17"),
        (
            HALF + chunk(HALF, 0, bytes(4)) + bytes(8),
            MalformedContainerError,
            "checksum of chunk 1 does not",
        ),
    ],
)
def test_sealed_nonsense_is_refused(body: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_coded(seal(body))


def expected_after(damaged: int) -> tuple[Coded, tuple[int, ...]]:
    chunks = [Chunk(0, b"") if number == damaged else chunk for number, chunk in enumerate(SEVERAL.chunks)]
    return dataclasses.replace(SEVERAL, chunks=tuple(chunks)), (damaged,)


@pytest.mark.parametrize("damaged", range(4))
def test_a_chunk_that_is_overwritten_lengthened_or_shortened_is_lost_alone(damaged: int) -> None:
    data, rng = write_coded(SEVERAL), random.Random(damaged)
    starts = [data.index(chunk.content_crc.to_bytes(4, "little") + chunk.payload, 30) for chunk in SEVERAL.chunks]
    start, end = starts[damaged], starts[damaged] + len(SEVERAL.chunks[damaged].payload) + 8
    for _ in range(50):
        place = rng.randrange(start, end)
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        assert salvage_coded(bytes(flipped)) == expected_after(damaged)
        longer = data[: place + 1] + bytes(255 - data[place] for _ in range(rng.randint(1, 9))) + data[place + 1 :]
        if place + 1 < end:
            assert salvage_coded(longer) == expected_after(damaged)
        assert salvage_coded(data[:place] + data[place + 1 :]) == expected_after(damaged)


def test_a_chunk_is_not_taken_for_another() -> None:
    alike = tuple(Chunk(number, bytes([number]) * 5) for number in range(4))
    data = write_coded(dataclasses.replace(SEVERAL, chunks=alike))
    first = data.index(b"\0" * 9)
    # The chunks have 13 bytes each. The first is gone; then the first is where the last was.
    coded, damaged = salvage_coded(data[:first] + data[first + 13 :])
    assert (coded.chunks[1:], damaged) == (alike[1:], (0,))
    coded, damaged = salvage_coded(data[: first + 39] + data[first : first + 13] + data[first + 52 :])
    assert (coded.chunks[:3], damaged) == (alike[:3], (3,))
    # One of another picture of the same size.
    other = write_coded(dataclasses.replace(SEVERAL, chunks=alike, model_prefix=MODEL[::-1]))
    assert salvage_coded(data[: first + 13] + other[first + 13 : first + 26] + data[first + 26 :])[1] == (1,)


def test_the_beginning_of_a_container_is_salvaged() -> None:
    data = write_coded(SEVERAL)
    for length in range(len(data)):
        try:
            coded, damaged = salvage_coded(data[:length])
        except CodecError:
            continue
        assert damaged == tuple(range(4 - len(damaged), 4))
        assert all(
            found == chunk for found, chunk in zip(coded.chunks[: 4 - len(damaged)], SEVERAL.chunks, strict=False)
        )
    assert damaged == ()


def test_what_cannot_be_salvaged_is_refused() -> None:
    data = bytearray(write_coded(ONE))
    data[-6] ^= 1
    with pytest.raises(MalformedContainerError, match="the checksum of the 36 bytes"):
        salvage_coded(bytes(data))
    data = bytearray(write_coded(SEVERAL))
    data[9] ^= 1
    with pytest.raises(MalformedContainerError, match="checksum of the header"):
        salvage_coded(bytes(data))
    with pytest.raises(MalformedContainerError, match="expected 8a 4c 54 44"):
        salvage_coded(b"x" + bytes(data))
