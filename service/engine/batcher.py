"""The batcher: rows of requests that ask for the same graph run together."""

import asyncio
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

from service.engine.lanes import Caller, Lane, current_caller
from service.engine.queues import Kernel, RowQueue
from service.engine.work import Arrays, Waiting, Work, count_rows, tell
from service.engine.worker import Turn, Worker
from service.errors import OverloadedError, UnavailableError

_BULK_SHARE = 8
"""One turn in so many belongs to the bulk lane while both wait, so that it does not starve."""

_HEADROOM = 1.5
"""Requests are let in while so many times their wait, by the times of the graphs, is within their deadline: there is
more to an answer than its graphs, and a queue that is as long as the deadline answers everybody just too late."""

_QUEUES = 256
"""So many empty queues are kept with their buffers; pictures of any size make a queue for every size."""


M = TypeVar("M", bound=Hashable)


@dataclass(frozen=True)
class Key(Generic[M]):
    """What rows must have in common to run together.

    Attributes:
        model: whatever names it; while rows of it wait it is kept alive.
        operation: the graph's role.
        signature: name, shape of one row and dtype of every input.
    """

    model: M
    operation: str
    signature: tuple[tuple[str, tuple[int, ...], str], ...]

    @classmethod
    def of(cls, model: M, operation: str, rows: Arrays) -> "Key[M]":
        """Give the key of a request's inputs, `[B, ...]` each."""
        signature = tuple((name, array.shape[1:], array.dtype.str) for name, array in sorted(rows.items()))
        return cls(model, operation, signature)


@dataclass(frozen=True)
class Limits:
    """How much may wait.

    Attributes:
        rows: of all requests.
        bytes: of the inputs and outputs of all rows that wait, unless a request alone has more.
    """

    rows: int
    bytes: int


class Source(Protocol):
    """Whatever has turns to be run; `head`, `take` and `everything` are called under the batcher's lock."""

    @property
    def backlog_s(self) -> float:
        """How long what waits will take one runner."""
        ...

    @property
    def oldest_s(self) -> float | None:
        """When the oldest work that waits came, on the clock of `time.perf_counter`; None where none does."""
        ...

    def head(self, lane: Lane) -> int | None:
        """Give the ticket of the oldest work that waits in a lane; None where none does."""
        ...

    def take(self, lane: Lane) -> Turn | None:
        """Take the next turn."""
        ...

    def everything(self) -> Sequence[Work]:
        """Take all that waits, to be refused."""
        ...


