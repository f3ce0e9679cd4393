"""Step-level batching of an autoregressive prior: grids join and leave the running batch between its steps.

Every run has the same batch size, so that what is drawn for a grid does not depend on what is drawn beside it: on a
CPU it equals the same grid alone to the bit. Sequences join at any step, rasters where a row begins and nowhere else:
the graph of a row costs as much as several places, and so runs once for all grids. A newcomer waits for a row at most,
and not at all in an empty batch.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32

from artifact.drawing import Drawing
from service.engine.batcher import Batcher
from service.engine.lanes import Lane, current_caller
from service.engine.queues import Load
from service.engine.slots import Draw, Slots
from service.engine.work import Arrays, Work, count_rows, tell

_WEIGHT_OF_NEW = 0.02
"""Of the last run in the running mean of the time that one takes."""


class Sampler:
    """Draws grids of codes for whoever asks; a source of turns, each of them one step, and itself the turn.

    Steps depend on each other, so that no two of them run at a time. Where a run fails, all grids of the batch do: the
    states of all went through it, and which of them it was cannot be told. The next ones are not affected.

    Args:
        batcher: whose runners take the steps.
        drawing: the batch.
        run: a graph by its role and inputs; called in a runner's thread.
        loads: where the runs are counted, by role.
        seconds: that a run takes to begin with, by role.
        later: draws the next grids of whoever has one of this sampler; None where there are none.
    """

    def __init__(
        self,
        batcher: Batcher[Any],
        drawing: Drawing,
        run: Callable[[str, Arrays], Arrays],
        loads: Mapping[str, Load],
        seconds: Mapping[str, float],
        later: "Sampler | None" = None,
    ) -> None:
        self._batcher = batcher
        self._drawing = drawing
        self._run = run
        self._loads = loads
        self._seconds = dict(seconds)
        self._later = later
        self._slots = Slots(drawing, batcher.release)
        self._ticket = 0
        self._is_running = False
        self._is_source = False

    async def draw(self, rows: Arrays, *, admit: int | None = None) -> Int32[np.ndarray, "n *grid"]:
        """Draw grids.

        Args:
            rows: see `Draw`.
            admit: rows of the whole request; 0 where it has been let in before, None where these are all.

        Returns:
            Their codes.

        Raises:
            OverloadedError: too much waits.
            UnavailableError: the batcher was stopped, or the runner of these grids died.
            DeadlineError: the caller's deadline passed before they were complete.
        """
        size, caller = count_rows(rows), current_caller()
        row_bytes = sum(array[:1].nbytes for array in rows.values()) + self._drawing.codes[0].nbytes
        self._batcher.admit(size if admit is None else admit, row_bytes, self.chain_s, caller)
        draw = Draw(rows, row_bytes, caller, self._batcher.ticket(), self._drawing.codes.shape[1:])
        with self._batcher.changed:
            if not self._is_source:
                self._is_source, self._ticket = True, draw.ticket
                self._batcher.add_source(self)
            self._slots.add(draw)
            self._batcher.hold(size, size * row_bytes)
            self._batcher.changed.notify()
        try:
            return (await draw.answer)["codes"]
        finally:
            draw.answer.cancel()

    @property
    def backlog_s(self) -> float:
        """How long what waits and what is drawn will take."""
        return (self._slots.waiting + self._slots.active) * self.chain_s

    @property
    def oldest_s(self) -> float | None:
        """When the oldest request that waits for a slot came; None where none does."""
        return self._slots.oldest_s

    @property
    def chain_s(self) -> float:
        """The time of a grid and of those that come after it, where all slots are taken."""
        runs = self._drawing.runs.items()
        grid_s = sum(count * self._seconds[role] for role, count in runs) / len(self._drawing.codes)
        return grid_s if self._later is None else grid_s + self._later.chain_s

    def head(self, lane: Lane) -> int | None:
        """Give the ticket of the next step; None while one is running, and in the other lane."""
        return self._ticket if not self._is_running and self._slots.lane is lane else None

    def take(self, lane: Lane) -> "Sampler | None":
        """Take the next step, if anybody waits for it."""
        del lane
        self._slots.drop_unwanted()
        if self._drawing.is_between:
            self._slots.fill()
        if not self._slots.active:
            self._rest()
            return None
        self._is_running = True
        return self

    def everything(self) -> list[Work]:
        """Take all that waits or is drawn, to be refused."""
        return [*self._slots.drawing, *self._slots.forget()]

    def run(self) -> None:
        """Take a step."""
        start_s = time.perf_counter()
        role, feeds = self._drawing.call()
        try:
            self._drawing.proceed(self._run(role, feeds))
        except Exception as error:  # noqa: BLE001 - whatever a graph raises is the answer to whoever asked for it
            self.fail(error if not isinstance(error, StopIteration) else RuntimeError(f"the graph raised {error!r}"))
            return
        run_s = time.perf_counter() - start_s
        with self._batcher.changed:
            self._count(role, run_s)
            complete = self._slots.collect() if self._drawing.is_between else []
            for draw in complete:
                self._loads[role].requests += 1
                self._loads[role].queue_seconds += draw.first_s - draw.arrived_s
            self._end_step()
        tell([(draw, None) for draw in complete])

    def fail(self, error: Exception) -> None:
        """Give all grids of the batch an error, and free it for the next ones."""
        with self._batcher.changed:
            failed = self._slots.drawing
            self._slots.clear()
            self._end_step()
        tell([(draw, error) for draw in failed])

    def _end_step(self) -> None:
        """Let the next step have its turn, behind all that waits by now."""
        self._is_running = False
        self._ticket = self._batcher.ticket()
        if self._slots.lane is None:
            self._rest()
        else:
            self._batcher.changed.notify()

    def _rest(self) -> None:
        """Have no turns until somebody asks again."""
        if self._is_source:
            self._is_source = False
            self._batcher.remove_source(self)

    def _count(self, role: str, run_s: float) -> None:
        """Remember what a run came to."""
        load, slots, active = self._loads[role], len(self._drawing.codes), self._slots.active
        load.runs += 1
        load.rows += active
        load.padding_rows += slots - active
        load.seconds += run_s
        load.buckets[slots] += 1
        self._seconds[role] += _WEIGHT_OF_NEW * (run_s - self._seconds[role])
        for draw in self._slots.drawing:
            draw.run_s += run_s
