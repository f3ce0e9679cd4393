"""A range coder: symbols become a fraction in base 256, read in the order in which they were written.

G. N. N. Martin, "Range encoding: an algorithm for removing redundancy from a digitised message" (1979), with carries.
The state is an interval [low, low + range) of such fractions; each symbol narrows it to its share. docs/format.md has
every step.
"""

from codec.errors import MalformedContainerError
from codec.probabilities import PRECISION, TOTAL

_BITS = 64
_BYTE = 8
_MASK = (1 << _BITS) - 1
_TOP = _BITS - _BYTE
_LEAST = 1 << _TOP


class Encoder:
    """Writes symbols, each given by the part of 0 .. T - 1 that it owns."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _MASK
        self._written = bytearray()

    def push(self, start: int, size: int) -> None:
        """Write one symbol; where start + size = T it takes what the division leaves over.

        Args:
            start: c, the frequencies before it.
            size: f, its own, at least 1.
        """
        unit = self._range >> PRECISION
        offset = start * unit
        self._low += offset
        self._range = unit * size if start + size < TOTAL else self._range - offset
        while self._range < _LEAST:
            self._shift()

    def finish(self) -> bytes:
        """Give the shortest bytes that, with zeros behind them, are a fraction within the interval.

        Returns:
            The bytes, the last of which is not zero; nothing can be written afterwards.
        """
        if self._low > _MASK:
            self._carry()
        if self._low + self._range > 1 << _BITS:
            self._carry()
        elif self._low:
            self._low += _LEAST - 1
            self._shift()
        return bytes(self._written.rstrip(b"\0"))

    def _shift(self) -> None:
        """Move the highest byte of `low` out."""
        if self._low > _MASK:
            self._carry()
        self._written.append(self._low >> _TOP)
        self._low = self._low << _BYTE & _MASK
        self._range <<= _BYTE

    def _carry(self) -> None:
        """Add 1 to the fraction that is out. A byte is passed at most once, so all carries take linear time."""
        self._low &= _MASK
        place = len(self._written) - 1
        while self._written[place] == 255:
            self._written[place] = 0
            place -= 1
        self._written[place] += 1


class Decoder:
    """Reads symbols in the order in which they were written; what follows the last byte counts as zeros.

    Any bytes decode to some symbols: `low` of the fraction never leaves the interval.

    Args:
        data: as `Encoder.finish` gave it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = _BITS // _BYTE
        # Of the fraction, how far it lies above `low`.
        self._offset = min(int.from_bytes(data[: self._position].ljust(self._position, b"\0"), "big"), _MASK - 1)
        self._range = _MASK

    def target(self) -> int:
        """Tell where in 0 .. T - 1 the next symbol's part lies."""
        return min(self._offset // (self._range >> PRECISION), TOTAL - 1)

    def pop(self, start: int, size: int) -> None:
        """Go past the symbol whose part holds `target`.

        Args:
            start: c, the frequencies before it.
            size: f, its own, at least 1.
        """
        unit = self._range >> PRECISION
        taken = start * unit
        self._offset -= taken
        self._range = unit * size if start + size < TOTAL else self._range - taken
        while self._range < _LEAST:
            self._range <<= _BYTE
            following = self._data[self._position] if self._position < len(self._data) else 0
            self._offset = self._offset << _BYTE | following
            self._position += 1

    def finish(self) -> None:
        """Check, once all symbols are read, that they are not written as any other bytes.

        Raises:
            MalformedContainerError: the bytes are not what `Encoder.finish` gives; no symbol may be used.
        """
        if not self._is_shortest():
            raise MalformedContainerError(
                f"the {len(self._data)} coded bytes are not those that what they decode to is written as: they are "
                "damaged, or of another prior, send them as they were written"
            )

    def _is_shortest(self) -> bool:
        """Tell whether the bytes are the shortest and least of the final interval, as `Encoder.finish` chooses them."""
        if self._data.endswith(b"\0") or self._data.startswith(b"\xff" * (_BITS // _BYTE)):
            return False
        last = len(self._data) - (self._position - _BITS // _BYTE)
        if last <= 0:
            return True
        above = (1 << _BITS) - (self._data[-1] << _TOP)
        return last == 1 and self._offset < _LEAST and self._offset + above >= self._range
