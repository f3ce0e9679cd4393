"""The container's structure: each field, each rule, each message."""

import dataclasses
from typing import Any

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.container import Container, read_container, write_container
from codec.errors import ContainerLimitError, MalformedContainerError, UnsupportedContainerError
from codec.framing import MAGIC, seal
from codec.layout import MAX_LEVELS, Grid
from codec.profile import Profile

PREFIX = "00112233445566778899aabbccddeeff"
CONTAINER = Container(Profile.RAW, PREFIX, None, (Grid(1, (1, 3)), Grid(2, (2, 6))), (3, 133), 0x5199AB06, b"payload")
HEAD = MAGIC + b"\1\0\0" + bytes.fromhex(PREFIX)
CHECKSUM = b"\x06\xab\x99\x51"


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # The examples of RFC 3720, appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (
            bytes.fromhex(
                "01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"
            ),
            0xD9963A56,
        ),
    ],
)
def test_the_checksum_is_castagnolis(data: bytes, crc: int) -> None:
    assert google_crc32c.value(data) == crc
    assert seal(data) == data + crc.to_bytes(4, "little")


def test_a_compiled_checksum_is_in_use() -> None:
    assert google_crc32c.implementation == "c"


def numbers() -> st.SearchStrategy[int]:
    edges = [2 ** (7 * groups) + step for groups in range(1, 5) for step in (-1, 0)]
    return st.one_of(st.integers(1, 2**31 - 1), st.integers(1, 300), st.sampled_from([*edges, 2**31 - 1]))


@st.composite
def fields(draw: st.DrawFn) -> dict[str, Any]:
    """Draw what `container_of` takes."""
    sides = st.tuples(*[numbers()] * draw(st.integers(1, 2)))
    prefixes = st.binary(min_size=16, max_size=16).map(bytes.hex)
    return {
        "model_prefix": draw(prefixes),
        "prior_prefix": draw(st.none() | prefixes),
        "grids": draw(st.lists(st.tuples(numbers(), sides), min_size=1, max_size=4)),
        "extent": draw(sides),
        "tokens_crc": draw(st.integers(0, 2**32 - 1)),
        "payload": draw(st.binary(max_size=200)),
    }


def container_of(grids: list[tuple[int, tuple[int, ...]]], **rest: Any) -> Container:
    return Container(profile=Profile.RAW, grids=tuple(Grid(*grid) for grid in grids), **rest)


@settings(deadline=None)
@given(fields())
def test_what_is_written_is_read(fields: dict[str, Any]) -> None:
    container = container_of(**fields)
    data = write_container(container)

    assert read_container(data) == container
    assert write_container(read_container(data)) == data
    assert container.overhead_bytes == len(data) - len(container.payload)


def test_every_level_counts() -> None:
    container = dataclasses.replace(CONTAINER, grids=(Grid(1, (1, 1)),) * MAX_LEVELS)
    assert read_container(write_container(container)) == container


def test_fields_stand_where_the_specification_puts_them() -> None:
    audio = dataclasses.replace(
        CONTAINER, prior_prefix=PREFIX[::-1], grids=(Grid(8, (300,)),), extent=(48_000,), payload=b""
    )
    expected = MAGIC + b"\1\3\0" + bytes.fromhex(PREFIX + PREFIX[::-1])
    expected += b"\1" + b"\x08\xac\x02" + b"\x80\xf7\x02" + b"\0" + CHECKSUM
    assert write_container(audio) == seal(expected)


def test_numbers_that_do_not_fit_are_not_written() -> None:
    with pytest.raises(ContainerLimitError, match="cannot hold the size 2147483648"):
        write_container(dataclasses.replace(CONTAINER, extent=(1, 2**31)))


def test_every_truncation_is_refused() -> None:
    data = write_container(CONTAINER)
    for length in range(len(data)):
        with pytest.raises(MalformedContainerError):
            read_container(data[:length])


