"""Bit packing: equal to strings of digits, in one form, and bounded."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.bits import MAX_WIDTH, pack, unpack
from codec.errors import MalformedContainerError


def slow_pack(tokens: list[int], width: int) -> bytes:
    digits = "".join(f"{token:0{width}b}" for token in tokens)
    digits += "0" * (-len(digits) % 8)
    return bytes(int(digits[start : start + 8], 2) for start in range(0, len(digits), 8))


@st.composite
def tokens_of_a_width(draw: st.DrawFn) -> tuple[list[int], int]:
    width = draw(st.integers(1, MAX_WIDTH))
    return draw(st.lists(st.integers(0, 2**width - 1), max_size=40)), width


@settings(deadline=None)
@given(tokens_of_a_width())
def test_packing_is_writing_binary_digits(case: tuple[list[int], int]) -> None:
    tokens, width = case
    packed = pack(np.array(tokens, dtype=np.int32), width)

    assert packed == slow_pack(tokens, width)
    assert unpack(packed, len(tokens), width).tolist() == tokens


@pytest.mark.parametrize("width", [1, 3, 8, 10, 17, 31])
@pytest.mark.parametrize("count", [2**14 - 1, 2**14, 2**14 + 1, 40_000])
def test_long_streams_come_back(width: int, count: int) -> None:
    tokens = np.random.default_rng(count).integers(0, 2**width, count, dtype=np.int32)
    found = unpack(pack(tokens, width), count, width)

    assert found.dtype == np.int32
    assert np.array_equal(found, tokens)


def test_a_long_stream_is_writing_binary_digits() -> None:
    tokens = np.random.default_rng(0).integers(0, 2**11, 2**14 + 3, dtype=np.int32)
    assert pack(tokens, 11) == slow_pack(tokens.tolist(), 11)


def test_strided_tokens() -> None:
    tokens = np.arange(20, dtype=np.int32)[::2]
    assert pack(tokens, 5) == slow_pack(tokens.tolist(), 5)


@pytest.mark.parametrize("bit", range(4))
def test_unused_bits_must_be_zero(bit: int) -> None:
    packed = pack(np.array([1, 2, 3], dtype=np.int32), 4)
    with pytest.raises(MalformedContainerError, match="expected zeros in its unused bits"):
        unpack(packed[:-1] + bytes([packed[-1] | 1 << bit]), 3, 4)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\0"])
def test_another_length_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedContainerError, match="3 tokens of 4 bits take 2 bytes"):
        unpack(data, 3, 4)


@pytest.mark.parametrize("width", [-1, 0, 32])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=r"expected 1 \.\. 31"):
        pack(np.zeros(1, dtype=np.int32), width)
    with pytest.raises(ValueError, match=r"expected 1 \.\. 31"):
        unpack(b"\0", 1, width)


@pytest.mark.parametrize("token", [-1, 8])
def test_tokens_that_do_not_fit_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match="do not fit 3 bits"):
        pack(np.array([0, token], dtype=np.int32), 3)


def test_memory_beyond_the_result_is_bounded() -> None:
    tokens = np.zeros(1 << 20, dtype=np.int32)
    packed = pack(tokens, 10)
    tracemalloc.start()
    try:
        unpack(packed, tokens.size, 10)
        unpacking = tracemalloc.get_traced_memory()[1] - tokens.nbytes
        tracemalloc.reset_peak()
        pack(tokens, 10)
        packing = tracemalloc.get_traced_memory()[1] - 2 * len(packed)
    finally:
        tracemalloc.stop()
    assert max(packing, unpacking) < 2 << 20
