"""Who draws next: grids that wait, in two lanes, and the slots of the running batch that they take."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from artifact.drawing import Drawing, Paused
from service.engine.lanes import Caller, Lane
from service.engine.progress import UNDRAWN
from service.engine.work import Arrays, Work, tell
from service.errors import DeadlineError

_BULK_SHARE = 8
"""One slot in so many belongs to the bulk lane while grids of both wait, so that it does not starve."""


class Draw(Work):
    """Grids of codes that a request waits for.

    Args:
        rows: what `Drawing.join` takes, each `[n, ...]` by name.
        row_bytes: of a grid's noise and codes.
        caller: who waits.
        ticket: its place in the order of arrival.
        grid: places along its axes.
    """

    __slots__ = ("codes", "done")

    answer: "asyncio.Future[Arrays]"

    def __init__(self, rows: Arrays, row_bytes: int, caller: Caller, ticket: int, grid: tuple[int, ...]) -> None:
        super().__init__(rows, row_bytes, caller, ticket, asyncio.get_running_loop().create_future())
        self.codes = np.full((self.size, *grid), UNDRAWN, dtype=np.int32)
        self.done = 0
        self._outputs = {"codes": self.codes}
        if caller.progress is not None:
            caller.progress.begin(self.codes)


@dataclass
class Grid:
    """One grid of a draw.

    Attributes:
        draw: whose.
        index: which of the draw's.
        lane: how urgent it is.
        taken: how many of its codes the draw has.
        paused: where it goes on; None for its beginning.
    """

    draw: Draw
    index: int
    lane: Lane
    taken: int = 0
    paused: Paused | None = None


class Slots:
    """The slots of a batch and the grids that wait for one; all under the batcher's lock.

    Within a lane the oldest request goes first. An urgent grid that finds no slot free takes that of a bulk grid, which
    is paused and goes on later from where it was. Of a request with more grids than there are slots only the first
    batch is urgent, so that a small request waits for a step of a grid, or a row of it, and not for a thousand grids.

    Args:
        drawing: the batch.
        release: called with the rows and bytes that wait no more.
    """

    def __init__(self, drawing: Drawing, release: Callable[[int, int], None]) -> None:
        self.grids: list[Grid | None] = [None] * len(drawing.codes)
        self.waiting = 0
        self._drawing = drawing
        self._release = release
        self._lanes: tuple[deque[Draw], deque[Draw]] = (deque(), deque())
        self._paused: deque[Grid] = deque()

    @property
    def active(self) -> int:
        """Slots in use."""
        return sum(grid is not None for grid in self.grids)

    @property
    def lane(self) -> Lane | None:
        """How urgent the next step is; None where there is nothing to be done."""
        if self._lanes[Lane.INTERACTIVE] or self._taken(Lane.INTERACTIVE):
            return Lane.INTERACTIVE
        return Lane.BULK if self.waiting or self._paused or self._taken(Lane.BULK) else None

    @property
    def oldest_s(self) -> float | None:
        """When the oldest request that waits came, on the clock of `time.perf_counter`; None where none does."""
        return min((queue[0].arrived_s for queue in self._lanes if queue), default=None)

    def add(self, draw: Draw) -> None:
        """Let a request wait."""
        self._lanes[draw.caller.lane].append(draw)
        self.waiting += draw.size

    def drop_unwanted(self) -> None:
        """Free the slots of grids that nobody waits for any more."""
        for slot, grid in enumerate(self.grids):
            if grid is not None and not grid.draw.is_wanted:
                _tell_expired(grid.draw)
                self._free(slot)

    def fill(self) -> None:
        """Let grids join, where the batch takes any."""
        bulk = self._taken(Lane.BULK) + len(self._paused) + len(self._lanes[Lane.BULK])
        urgent = len(self.grids) - min(bulk, max(1, len(self.grids) // _BULK_SHARE))
        while self._taken(Lane.INTERACTIVE) < urgent and (grid := self._next(Lane.INTERACTIVE)) is not None:
            self._seat(grid, self._make_room())
        while None in self.grids and (grid := self._next(Lane.BULK)) is not None:
            self._seat(grid, self._make_room())

    def collect(self) -> list[Draw]:
        """Take the codes drawn since the last time, free the slots of complete grids; give complete draws."""
        drawing = self.drawing
        for slot, grid in enumerate(self.grids):
            if grid is None:
                continue
            drawn = int(self._drawing.drawn[slot])
            new = slice(grid.taken, drawn)
            grid.draw.codes[grid.index].reshape(-1)[new] = self._drawing.codes[slot].reshape(-1)[new]
            grid.draw.done += drawn - grid.taken
            grid.taken = drawn
            if drawn == self._drawing.places:
                self._free(slot)
        for draw in drawing:
            if draw.caller.progress is not None:
                draw.caller.progress.tell(draw.done, draw.codes.size)
        return [draw for draw in drawing if draw.done == draw.codes.size]

    @property
    def drawing(self) -> list[Draw]:
        """The draws that have slots."""
        return list({id(grid.draw): grid.draw for grid in self.grids if grid is not None}.values())

    def clear(self) -> None:
        """Free all slots."""
        for slot in range(len(self.grids)):
            self._free(slot)

    def forget(self) -> list[Draw]:
        """Take all that waits, to be refused."""
        left = [draw for lane in self._lanes for draw in lane]
        for draw in left:
            self._leave_queue(draw, draw.size - draw.taken)
        for lane in self._lanes:
            lane.clear()
        paused = {id(grid.draw): grid.draw for grid in self._paused}
        self._paused.clear()
        return [*left, *paused.values()]

    def _taken(self, lane: Lane) -> int:
        """Count the slots that a lane has."""
        return sum(grid is not None and grid.lane is lane for grid in self.grids)

    def _next(self, lane: Lane) -> Grid | None:
        """Take the next grid of a lane, and drop what nobody waits for."""
        while lane is Lane.BULK and self._paused:
            grid = self._paused.popleft()
            if grid.draw.is_wanted:
                return grid
            _tell_expired(grid.draw)
        queue = self._lanes[lane]
        while queue:
            draw = queue[0]
            if not draw.is_wanted:
                queue.popleft()
                self._leave_queue(draw, draw.size - draw.taken)
                _tell_expired(draw)
                continue
            index = draw.take(1).start
            self._leave_queue(draw, 1)
            if draw.taken == draw.size:
                queue.popleft()
            elif lane is Lane.INTERACTIVE and draw.taken == len(self.grids):
                self._lanes[Lane.BULK].append(queue.popleft())
            return Grid(draw, index, lane)
        return None

    def _make_room(self) -> int:
        """Give a free slot: where there is none, that of the bulk grid which has come least far."""
        if None in self.grids:
            return self.grids.index(None)
        bulk = [slot for slot, grid in enumerate(self.grids) if grid is not None and grid.lane is Lane.BULK]
        slot = min(bulk, key=lambda slot: int(self._drawing.drawn[slot]))
        if (grid := self.grids[slot]) is not None:
            grid.paused = self._drawing.pause(slot)
            self._paused.append(grid)
        return slot

    def _seat(self, grid: Grid, slot: int) -> None:
        """Let a grid have a slot."""
        self.grids[slot] = grid
        grid.draw.first_s = grid.draw.first_s or time.perf_counter()
        self._drawing.join(slot, {name: array[grid.index] for name, array in grid.draw.rows.items()}, grid.paused)

    def _free(self, slot: int) -> None:
        self.grids[slot] = None
        self._drawing.leave(slot)

    def _leave_queue(self, draw: Draw, rows: int) -> None:
        self.waiting -= rows
        self._release(rows, rows * draw.row_bytes)


def _tell_expired(draw: Draw) -> None:
    """Tell a request that it came too late, unless somebody else has ended it."""
    if not draw.answer.done():
        tell([(draw, DeadlineError("the deadline passed while codes were drawn; ask for fewer"))])