class Batcher(Generic[M]):
    """Joins rows of concurrent requests into runs.

    It conserves work: what waits is run as soon as a runner is free, and accumulates only while all are busy; there is
    no timer. The oldest work goes first, the interactive lane before the bulk one.

    Args:
        kernel: gives the graph of a key; called once for each queue.
        limits: of what may wait.
        runners: threads that run at a time.
    """

    def __init__(self, kernel: Callable[[Key[M]], Kernel], *, limits: Limits, runners: int = 1) -> None:
        self._kernel = kernel
        self._limits = limits
        self._runners = runners
        self._queues: OrderedDict[Key[M], RowQueue] = OrderedDict()
        self._forgotten: WeakSet[M] = WeakSet()
        self._busy: dict[int, RowQueue] = {}
        self._sources: list[Source] = []
        self._tickets = count()
        self._rows = 0
        self._bytes = 0
        self._turns_since_bulk = 0
        self._closed: str | None = None
        self._worker = Worker(self._take, runners=runners)

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self._rows

    @property
    def queue_bytes(self) -> int:
        """Bytes of their inputs and outputs."""
        return self._bytes

    @property
    def age_s(self) -> float:
        """How long the oldest of them has waited."""
        oldest = (source.oldest_s for source in self._waiting())
        return max((time.perf_counter() - since_s for since_s in oldest if since_s is not None), default=0.0)

    @property
    def backlog_s(self) -> float:
        """How long what waits will take, by what its graphs took so far."""
        return sum(source.backlog_s for source in self._waiting()) / self._runners

    @property
    def fault(self) -> str | None:
        """Why work is not done as it should be; None while it is."""
        return self._closed or self._worker.fault

    @property
    def deaths(self) -> int:
        """Runners that have died and were replaced."""
        return self._worker.deaths

    def start(self) -> None:
        """Start the runners."""
        self._worker.start()

    def ticket(self) -> int:
        """Give the next place in the order of arrival."""
        return next(self._tickets)

    def add_source(self, source: Source) -> None:
        """Let something else than rows have turns.

        Args:
            source: asked for turns with the lock of `changed` held.
        """
        with self._worker.changed:
            self._sources.append(source)

    def remove_source(self, source: Source) -> None:
        """Ask a source no more."""
        with self._worker.changed:
            self._sources.remove(source)

    @property
    def changed(self) -> threading.Condition:
        """Guards what sources and queues hold; see `Worker.changed`."""
        return self._worker.changed

    async def submit(self, key: Key[M], rows: Arrays, *, admit: int | None = None) -> Arrays:
        """Run rows and await their outputs.

        Args:
            key: what to run; see `Key.of`.
            rows: every input by name, `[B, ...]`, B at least 1.
            admit: rows of the whole request, which its first run lets in; 0 in its later runs, so that a full queue
                does not refuse it half done; None where this run is the whole request.

        Returns:
            Every output by name, `[B, ...]`.

        Raises:
            OverloadedError: too much waits.
            UnavailableError: the batcher was stopped, or the runner of these rows died.
            DeadlineError: the caller's deadline passed before they were run.
        """
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self.post(key, rows, current_caller(), answer, admit=admit)
        try:
            return await answer
        finally:
            answer.cancel()

    def post(self, key: Key[M], rows: Arrays, caller: Caller, answer: Waiting, *, admit: int | None = None) -> None:
        """Let rows wait for their run; on the event loop.

        Args:
            key: as for `submit`.
            rows: likewise.
            caller: for whom they are run.
            answer: told on the event loop what has become of them, never before this returns.
            admit: as for `submit`.

        Raises:
            OverloadedError: too much waits; `answer` is told nothing.
            UnavailableError: the batcher was stopped; likewise.
        """
        queue = self._queues.get(key) or self._open(key)
        size, row_bytes = count_rows(rows), queue.kernel.row_bytes
        self.admit(size if admit is None else admit, row_bytes, queue.row_s + queue.later_s, caller)
        work = Work(rows, row_bytes, caller, self._place(queue, size, caller), answer)
        with self._worker.changed:
            queue.add(work)
            self._busy[id(queue)] = queue
            self.hold(size, size * row_bytes)
            self._worker.changed.notify()

    def admit(self, rows: int, row_bytes: int, row_s: float, caller: Caller) -> None:
        """Let a request in, or refuse it.

        Args:
            rows: of the request; 0 where it has been let in before.
            row_bytes: of each.
            row_s: the time that each takes.
            caller: who asks.

        Raises:
            OverloadedError: too much waits.
            UnavailableError: the batcher was stopped.
        """
        if self._closed is not None:
            raise UnavailableError(self._closed)
        # Where nothing waits even the largest request is let in, lest it be refused for ever.
        if not rows or not self._rows:
            return
        if self._rows + rows > self._limits.rows:
            raise self._overloaded(f"{rows} more would exceed {self._limits.rows}", "send fewer rows")
        if self._bytes + rows * row_bytes > self._limits.bytes:
            raise self._overloaded(
                f"they and {rows} more of {row_bytes} bytes each would exceed {self._limits.bytes} bytes",
                "send fewer or smaller rows",
            )
        if caller.expires_s is None:
            return
        wait_s = self.backlog_s + rows * row_s / self._runners
        if caller.would_leave_in(_HEADROOM * wait_s):
            raise self._overloaded(f"{rows} more would be done in {wait_s:.1f} s, past the deadline", "send fewer rows")

    def _place(self, queue: RowQueue, rows: int, caller: Caller) -> int:
        """Give a run its place in the order of arrival: an urgent request keeps that of its first run to its end."""
        if caller.first is None:
            caller.first = (queue, rows)
        else:
            first, first_rows = caller.first
            caller.later_s += rows * queue.row_s
            if isinstance(first, RowQueue):
                first.expect_later(caller.later_s / first_rows)
        if caller.ticket is None or caller.lane is Lane.BULK:
            caller.ticket = self.ticket()
        return caller.ticket

    async def stop(self) -> None:
        """Let the turns in progress end, refuse what waits, and take nothing any more."""
        self._closed = self._closed or "the service is shutting down; ask another replica or come back later"
        with self._worker.changed:
            left = [work for source in self._waiting() for work in source.everything()]
            self._busy.clear()
        tell([(work, UnavailableError(self._closed)) for work in left])
        await asyncio.to_thread(self._worker.stop)

    def _open(self, key: Key[M]) -> RowQueue:
        """Make the queue of a key, and drop the buffers of those long unused."""
        queue = RowQueue(self._kernel(key), self.release)
        if key.model in self._forgotten:
            return queue
        with self._worker.changed:
            self._queues[key] = queue
            unused = [known for known, other in self._queues.items() if not other.rows]
            for known in unused[: max(0, len(self._queues) - _QUEUES)]:
                del self._queues[known]
        return queue

    def forget(self, model: M) -> None:
        """Keep no queues and buffers of a model any more than what waits needs; requests under way end as they would.

        Args:
            model: can be referenced weakly.
        """
        self._forgotten.add(model)
        with self._worker.changed:
            for key in [key for key in self._queues if key.model is model]:
                del self._queues[key]

    def hold(self, rows: int, size: int) -> None:
        """Count rows in, and their bytes; under the lock."""
        self._rows += rows
        self._bytes += size

    def release(self, rows: int, size: int) -> None:
        """Count rows out, and their bytes; under the lock."""
        self._rows -= rows
        self._bytes -= size

    def _waiting(self) -> tuple[Source, ...]:
        """List whatever may have turns."""
        return (*self._busy.values(), *self._sources)

    def _take(self) -> Turn | None:
        """Choose the next turn: the oldest work of the lane whose turn it is."""
        for lane in self._lanes():
            while (source := self._oldest(lane)) is not None:
                turn = source.take(lane)
                if isinstance(source, RowQueue) and not source.rows:
                    del self._busy[id(source)]
                if turn is not None:
                    self._turns_since_bulk = 0 if lane is Lane.BULK else self._turns_since_bulk + 1
                    return turn
        return None

    def _lanes(self) -> tuple[Lane, Lane]:
        """Give the lanes in the order in which they are served now."""
        if self._turns_since_bulk >= _BULK_SHARE - 1:
            return Lane.BULK, Lane.INTERACTIVE
        return Lane.INTERACTIVE, Lane.BULK

    def _oldest(self, lane: Lane) -> Source | None:
        """Find who has the oldest work of a lane."""
        best: Source | None = None
        best_ticket = math.inf
        for source in self._waiting():
            ticket = source.head(lane)
            if ticket is not None and ticket < best_ticket:
                best, best_ticket = source, ticket
        return best

    def _overloaded(self, reason: str, cure: str) -> OverloadedError:
        """Say what waits, what would be too much, and when to come again."""
        wait_s = max(1, math.ceil(self.backlog_s))
        return OverloadedError(
            f"{self._rows} rows wait already and {reason}; come again in {wait_s} s, or {cure}", wait_s
        )
