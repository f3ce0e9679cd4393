"""The stack: the bytes of another implementation, symbols back in reverse, and pops that pushes undo."""

import random
from bisect import bisect_right

import constriction
import numpy as np
import pytest

from codec.ans import Stack
from codec.errors import MalformedContainerError
from codec.probabilities import TOTAL, frequencies

model, AnsCoder = constriction.stream.model, constriction.stream.stack.AnsCoder


def symbol(rng: random.Random, total: int) -> tuple[int, int]:
    size = rng.choice([1, total // 2, total - 1, rng.randint(1, total), rng.randint(1, total)])
    return rng.choice([0, total - size, rng.randint(0, total - size)]), size


@pytest.mark.parametrize("precision", [1, 8, 16, 24, 32])
def test_symbols_come_back_in_reverse(precision: int) -> None:
    rng = random.Random(precision)
    for _ in range(200):
        symbols = [symbol(rng, 1 << precision) for _ in range(rng.choice([0, 1, 2, 30]))]
        stack, exact = Stack(), 0
        for start, size in symbols:
            stack.push(start, size, precision)
            exact = (exact // size << precision) + exact % size + start
        # Without words, the state is one number of any length: each word costs next to nothing beside that.
        assert stack.bits - exact.bit_length() <= 1 + len(symbols) / 100
        data = stack.to_bytes()
        assert len(data) == -(-stack.bits // 8)
        stack = Stack.from_bytes(data)
        for start, size in reversed(symbols):
            assert start <= stack.target(precision) < start + size
            stack.pop(start, size, precision)
        assert stack.to_bytes() == b""


def test_another_implementation_writes_the_same_bytes() -> None:
    rng = random.Random(1)
    for _ in range(200):
        other, stack = AnsCoder(), Stack()
        for _ in range(rng.randint(0, 60)):
            K = rng.randint(2, 50_000)
            token, size = rng.randrange(K), TOTAL // K
            other.encode_reverse(token, model.Uniform(K))
            stack.push(token * size, size if token < K - 1 else TOTAL - token * size)
        assert stack.to_bytes() == other.get_compressed().astype("<u4").tobytes().rstrip(b"\0")


def test_another_implementation_writes_the_same_bytes_under_our_tables() -> None:
    rng = np.random.default_rng(2)
    tables = frequencies((rng.normal(size=(200, 20)) * 400).astype(np.int32))
    tokens = rng.integers(0, 20, 200)
    other = AnsCoder()
    for sizes, token in zip(tables[::-1], tokens[::-1], strict=True):
        # It gives each symbol 1 and shares the rest out by these weights, which sum to the rest.
        other.encode_reverse(int(token), model.Categorical(np.float64(sizes - 1), perfect=False))
    stack, ends = Stack(), tables.cumsum(axis=-1)
    chosen = np.arange(200), tokens
    stack.push_all((ends - tables)[chosen].tolist(), tables[chosen].tolist())

    assert stack.to_bytes() == other.get_compressed().astype("<u4").tobytes().rstrip(b"\0")
    assert stack.pop_all(np.pad(ends, ((0, 0), (1, 0))).tolist()) == tokens.tolist()
    assert stack.bits == 0


def test_pops_of_what_was_never_pushed_are_undone_by_pushes() -> None:
    rng = random.Random(5)
    for _ in range(300):
        data = (rng.randbytes(rng.randint(0, 30)) + b"\1") if rng.random() < 0.9 else b""
        stack, borders = Stack.from_bytes(data), []
        for _ in range(rng.randint(1, 40)):
            border = sorted({0, TOTAL, *(rng.randrange(1, TOTAL) for _ in range(4))})
            place = bisect_right(border, stack.target()) - 1
            borders.append((border[place], border[place + 1] - border[place]))
            stack.pop(*borders[-1])
        for start, size in reversed(borders):
            stack.push(start, size)
        assert stack.to_bytes() == data


def test_bytes_and_stacks_are_one_to_one() -> None:
    rng = random.Random(6)
    for length in range(1, 60):
        data = rng.randbytes(length - 1) + bytes([rng.randint(1, 255)])
        stack = Stack.from_bytes(data)
        assert stack.to_bytes() == data
        assert stack._state < 2**64
        assert not stack._words or stack._state >= 2**32


def test_a_zero_at_the_end_is_refused() -> None:
    with pytest.raises(MalformedContainerError, match="end with a zero byte"):
        Stack.from_bytes(b"\1\0")
