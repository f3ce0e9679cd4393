"""Buffers in which the rows of several requests are laid one below the other, each copied once."""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import DTypeLike, NDArray

from service.engine.work import Arrays, count_rows

Empty = Callable[[tuple[int, ...], DTypeLike], NDArray[Any]]
"""Allocates memory from which the device reads fast."""


class Staging:
    """Input buffers of one graph and row shape, filled again and again.

    A run borrows a set of buffers and gives it back, so that there are as many sets as runs at a time.

    Args:
        empty: allocates.
        always: copy even what could be run where it lies, because the device reads these buffers faster.
    """

    def __init__(self, empty: Empty, *, always: bool = False) -> None:
        self._empty = empty
        self._always = always
        self._free: list[Arrays] = []

    def borrow(self, parts: Sequence[Arrays], bucket: int) -> tuple[Arrays, Arrays | None]:
        """Lay parts one below the other, the last row repeated up to the bucket.

        Args:
            parts: every input by name, `[b, ...]`, no more rows than the bucket in all.
            bucket: rows of the run.

        Returns:
            The inputs of the run, `[bucket, ...]`, and the buffers to give back after it; None where the only part
            fills the bucket and is run where it lies.
        """
        if len(parts) == 1 and not self._always and count_rows(parts[0]) == bucket:
            return parts[0], None
        buffers = self._free.pop() if self._free else {}
        feeds: Arrays = {}
        for name, like in parts[0].items():
            buffer = buffers.get(name)
            if buffer is None or len(buffer) < bucket:
                buffer = buffers[name] = self._empty((bucket, *like.shape[1:]), like.dtype)
            feeds[name] = buffer[:bucket]
            end = _stack([part[name] for part in parts], buffer)
            if end < bucket:
                buffer[end:bucket] = buffer[end - 1]
        return feeds, buffers

    def give_back(self, buffers: Arrays | None) -> None:
        """Take buffers back."""
        if buffers is not None:
            self._free.append(buffers)


def _stack(parts: Sequence[NDArray[Any]], buffer: NDArray[Any]) -> int:
    """Copy rows one below the other, and count them.

    NumPy gives other threads a chance at every larger copy and then waits for its own, here for the event loop, once a
    request; a memoryview does not.
    """
    row_bytes, end = buffer.nbytes // len(buffer), 0
    flat = buffer.data.cast("B") if row_bytes else None
    for rows in parts:
        start, end = end, end + len(rows)
        if flat is not None and rows.flags.c_contiguous and rows.dtype == buffer.dtype:
            flat[start * row_bytes : end * row_bytes] = rows.data.cast("B")
        else:
            buffer[start:end] = rows
    return end
