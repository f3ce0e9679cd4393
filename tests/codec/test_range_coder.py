"""The range coder: the shortest payload of its interval, back to the symbols, and near their information."""

import math
import random
from collections.abc import Callable
from typing import Any

import constriction
import numpy as np
import pytest

from codec.entropy import ChunkDecoder, encode_chunk
from codec.errors import MalformedContainerError
from codec.probabilities import TOTAL, intervals, surprise_bits
from codec.range_coder import Decoder, Encoder

Symbols = list[tuple[int, int]]


def symbol(rng: random.Random) -> tuple[int, int]:
    """Draw an interval, often one at a border."""
    size = rng.choice([1, 2, 1000, TOTAL // 2, TOTAL - 1, TOTAL - 3, rng.randint(1, TOTAL), rng.randint(1, TOTAL)])
    start = rng.choice([0, TOTAL - size, min(TOTAL // 3, TOTAL - size), rng.randint(0, TOTAL - size)])
    return start, size


def payload_of(symbols: Symbols) -> bytes:
    encoder = Encoder()
    for start, size in symbols:
        encoder.push(start, size)
    return encoder.finish()


def shortest(symbols: Symbols) -> bytes:
    """Find the payload in integers of any length: no carry, no byte that leaves early."""
    low, width, digits = 0, 2**64 - 1, 64
    for start, size in symbols:
        unit = width >> 24
        low += start * unit
        width = unit * size if start + size < TOTAL else width - start * unit
        while width < 2**56:
            low, width, digits = low << 8, width << 8, digits + 8
    for count in range(digits // 8 + 1):
        value = -(-low >> digits - 8 * count)
        if value << digits - 8 * count < low + width:
            return value.to_bytes(count, "big")
    raise AssertionError


def test_the_payload_is_the_shortest_of_its_interval_and_comes_back(specified: dict[str, Callable[..., Any]]) -> None:
    rng = random.Random(1)
    for _ in range(1500):
        symbols = [symbol(rng) for _ in range(rng.choice([0, 1, 2, 3, 20]))]
        payload = payload_of(symbols)
        assert payload == shortest(symbols)
        assert 8 * len(payload) < sum(24 - math.log2(size) for _, size in symbols) + 8 + 1e-6
        decoder = Decoder(payload)
        for start, size in symbols:
            assert start <= decoder.target() < start + size
            decoder.pop(start, size)
        decoder.finish()


def read_as(data: bytes, borders: list[int]) -> tuple[Symbols, bool]:
    """Read symbols of two, and tell whether the bytes pass for theirs."""
    decoder, symbols = Decoder(data), []
    for border in borders:
        symbols.append((0, border) if decoder.target() < border else (border, TOTAL - border))
        decoder.pop(*symbols[-1])
    try:
        decoder.finish()
    except MalformedContainerError:
        return symbols, False
    return symbols, True


def test_no_bytes_pass_but_the_shortest_of_their_symbols() -> None:
    rng, passed = random.Random(9), 0
    for number in range(2000):
        count = rng.choice([0, 1, 2, 5, 20])
        borders = [rng.choice([1, 2**8, 2**16, 2**23, TOTAL - 1, rng.randrange(1, TOTAL)]) for _ in range(count)]
        data = bytes(rng.choices([0, 1, 127, 254, 255, rng.randrange(256)], k=rng.randint(0, 12)))
        if number % 2:
            # What is just beside the bytes of some symbols.
            data = bytearray(payload_of(read_as(data, borders)[0]) + rng.choice([b"", b"", b"\0", b"\1"]))
            if data and rng.random() < 0.7:
                place = -1 - rng.randrange(min(2, len(data)))
                data[place] = (data[place] + rng.choice([-1, 1])) % 256
        symbols, is_passed = read_as(bytes(data), borders)
        assert is_passed == (payload_of(symbols) == data)
        passed += is_passed
    assert 300 < passed < 1700


def streams(count: int, K: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw logits and tokens that are drawn from them."""
    rng = np.random.default_rng(K)
    found = []
    for _ in range(count):
        logits = (rng.normal(size=(int(rng.integers(1, 60)), K)) * rng.choice([100, 600, 3000])).astype(np.int32)
        gumbel = rng.gumbel(size=logits.shape)
        found.append((logits, (logits / 256 + gumbel).argmax(axis=-1)))
    return found


@pytest.mark.parametrize("K", [2, 40])
def test_payloads_are_near_the_information_of_their_tokens(K: int) -> None:
    over = []
    for logits, tokens in streams(500, K):
        starts, sizes = intervals(logits, tokens)
        over.append(8 * len(encode_chunk(starts, sizes)) - surprise_bits(sizes))
    assert max(over) < 8 + 1e-6
    assert np.mean(over) < 4


def test_tokens_come_back(specified: dict[str, Callable[..., Any]]) -> None:
    for logits, tokens in streams(30, 40):
        payload = encode_chunk(*intervals(logits, tokens))
        decoder = ChunkDecoder(payload)
        assert [decoder.decode(row) for row in logits] == tokens.tolist()
        decoder.finish()
        rows = logits.tolist()
        found = specified["decode_payload"](payload, len(rows), lambda before, rows=rows: rows[len(before)])
        assert found == tokens.tolist()


def test_a_range_coder_of_another_kind_needs_as_many_words() -> None:
    rng = random.Random(2)
    for _ in range(300):
        encoder, symbols = constriction.stream.queue.RangeEncoder(), []
        for _ in range(rng.randint(1, 80)):
            K = rng.randint(2, 50_000)
            token, size = rng.randrange(K), TOTAL // K
            encoder.encode(token, constriction.stream.model.Uniform(K))
            symbols.append((token * size, size if token < K - 1 else TOTAL - token * size))
        words = len(encoder.get_compressed())
        assert abs(-(-len(payload_of(symbols)) // 4) - words) <= 1


@pytest.mark.parametrize("data", [b"", b"\0", bytes(20), b"\xff" * 20, b"\xff" * 8 + b"\0"])
def test_any_bytes_decode_to_symbols(data: bytes) -> None:
    rng = random.Random(3)
    decoder = Decoder(data)
    for _ in range(2000):
        border = rng.randrange(1, TOTAL)
        target = decoder.target()
        assert 0 <= target < TOTAL
        decoder.pop(*((0, border) if target < border else (border, TOTAL - border)))
        assert 0 <= decoder._offset < decoder._range < 2**64


def test_a_payload_that_is_not_the_one_of_its_tokens_is_refused() -> None:
    rng = random.Random(4)
    refused = 0
    for logits, tokens in streams(80, 40):
        payload = encode_chunk(*intervals(logits, tokens))
        damaged = bytearray(payload)
        way = rng.randrange(3)
        if way == 0 and damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        elif way == 1:
            damaged += rng.randbytes(rng.randint(1, 9))
        else:
            del damaged[rng.randint(0, len(damaged)) :]
        decoder = ChunkDecoder(bytes(damaged))
        found = np.array([decoder.decode(row) for row in logits])
        expected = encode_chunk(*intervals(logits, found))
        if expected == damaged:
            decoder.finish()
            continue
        refused += 1
        with pytest.raises(MalformedContainerError, match=f"the {len(damaged)} coded bytes are not those"):
            decoder.finish()
    assert refused > 40
