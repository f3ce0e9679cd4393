"""One queue of rows: what waits for the same graph, shape and element type, in the order of arrival."""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.engine.lanes import Lane
from service.engine.plan import Plan
from service.engine.staging import Staging
from service.engine.work import Arrays, Work, count_rows, tell
from service.errors import DeadlineError

_WEIGHT_OF_NEW = 0.1
"""Of the last run in the running mean of the time that a row takes."""


@dataclass(frozen=True)
class Kernel:
    """A graph as a queue runs it.

    Attributes:
        run: computes the outputs of a batch; called in a runner's thread.
        plan: the batch sizes.
        staging: buffers for its inputs.
        row_bytes: of the inputs and outputs of one row.
        load: where its runs are counted.
    """

    run: Callable[[Arrays], Arrays]
    plan: Plan
    staging: Staging
    row_bytes: int
    load: "Load"


@dataclass
class Load:
    """What the runs of one graph have come to.

    Attributes:
        runs: how many.
        rows: rows that somebody had asked for.
        padding_rows: rows that only filled a bucket.
        seconds: in the graph.
        queue_seconds: that requests waited for their first run, summed.
        requests: that have been answered.
        buckets: runs by batch size.
    """

    runs: int = 0
    rows: int = 0
    padding_rows: int = 0
    seconds: float = 0.0
    queue_seconds: float = 0.0
    requests: int = 0
    buckets: Counter[int] = field(default_factory=Counter)


class RowQueue:
    """Rows that wait for one graph.

    All but `Batch.run` happens under the batcher's lock.

    Args:
        kernel: what they wait for.
        release: called with the rows and bytes that wait no more, under the lock.
    """

    def __init__(self, kernel: Kernel, release: Callable[[int, int], None]) -> None:
        self.kernel = kernel
        self.rows = 0
        self.row_s = kernel.plan.row_s
        self.later_s = 0.0
        self._release = release
        self._lanes: tuple[deque[Work], deque[Work]] = (deque(), deque())

    def add(self, work: Work) -> None:
        """Let work wait."""
        self._lanes[work.caller.lane].append(work)
        self.rows += work.size

    @property
    def backlog_s(self) -> float:
        """How long what waits will take one runner."""
        return self.rows * (self.row_s + self.later_s)

    def expect_later(self, seconds: float) -> None:
        """Learn what a row costs in other graphs, after this one: a picture that is reconstructed is decoded, too."""
        self.later_s += _WEIGHT_OF_NEW * (seconds - self.later_s)

    def head(self, lane: Lane) -> int | None:
        """Give the ticket of the oldest work that waits in a lane; None where none does."""
        waiting = self._lanes[lane]
        return waiting[0].ticket if waiting else None

    @property
    def oldest_s(self) -> float | None:
        """When the oldest work that waits came, on the clock of `time.perf_counter`; None where none does."""
        heads = [waiting[0].arrived_s for waiting in self._lanes if waiting]
        return min(heads, default=None)

    def take(self, lane: Lane) -> "Batch | None":
        """Take rows for one run, of a lane first and of the other where there is room; drop what nobody waits for."""
        if not self.rows:
            return None
        room = bucket = self.kernel.plan.bucket(self.rows)
        slices = []
        for waiting in (self._lanes[lane], self._lanes[1 - lane]):
            while room and waiting:
                work = waiting[0]
                if not work.is_wanted:
                    self._drop(waiting.popleft())
                    continue
                part = work.take(room)
                count = part.stop - part.start
                room -= count
                self._forget(work, count)
                slices.append((work, part))
                if work.taken == work.size:
                    waiting.popleft()
        return Batch(self, slices, self.kernel.plan.holding(bucket - room)) if slices else None

    def everything(self) -> list[Work]:
        """Take all that waits, to be refused."""
        left = [work for waiting in self._lanes for work in waiting]
        for waiting in self._lanes:
            waiting.clear()
        for work in left:
            self._forget(work, work.size - work.taken)
        return left

    def _drop(self, work: Work) -> None:
        """Forget what nobody waits for any more."""
        self._forget(work, work.size - work.taken)
        if not work.answer.done():
            tell([(work, DeadlineError("the deadline passed while the request waited; send less"))])

    def _forget(self, work: Work, rows: int) -> None:
        self.rows -= rows
        self._release(rows, rows * work.row_bytes)


@dataclass
class Batch:
    """Rows of one run.

    Attributes:
        queue: where they waited.
        slices: work and which of its rows.
        bucket: the run's batch size.
    """

    queue: RowQueue
    slices: list[tuple[Work, slice]]
    bucket: int

    def run(self) -> None:
        """Compute, and settle what is complete; where the run fails, each part alone, so that a bad one fails alone."""
        start_s = time.perf_counter()
        for work, _ in self.slices:
            work.first_s = work.first_s or start_s
        try:
            outputs = self._compute(self.slices, self.bucket)
        except Exception as error:  # noqa: BLE001 - whatever a graph raises is the answer to whoever asked for it
            self._settle_each(error)
            return
        run_s = time.perf_counter() - start_s
        complete: list[tuple[Work, Exception | None]] = []
        start = 0
        for work, part in self.slices:
            work.run_s += run_s
            if work.put(part, outputs, start):
                complete.append((work, None))
            start += part.stop - part.start
        self._count(start, len(complete), run_s, start_s)
        tell(complete)

    def fail(self, error: Exception) -> None:
        """Give all an error."""
        tell([(work, error) for work, _ in self.slices])

    def _settle_each(self, error: Exception) -> None:
        """Run each part alone after a common run has failed."""
        if len(self.slices) == 1:
            self.fail(error if not isinstance(error, StopIteration) else RuntimeError(f"the graph raised {error!r}"))
            return
        for work, part in self.slices:
            rows = part.stop - part.start
            Batch(self.queue, [(work, part)], self.queue.kernel.plan.holding(rows)).run()

    def _compute(self, slices: list[tuple[Work, slice]], bucket: int) -> Arrays:
        """Run the graph on rows, padded to the bucket."""
        staging = self.queue.kernel.staging
        feeds, buffers = staging.borrow([_part(work, part) for work, part in slices], bucket)
        try:
            return self.queue.kernel.run(feeds)
        finally:
            staging.give_back(buffers)

    def _count(self, rows: int, complete: int, run_s: float, start_s: float) -> None:
        """Remember what the run came to."""
        load, queue = self.queue.kernel.load, self.queue
        load.runs += 1
        load.rows += rows
        load.padding_rows += self.bucket - rows
        load.seconds += run_s
        load.requests += complete
        load.queue_seconds += sum(start_s - work.arrived_s for work, _ in self.slices if work.first_s == start_s)
        load.buckets[self.bucket] += 1
        queue.row_s += _WEIGHT_OF_NEW * (run_s / rows - queue.row_s)


def _part(work: Work, part: slice) -> dict[str, Any]:
    """Give some rows of work."""
    if part.stop - part.start == count_rows(work.rows):
        return work.rows
    return {name: array[part] for name, array in work.rows.items()}
