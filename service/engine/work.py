"""Rows of one request on their way through the runs of a graph."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.engine.lanes import Caller

Arrays = dict[str, NDArray[Any]]


class Waiting(Protocol):
    """Whoever waits for outputs: a future, or something else that is told of them on the event loop."""

    def done(self) -> bool:
        """Tell whether it waits no more."""
        ...

    def set_result(self, result: Arrays, /) -> None:
        """Take the outputs."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """Learn that there will be none."""
        ...


class Work:
    """Rows that a request waits for, taken in one run or several.

    Args:
        rows: every input by name, `[B, ...]`.
        row_bytes: of the inputs and outputs of one row.
        caller: for whom they are run.
        ticket: its place in the order of arrival.
        answer: who waits for the outputs.
    """

    __slots__ = (
        "_loop",
        "_outputs",
        "_pending",
        "answer",
        "arrived_s",
        "caller",
        "first_s",
        "row_bytes",
        "rows",
        "run_s",
        "size",
        "taken",
        "ticket",
    )

    def __init__(self, rows: Arrays, row_bytes: int, caller: Caller, ticket: int, answer: Waiting) -> None:
        self.rows = rows
        self.size = count_rows(rows)
        self.row_bytes = row_bytes
        self.caller = caller
        self.ticket = ticket
        self.taken = 0
        self.arrived_s = time.perf_counter()
        self.first_s = 0.0
        self.run_s = 0.0
        self._pending = self.size
        self._outputs: Arrays = {}
        self._loop = asyncio.get_running_loop()
        self.answer = answer

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it, and it has not failed."""
        return not self.answer.done() and not self.caller.has_left()

    def take(self, most: int) -> slice:
        """Take the next rows, at most so many."""
        start = self.taken
        self.taken = min(self.size, start + most)
        return slice(start, self.taken)

    def put(self, part: slice, outputs: Arrays, start: int) -> bool:
        """Store the outputs of a part.

        Args:
            part: of the rows.
            outputs: of a run, by name.
            start: where the part begins in them.

        Returns:
            Whether all parts are there.
        """
        count = part.stop - part.start
        if count == self.size:
            self._outputs = {name: array[start : start + count] for name, array in outputs.items()}
        else:
            if not self._outputs:
                self._outputs = {
                    name: np.empty((self.size, *array.shape[1:]), array.dtype) for name, array in outputs.items()
                }
            for name, array in outputs.items():
                self._outputs[name][part] = array[start : start + count]
        self._pending -= count
        return self._pending == 0

    def settle(self, error: Exception | None) -> None:
        """Give the outputs, or an error, to whoever waits; on the event loop."""
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
            return
        self.caller.queue_s += self.first_s - self.arrived_s
        self.caller.compute_s += self.run_s
        self.answer.set_result(self._outputs)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where somebody waits."""
        return self._loop


def tell(outcomes: Sequence[tuple[Work, Exception | None]]) -> None:
    """Settle work of one event loop in one go; from any thread.

    Args:
        outcomes: work, and its error or None where its outputs are there.
    """
    if not outcomes:
        return

    def settle() -> None:
        for work, error in outcomes:
            work.settle(error)

    # Where the loop has been closed nobody waits any more.
    if not (loop := outcomes[0][0].loop).is_closed():
        loop.call_soon_threadsafe(settle)


def count_rows(arrays: Arrays) -> int:
    """Count the rows of arrays that all have as many."""
    return len(next(iter(arrays.values())))