def test_every_resealed_truncation_is_refused() -> None:
    body = write_container(CONTAINER)[:-4]
    for length in range(len(body)):
        with pytest.raises(MalformedContainerError):
            read_container(seal(body[:length]))


def test_every_flipped_bit_is_refused() -> None:
    data = write_container(CONTAINER)
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(MalformedContainerError):
                read_container(bytes(flipped))


@pytest.mark.parametrize("data", [b"", b"\x8a", MAGIC[:3], b"\x89PNG\r\n\x1a\n", b"LTD"])
def test_other_files_are_no_containers(data: bytes) -> None:
    with pytest.raises(
        MalformedContainerError, match=r"the file begins with .*, expected 8a 4c 54 44: send a container"
    ):
        read_container(data)


@pytest.mark.parametrize("extra", [b"\n", b"\0", bytes(100), write_container(CONTAINER)])
def test_nothing_may_follow(extra: bytes) -> None:
    with pytest.raises(MalformedContainerError, match="damaged, cut short or followed by others"):
        read_container(write_container(CONTAINER) + extra)


ONE_LEVEL = b"\1\1\1\3" + b"\3\3"


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        (MAGIC + b"\2" + HEAD[5:], UnsupportedContainerError, "has version 2, expected 1: read it with the latentd"),
        (MAGIC + b"\0" + HEAD[5:], UnsupportedContainerError, "has version 0, expected 1"),
        (MAGIC + b"\1\4\0", UnsupportedContainerError, "has the flags 0b00000100, expected the lowest two"),
        (MAGIC + b"\1\x80\0", UnsupportedContainerError, "has the flags 0b10000000"),
        (MAGIC + b"\1\0\1", UnsupportedContainerError, r"has the profile 1, expected 0 \(raw\)"),
        (MAGIC + b"\1\0\xff", UnsupportedContainerError, "has the profile 255"),
        (HEAD[:-1], MalformedContainerError, "ends after 22 bytes, within its model hash"),
        (MAGIC + b"\1\1\0" + bytes(31), MalformedContainerError, "within its prior hash"),
        (HEAD, MalformedContainerError, "within its number of levels"),
        (HEAD + b"\0", MalformedContainerError, "number of levels is 0, expected at least 1"),
        (HEAD + b"\1\0\1\3", MalformedContainerError, "number of codebooks is 0"),
        (HEAD + b"\1\1\0\3", MalformedContainerError, "grid is 0"),
        (HEAD + b"\1\1\1\3\0\3", MalformedContainerError, "original size is 0"),
        (HEAD + b"\x41", ContainerLimitError, "has 65 levels, expected at most 64"),
        (HEAD + b"\xff\xff\xff\xff\7", ContainerLimitError, "has 2147483647 levels"),
        (HEAD + b"\x80\x80\x80\x80\x08", MalformedContainerError, "number of levels is no number of at most 2.31 - 1"),
        (HEAD + b"\xff\xff\xff\xff\xff\1", MalformedContainerError, "in its shortest form"),
        (HEAD + b"\x81\x80\x80\x80\x80\0", MalformedContainerError, "in its shortest form"),
        (HEAD + b"\x81\0", MalformedContainerError, "in its shortest form"),
        (HEAD + b"\x80\0", MalformedContainerError, "in its shortest form"),
        (HEAD + ONE_LEVEL + b"\1\0\0\0", MalformedContainerError, "within its token checksum"),
        (
            HEAD + ONE_LEVEL + b"\2" + CHECKSUM + b"x",
            MalformedContainerError,
            "announces a payload of 2 bytes and hold",
        ),
        (HEAD + ONE_LEVEL + b"\1" + CHECKSUM + b"xy", MalformedContainerError, "a payload of 1 bytes and holds 2"),
        (HEAD + ONE_LEVEL + b"\xff\xff\xff\xff\7" + CHECKSUM, MalformedContainerError, "payload of 2147483647 bytes"),
    ],
)
def test_sealed_nonsense_is_refused(body: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_container(seal(body))
