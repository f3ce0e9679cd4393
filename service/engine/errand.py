"""Runs that depend on each other, for one request: such as the graphs of a grid that is read place by place."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from service.engine.batcher import Batcher
from service.engine.lanes import Lane, current_caller
from service.engine.queues import Load
from service.engine.work import Arrays, Work, tell
from service.errors import DeadlineError

T = TypeVar("T")
Turns = Generator[tuple[str, Arrays] | None, Arrays, T]
"""Steps as `artifact.sampling.Steps`, which also yield None where nothing is to be run, and others may go first."""

_STRETCH_S = 0.005
"""How long a turn lasts: runs of a tenth of a millisecond would spend as much time on taking turns."""


class Errand(Generic[T]):
    """Steps that are taken in stretches, each of which is a turn; a source of turns, and itself the turn.

    Other requests have their turns between two stretches. Nothing is shared with other errands, so that what one comes
    to depends on nothing but itself, and one that fails fails alone.

    Args:
        batcher: whose runners take the steps.
        steps: which graph to run on what; advanced in a runner's thread.
        run: a graph by its role and inputs.
        loads: where the runs are counted, by role.
        rows: of each run.
        seconds: that all steps may take.
    """

    def __init__(
        self,
        batcher: Batcher[Any],
        steps: Turns[T],
        run: Callable[[str, Arrays], Arrays],
        loads: Mapping[str, Load],
        *,
        rows: int,
        seconds: float,
    ) -> None:
        self._batcher, self._steps, self._run, self._loads = batcher, steps, run, loads
        self._rows, self._left_s = rows, seconds
        self._work: Work | None = None
        self._ticket = 0
        self._answer: Arrays | None = None
        self._results: list[T] = []
        self._is_running = False

    async def follow(self, *, admit: int | None = None) -> T:
        """Take the steps to their end.

        Args:
            admit: rows of the whole request; 0 where it has been let in before, None where these are all.

        Returns:
            What they are for.

        Raises:
            OverloadedError: too much waits.
            UnavailableError: the batcher was stopped, or the runner of a stretch died.
            DeadlineError: the caller's deadline passed before the end.
        """
        caller, answer = current_caller(), asyncio.get_running_loop().create_future()
        row_s = self._left_s / self._rows
        self._batcher.admit(self._rows if admit is None else admit, 0, row_s, caller)
        self._ticket = self._batcher.ticket()
        self._work = Work({"rows": np.empty(self._rows)}, 0, caller, self._ticket, answer)
        with self._batcher.changed:
            self._batcher.add_source(self)
            self._batcher.hold(self._rows, 0)
            self._batcher.changed.notify()
        try:
            await answer
        finally:
            answer.cancel()
        return self._results[0]

    @property
    def backlog_s(self) -> float:
        """How long it will take from now on, as far as can be told."""
        return max(0.0, self._left_s)

    @property
    def oldest_s(self) -> float | None:
        """When it came, while it waits for its first turn."""
        return self._of.arrived_s if not self._of.first_s else None

    def head(self, lane: Lane) -> int | None:
        """Give the ticket of the next stretch; None while one is under way, and in the other lane."""
        return self._ticket if not self._is_running and self._of.caller.lane is lane else None

    def take(self, lane: Lane) -> "Errand[T] | None":
        """Begin a stretch, unless nobody waits for the end any more."""
        del lane
        self._begin()
        if self._of.is_wanted:
            self._is_running = True
            return self
        self._batcher.remove_source(self)
        if not self._of.answer.done():
            tell([(self._of, DeadlineError("the deadline passed before all steps were taken; ask for less"))])
        return None

    def everything(self) -> list[Work]:
        """Take all that waits, to be refused."""
        self._begin()
        return [self._of]

    def run(self) -> None:
        """Take steps for a while."""
        start_s, counts, seconds = time.perf_counter(), Counter[str](), defaultdict[str, float](float)
        is_complete, now_s = False, start_s
        try:
            while not is_complete and now_s - start_s < _STRETCH_S:
                is_complete = self._step(counts, seconds)
                now_s = time.perf_counter()
        except Exception as error:  # noqa: BLE001 - whatever a graph raises is the answer to whoever asked for it
            self.fail(error if not isinstance(error, StopIteration) else RuntimeError(f"a step raised {error!r}"))
            return
        with self._batcher.changed:
            self._count(counts, seconds)
            self._of.run_s += now_s - start_s
            self._left_s -= now_s - start_s
            self._pause(is_complete)
        if is_complete:
            tell([(self._of, None)])

    def fail(self, error: Exception) -> None:
        """Give whoever waits an error."""
        with self._batcher.changed:
            self._pause(is_complete=True)
        tell([(self._of, error)])

    def _step(self, counts: Counter[str], seconds: dict[str, float]) -> bool:
        """Take a step; tell whether it was the last one."""
        try:
            step = next(self._steps) if self._answer is None else self._steps.send(self._answer)
        except StopIteration as end:
            self._results.append(end.value)
            return True
        if step is None:
            self._answer = {}
            return False
        role, feeds = step
        start_s = time.perf_counter()
        self._answer = self._run(role, feeds)
        seconds[role] += time.perf_counter() - start_s
        counts[role] += 1
        return False

    @property
    def _of(self) -> Work:
        """What is told to whoever waits."""
        if self._work is None:
            raise RuntimeError("nobody has asked for the steps yet")
        return self._work

    def _begin(self) -> None:
        """Wait no more, from the first turn on."""
        if not self._of.first_s:
            self._of.first_s = time.perf_counter()
            self._batcher.release(self._rows, 0)

    def _pause(self, is_complete: bool) -> None:
        """Let others have their turns, or have none any more."""
        self._is_running = False
        self._ticket = self._batcher.ticket()
        if is_complete:
            self._batcher.remove_source(self)
        else:
            self._batcher.changed.notify()

    def _count(self, counts: Counter[str], seconds: Mapping[str, float]) -> None:
        """Remember what the runs came to."""
        for role, runs in counts.items():
            load = self._loads[role]
            load.runs += runs
            load.rows += runs * self._rows
            load.seconds += seconds[role]
            load.buckets[self._rows] += runs
