"""The batcher: rows of requests that ask for the same graph run together, in buckets, on one worker thread."""

import asyncio
import logging
import math
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import OverloadedError, UnavailableError

_LOG = logging.getLogger(__name__)

_WEIGHT_OF_NEW = 0.1
"""Of the last run in the running mean of the time that a row takes."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Key:
    """What rows must have in common to run together.

    Attributes:
        model: the model's reference, `name@version`.
        operation: the graph's role.
        signature: name, shape of one row and dtype of every input.
    """

    model: str
    operation: str
    signature: tuple[tuple[str, tuple[int, ...], str], ...]

    @classmethod
    def of(cls, model: str, operation: str, rows: Arrays) -> "Key":
        """Give the key of a request's inputs, `[B, ...]` each."""
        signature = tuple((name, array.shape[1:], array.dtype.str) for name, array in sorted(rows.items()))
        return cls(model, operation, signature)


Run = Callable[[Key, Arrays], Arrays]
Buckets = Callable[[Key], tuple[int, ...]]
RowValues = Callable[[Key], int]


@dataclass
class Load:
    """What the runs of one graph have come to.

    Attributes:
        runs: how many.
        rows: rows that somebody had asked for, padding not counted.
        seconds: in the graph.
    """

    runs: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows of one request, no more than the largest bucket, how many values they come to, and where the answer goes."""

    rows: Arrays
    size: int
    values: int
    answer: asyncio.Future[Arrays]


class Batcher:
    """Joins rows of concurrent requests into runs.

    It conserves work: whatever waits is run as soon as the worker is free, and accumulates only while it is busy.
    Keys take turns; within a key, first come, first served. One event loop owns the batcher, one thread runs.

    Args:
        run: computes the outputs of a batch; called in the worker thread.
        buckets: gives the batch sizes that a key is run at, rising.
        row_values: gives the values that a row of a key comes to.
        max_queue_rows: most rows that may wait.
        max_queue_values: most values that may wait, unless a request alone has more.

    Attributes:
        loads: by model and operation, since the start.
    """

    def __init__(
        self, run: Run, *, buckets: Buckets, row_values: RowValues, max_queue_rows: int, max_queue_values: int
    ) -> None:
        self.loads: defaultdict[tuple[str, str], Load] = defaultdict(Load)
        self._run = run
        self._buckets = buckets
        self._row_values = row_values
        self._max_queue_rows = max_queue_rows
        self._max_queue_values = max_queue_values
        self._queues: OrderedDict[Key, deque[_Piece]] = OrderedDict()
        self._queue_rows = 0
        self._queue_values = 0
        self._row_time_s = 0.0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batcher")
        self._worker: asyncio.Task[None] | None = None
        self._closed: str | None = None

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self._queue_rows

    @property
    def closed(self) -> str | None:
        """Why nothing is taken any more; None while it is."""
        return self._closed

    async def submit(self, key: Key, rows: Arrays, *, admit: int | None = None) -> Arrays:
        """Run rows and await their outputs.

        Args:
            key: what to run; see `Key.of`.
            rows: every input by name, `[B, ...]`, B at least 1.
            admit: rows of the whole request, which its first run lets in; 0 in its later runs, so that a full queue
                does not refuse it half done; None where this run is the whole request.

        Returns:
            Every output by name, `[B, ...]`.

        Raises:
            OverloadedError: too many rows or values wait.
            UnavailableError: the batcher was stopped, or its worker died.
        """
        total, values = _rows(rows), self._row_values(key)
        self._admit(total if admit is None else admit, values)
        loop = asyncio.get_running_loop()
        largest = self._buckets(key)[-1]
        pieces = []
        for start in range(0, total, largest):
            part = {name: array[start : start + largest] for name, array in rows.items()}
            size = min(largest, total - start)
            pieces.append(_Piece(part, size, size * values, loop.create_future()))
        self._queues.setdefault(key, deque()).extend(pieces)
        self._queue_rows += total
        self._queue_values += total * values
        self._arrived.set()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            answers = await asyncio.gather(*(piece.answer for piece in pieces))
        finally:
            for piece in pieces:
                piece.answer.cancel()
        return answers[0] if len(answers) == 1 else await asyncio.to_thread(_join, answers)

    async def stop(self) -> None:
        """Let the run in progress end, refuse what waits, and take nothing any more."""
        self._close("the service is shutting down; ask another replica or come back later")
        self._arrived.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown(wait=False)

    def _admit(self, rows: int, values: int) -> None:
        """Let a request of so many rows in, of so many values each."""
        if self._closed is not None:
            raise UnavailableError(self._closed)
        if rows and self._queue_rows + rows > self._max_queue_rows:
            raise self._overloaded(f"{rows} more would exceed {self._max_queue_rows}", "send fewer rows")
        # Where nothing waits even the largest request is let in, lest it be refused for ever.
        if rows and self._queue_rows and self._queue_values + rows * values > self._max_queue_values:
            raise self._overloaded(
                f"they and {rows} more of {values} values each would exceed {self._max_queue_values} values",
                "send fewer or smaller rows",
            )

    def _overloaded(self, reason: str, cure: str) -> OverloadedError:
        """Say what waits, what would be too much, and when to come again."""
        wait_s = max(1, math.ceil(self._queue_rows * self._row_time_s))
        return OverloadedError(
            f"{self._queue_rows} rows wait already and {reason}; come again in {wait_s} s, or {cure}", wait_s
        )

    async def _work(self) -> None:
        """Run batch after batch until the batcher is closed; no caller is left waiting, however this ends."""
        reason = "the worker was cancelled"
        try:
            while self._closed is None:
                await self._arrived.wait()
                self._arrived.clear()
                while batch := self._next_batch():
                    await self._run_batch(*batch)
        except Exception as error:  # noqa: BLE001 - it ends here, in the log and in what callers are told
            reason = repr(error)
            _LOG.exception("the batcher's worker died")
        finally:
            self._close(f"the worker of the service died ({reason}); it must be restarted")

    def _next_batch(self) -> tuple[Key, list[_Piece]] | None:
        """Take pieces of the key whose turn it is, up to the largest bucket; drop those nobody waits for."""
        while self._queues:
            key, queue = self._queues.popitem(last=False)
            pieces: list[_Piece] = []
            room = self._buckets(key)[-1]
            while queue and (queue[0].size <= room or queue[0].answer.done()):
                piece = queue.popleft()
                self._queue_rows -= piece.size
                self._queue_values -= piece.values
                if not piece.answer.done():
                    pieces.append(piece)
                    room -= piece.size
            if queue:
                self._queues[key] = queue
            if pieces:
                return key, pieces
        return None

    async def _run_batch(self, key: Key, pieces: list[_Piece]) -> None:
        """Compute pieces in the worker thread and hand each its answer or its own error."""
        start_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._compute, key, [piece.rows for piece in pieces])
        except BaseException:
            for piece in pieces:
                _resolve(piece, UnavailableError("the worker of the service died; send the request again"))
            raise
        for piece, answer in zip(pieces, answers, strict=True):
            _resolve(piece, answer)
        row_time_s = (time.perf_counter() - start_s) / sum(piece.size for piece in pieces)
        self._row_time_s += _WEIGHT_OF_NEW * (row_time_s - self._row_time_s)

    def _compute(self, key: Key, parts: list[Arrays]) -> list[Arrays | Exception]:
        """Run parts together; where that fails, each alone, so that a bad one fails alone. Runs in the thread."""
        try:
            outputs = self._run_padded(key, _join(parts))
        except BaseException as error:  # noqa: BLE001 - whatever a graph raises is the answer to whoever asked for it
            return [_fault(error)] if len(parts) == 1 else [self._compute(key, [part])[0] for part in parts]
        ends = list(accumulate(_rows(part) for part in parts))
        starts = [0, *ends[:-1]]
        return [
            {name: array[start:end] for name, array in outputs.items()} for start, end in zip(starts, ends, strict=True)
        ]

    def _run_padded(self, key: Key, rows: Arrays) -> Arrays:
        """Run rows at the smallest bucket that holds them, the last row repeated to fill it."""
        count = _rows(rows)
        padding = next(bucket for bucket in self._buckets(key) if bucket >= count) - count
        if padding:
            rows = {name: _repeat_last(array, padding) for name, array in rows.items()}
        start_s = time.perf_counter()
        outputs = self._run(key, rows)
        load = self.loads[key.model, key.operation]
        load.runs, load.rows, load.seconds = (
            load.runs + 1,
            load.rows + count,
            load.seconds + time.perf_counter() - start_s,
        )
        return {name: array[:count] for name, array in outputs.items()}

    def _close(self, reason: str) -> None:
        """Take nothing any more and refuse what waits; the first reason stays."""
        if self._closed is not None:
            return
        self._closed = reason
        while self._queues:
            _, queue = self._queues.popitem()
            for piece in queue:
                _resolve(piece, UnavailableError(reason))
        self._queue_rows = self._queue_values = 0


def _resolve(piece: _Piece, answer: Arrays | Exception) -> None:
    """Give a piece its answer, unless nobody waits for it any more."""
    if piece.answer.done():
        return
    if isinstance(answer, Exception):
        piece.answer.set_exception(answer)
    else:
        piece.answer.set_result(answer)


def _fault(error: BaseException) -> Exception:
    """Give an error as one that a future can hold and that ends nothing but the request."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"the graph's run raised {error!r}")


def _repeat_last(array: NDArray[Any], times: int) -> NDArray[Any]:
    """Fill an array up with its last row."""
    return np.concatenate([array, np.repeat(array[-1:], times, axis=0)])


def _rows(arrays: Arrays) -> int:
    """Count the rows of arrays that all have as many."""
    return len(next(iter(arrays.values())))


def _join(parts: Sequence[Arrays]) -> Arrays:
    """Put arrays of the same names one below the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
