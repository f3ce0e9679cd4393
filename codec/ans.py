"""rANS: a stack of symbols whose bytes are, but for rounding, as many as their information.

J. Duda, "Asymmetric numeral systems" (arXiv:1311.2540), the range variant. The last symbol pushed is the first popped.
A pop under any table is undone by a push of what it gave, so the stack is also a source of symbols: bits-back coding
pops from it what it has not pushed.
"""

from bisect import bisect_right
from collections.abc import Sequence

from codec.errors import MalformedContainerError
from codec.probabilities import PRECISION

_WORD_BITS = 32
_STATE_BITS = 64
_WORD_BYTES = _WORD_BITS // 8
_STATE_BYTES = _STATE_BITS // 8
_WORD_MASK = (1 << _WORD_BITS) - 1
_LEAST = 1 << _WORD_BITS


class Stack:
    """A state of up to 64 bits on words of 32 bits; while there are words, the state has more than 32 bits."""

    def __init__(self) -> None:
        self._state = 0
        self._words: list[int] = []

    @property
    def bits(self) -> int:
        """The length of what `to_bytes` would give, before it is filled up to whole bytes."""
        return _WORD_BITS * len(self._words) + self._state.bit_length()

    def push(self, start: int, size: int, precision: int = PRECISION) -> None:
        """Put a symbol on top.

        Args:
            start: c, the frequencies of the symbols before it.
            size: f, its own, at least 1.
            precision: binary digits of a probability, 1 .. 32; the frequencies of a table sum to 2^precision.
        """
        state = self._state
        if state >= size << _STATE_BITS - precision:
            self._words.append(state & _WORD_MASK)
            state >>= _WORD_BITS
        quotient, remainder = divmod(state, size)
        self._state = (quotient << precision) + remainder + start

    def target(self, precision: int = PRECISION) -> int:
        """Tell where in 0 .. 2^precision - 1 the part of the symbol on top lies; 0 below the bottom of the stack."""
        return self._state & (1 << precision) - 1

    def pop(self, start: int, size: int, precision: int = PRECISION) -> None:
        """Take the symbol off whose part holds `target`.

        Args:
            start: c, as it would be pushed.
            size: f, likewise.
            precision: likewise.
        """
        state = self._state
        state = size * (state >> precision) + (state & (1 << precision) - 1) - start
        if state < _LEAST and self._words:
            state = state << _WORD_BITS | self._words.pop()
        self._state = state

    def push_all(self, starts: Sequence[int], sizes: Sequence[int], precision: int = PRECISION) -> None:
        """Put symbols on top, the last of the sequence first, so that `pop_all` gives them in their order.

        Args:
            starts: c of each, as Python integers.
            sizes: f of each, likewise.
            precision: as in `push`.
        """
        state, words, limit = self._state, self._words, _STATE_BITS - precision
        for start, size in zip(reversed(starts), reversed(sizes), strict=True):
            if state >= size << limit:
                words.append(state & _WORD_MASK)
                state >>= _WORD_BITS
            quotient, remainder = divmod(state, size)
            state = (quotient << precision) + remainder + start
        self._state = state

    def pop_all(self, tables: Sequence[Sequence[int]], precision: int = PRECISION) -> list[int]:
        """Take a symbol off under each of several tables.

        Args:
            tables: c of all symbols of each, as Python integers: from 0, strictly rising, and 2^precision at the end.
            precision: as in `push`.

        Returns:
            The symbols, in the order of the tables.
        """
        state, words, mask = self._state, self._words, (1 << precision) - 1
        found = []
        for table in tables:
            target = state & mask
            symbol = bisect_right(table, target) - 1
            start = table[symbol]
            state = (table[symbol + 1] - start) * (state >> precision) + target - start
            if state < _LEAST and words:
                state = state << _WORD_BITS | words.pop()
            found.append(symbol)
        self._state = state
        return found

    def to_bytes(self) -> bytes:
        """Give the words from the bottom up, then the state, all little-endian, without zeros at the end."""
        words = b"".join(word.to_bytes(_WORD_BYTES, "little") for word in self._words)
        return words + self._state.to_bytes(_STATE_BYTES, "little").rstrip(b"\0")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Stack":
        """Read what `to_bytes` gave; no other bytes give the same stack.

        Args:
            data: the bytes; the state takes 5 to 8 of them where there are more than 8, else all.

        Returns:
            The stack.

        Raises:
            MalformedContainerError: the last byte is zero.
        """
        if data.endswith(b"\0"):
            raise MalformedContainerError(
                "the coded symbols end with a zero byte, expected any other: send them as they were written"
            )
        stack = cls()
        end = max(len(data) - _WORD_BYTES - 1, 0) // _WORD_BYTES * _WORD_BYTES if len(data) > _STATE_BYTES else 0
        stack._words = [int.from_bytes(data[at : at + _WORD_BYTES], "little") for at in range(0, end, _WORD_BYTES)]
        stack._state = int.from_bytes(data[end:], "little")
        return stack
