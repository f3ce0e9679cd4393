"""The batcher: rows of requests that ask for the same graph run together, in buckets, on one worker thread."""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import OverloadedError, UnavailableError

_log = logging.getLogger(__name__)

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


@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows of one request, no more than the largest bucket, and where their answer goes."""

    rows: Arrays
    size: int
    answer: asyncio.Future[Arrays]


class Batcher:
    """Joins rows of concurrent requests into runs.

    It conserves work: whatever waits is run as soon as the worker is free, and accumulates only while it is busy.
    Keys take turns; within a key, first come, first served. One event loop owns the batcher, one thread runs.

    Args:
        run: computes the outputs of a batch; called in the worker thread.
        buckets: the batch sizes that are run, rising.
        max_queue_rows: most rows that may wait.
    """

    def __init__(self, run: Run, *, buckets: tuple[int, ...], max_queue_rows: int) -> None:
        self._run = run
        self._buckets = buckets
        self._max_queue_rows = max_queue_rows
        self._queues: OrderedDict[Key, deque[_Piece]] = OrderedDict()
        self._queue_rows = 0
        self._row_time_s = 0.0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batcher")
        self._worker: asyncio.Task[None] | None = None
        self._running: list[_Piece] = []
        self._closed: str | None = None

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self._queue_rows

    @property
    def closed(self) -> str | None:
        """Why nothing is taken any more; None while it is."""
        return self._closed

    async def submit(self, key: Key, rows: Arrays) -> Arrays:
        """Run rows and await their outputs.

        Args:
            key: what to run; see `Key.of`.
            rows: every input by name, `[B, ...]`, B at least 1.

        Returns:
            Every output by name, `[B, ...]`.

        Raises:
            OverloadedError: too many rows wait.
            UnavailableError: the batcher was stopped, or its worker died.
        """
        total = len(next(iter(rows.values())))
        self._admit(total)
        loop = asyncio.get_running_loop()
        largest = self._buckets[-1]
        pieces = [
            _Piece(
                {name: array[start : start + largest] for name, array in rows.items()},
                min(largest, total - start),
                loop.create_future(),
            )
            for start in range(0, total, largest)
        ]
        self._queues.setdefault(key, deque()).extend(pieces)
        self._queue_rows += total
        self._arrived.set()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        try:
            answers = await asyncio.gather(*(piece.answer for piece in pieces))
        finally:
            for piece in pieces:
                piece.answer.cancel()
        return _concatenate(answers)

    async def stop(self) -> None:
        """Let the run in progress end, refuse what waits, and take nothing any more."""
        self._close("the service is shutting down; come back in a few seconds")
        self._arrived.set()
        if self._worker is not None:
            await asyncio.wait([self._worker])
        self._thread.shutdown(wait=False)

    def _admit(self, rows: int) -> None:
        if self._closed is not None:
            raise UnavailableError(self._closed)
        if self._queue_rows + rows > self._max_queue_rows:
            wait_s = max(1, math.ceil(self._queue_rows * self._row_time_s))
            raise OverloadedError(
                f"{self._queue_rows} rows wait, {rows} more would exceed the queue's {self._max_queue_rows}; "
                f"come again in {wait_s} s or send fewer rows",
                retry_after_s=wait_s,
            )

    async def _work(self) -> None:
        """Run batch after batch until the batcher is closed; however this ends, no caller is left waiting."""
        reason = "it was cancelled"
        try:
            while self._closed is None:
                batch = self._next_batch()
                if batch is None:
                    self._arrived.clear()
                    await self._arrived.wait()
                else:
                    await self._answer(*batch)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - asyncio would end the process on a SystemExit from a run
            reason = repr(error)
            _log.critical("the worker died", exc_info=error)
        finally:
            self._close(f"the worker of the service died ({reason}); the service must be restarted")
            self._refuse(self._running)

    def _next_batch(self) -> tuple[Key, list[_Piece]] | None:
        """Take pieces of the key whose turn it is, up to the largest bucket, dropping those nobody waits for."""
        while self._queues:
            key, queue = self._queues.popitem(last=False)
            pieces: list[_Piece] = []
            room = self._buckets[-1]
            while queue and (queue[0].answer.done() or queue[0].size <= room):
                piece = queue.popleft()
                self._queue_rows -= piece.size
                if not piece.answer.done():
                    pieces.append(piece)
                    room -= piece.size
            if queue:
                self._queues[key] = queue
            if pieces:
                return key, pieces
        return None

    async def _answer(self, key: Key, pieces: list[_Piece]) -> None:
        """Run pieces in the worker thread and hand each its outcome."""
        self._running = pieces
        began_s = time.monotonic()
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._execute, key, pieces)
        elapsed_s = (time.monotonic() - began_s) / sum(piece.size for piece in pieces)
        self._row_time_s = 0.9 * self._row_time_s + 0.1 * elapsed_s if self._row_time_s else elapsed_s
        for piece, outcome in zip(pieces, outcomes, strict=True):
            if piece.answer.done():
                continue
            if isinstance(outcome, Exception):
                piece.answer.set_exception(outcome)
            else:
                piece.answer.set_result(outcome)
        self._running = []

    def _execute(self, key: Key, pieces: list[_Piece]) -> list[Arrays | Exception]:
        """Run pieces joined and, where that fails, one by one, so that a bad one fails alone."""
        try:
            return list(self._run_joined(key, pieces))
        except Exception as error:  # noqa: BLE001 - it is the answer of the piece that caused it
            if len(pieces) == 1:
                return [error]
            return [self._execute(key, [piece])[0] for piece in pieces]

    def _run_joined(self, key: Key, pieces: list[_Piece]) -> Iterator[Arrays]:
        """Run pieces as one batch, padded up to a bucket with copies of the last row, and cut the outputs apart."""
        size = sum(piece.size for piece in pieces)
        padding = next(bucket for bucket in self._buckets if bucket >= size) - size
        parts = [piece.rows for piece in pieces]
        last = {name: array[-1:] for name, array in parts[-1].items()}
        outputs = self._run(key, _concatenate(parts + [last] * padding))
        start = 0
        for piece in pieces:
            stop = start + piece.size
            yield {name: array[start:stop] for name, array in outputs.items()}
            start = stop

    def _close(self, reason: str) -> None:
        """Refuse what waits and what is to come; the first reason stands."""
        self._closed = self._closed or reason
        waiting = [piece for queue in self._queues.values() for piece in queue]
        self._queues.clear()
        self._queue_rows = 0
        self._refuse(waiting)

    def _refuse(self, pieces: list[_Piece]) -> None:
        for piece in pieces:
            if not piece.answer.done():
                piece.answer.set_exception(UnavailableError(self._closed))


def _concatenate(parts: list[Arrays]) -> Arrays:
    """Join arrays of the same names along the batch axis."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
