"""The two kinds of load: an open loop, whose requests come when they come, and a closed one, whose callers wait."""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.connection import Answer, Connection, Target
from bench.report import Report, Tally

Arrivals = Literal["poisson", "fixed"]
Progress = Callable[[Tally], None]
"""Called once a second while the load runs."""

_GRACE_S = 10.0
"""How long requests in flight at the end are waited for, unless the deadline is longer."""
_PAUSE_S = 0.05
"""Between two attempts to connect."""


async def closed_loop(
    target: Target, *, connections: int, seconds: float, deadline_s: float = 1.0, progress: Progress | None = None
) -> Report:
    """Let a number of callers each send the next request as soon as the one before is answered.

    Args:
        target: where to.
        connections: callers, each with a connection of its own.
        seconds: how long they send.
        deadline_s: what goodput is measured by.
        progress: told once a second.

    Returns:
        What came of it; a request is timed from when it is sent.

    Raises:
        LoadError: nobody listens there.
    """
    tally = Tally()
    callers = [_Caller(target, tally) for _ in range(connections)]
    for caller in callers:
        await caller.connect()
    start_s = time.perf_counter()
    tasks = [asyncio.create_task(caller.call(start_s + seconds)) for caller in callers]
    async with _watched(tally, progress):
        _, late = await asyncio.wait(tasks, timeout=seconds + max(_GRACE_S, deadline_s))
    report = tally.report(time.perf_counter() - start_s, deadline_s)
    for task in late:
        task.cancel()
    for caller in callers:
        caller.close()
    return report


class _Caller:
    """Sends the next request when the one before is answered."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = tally
        self._end_s = 0.0

    async def connect(self) -> None:
        """Open the first connection."""
        self._connection = await self._target.first(self)
        self._closed = asyncio.Event()

    async def call(self, end_s: float) -> None:
        """Send until the time is over, on a new connection wherever one is lost."""
        self._end_s = end_s
        self._send(time.perf_counter())
        await self._closed.wait()
        while time.perf_counter() < end_s:
            try:
                self._connection = await self._target.connect(self)
            except OSError:
                self._tally.sent += 1
                self._tally.connection_errors += 1
                await asyncio.sleep(_PAUSE_S)
            else:
                self._closed.clear()
                self._send(time.perf_counter())
                await self._closed.wait()

    def _send(self, now_s: float) -> None:
        self._tally.sent += 1
        self._connection.send(now_s)

    def answered(self, connection: Connection, answer: Answer) -> None:
        """Count, and send the next."""
        now_s = time.perf_counter()
        self._tally.add(answer.status, now_s - answer.since_s, has_retry_after=answer.has_retry_after)
        if answer.reusable and now_s < self._end_s:
            self._send(now_s)
        else:
            connection.close()

    def lost(self, connection: Connection, *, unanswered: bool) -> None:
        """Count what was lost, and let `call` go on."""
        del connection
        self._tally.connection_errors += unanswered
        self._closed.set()

    def close(self) -> None:
        """Close the connection, if it is still open."""
        self._connection.close()


async def open_loop(
    target: Target,
    *,
    rate_per_s: float,
    seconds: float,
    connections: int = 1024,
    arrivals: Arrivals = "poisson",
    seed: int = 0,
    deadline_s: float = 1.0,
    progress: Progress | None = None,
) -> Report:
    """Send requests at their own times, however slowly the earlier ones are answered.

    A request is timed from when it was due, so that one that had to wait for a connection is not flattered. Timers
    have a resolution of about a millisecond, by which requests leave late; that counts too.

    Args:
        target: where to.
        rate_per_s: requests a second.
        seconds: how long they come.
        connections: most open at once; a request that finds none free waits for one.
        arrivals: at random moments, or at equal distances.
        seed: of the random moments.
        deadline_s: what goodput is measured by.
        progress: told once a second.

    Returns:
        What came of it.

    Raises:
        LoadError: nobody listens there.
    """
    pool = _Pool(target, connections)
    await pool.connect()
    start_s = time.perf_counter()
    async with _watched(pool.tally, progress):
        for due_s in start_s + due_times(rate_per_s, seconds, arrivals, seed):
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            pool.send(float(due_s))
        for _ in range(math.ceil(max(_GRACE_S, deadline_s) / _PAUSE_S)):
            if not pool.tally.outstanding:
                break
            await asyncio.sleep(_PAUSE_S)
    report = pool.tally.report(seconds, deadline_s)
    pool.close()
    return report


def due_times(rate_per_s: float, seconds: float, arrivals: Arrivals, seed: int) -> NDArray[np.float64]:
    """Lay down when each request is due.

    Args:
        rate_per_s: requests a second.
        seconds: how long they come.
        arrivals: at random moments (a Poisson process), or at equal distances.
        seed: of the random moments.

    Returns:
        Seconds from the start, rising.
    """
    if arrivals == "fixed":
        return np.arange(0.0, seconds, 1.0 / rate_per_s)
    random = np.random.default_rng(seed)
    return np.sort(random.uniform(0.0, seconds, random.poisson(rate_per_s * seconds)))


class _Pool:
    """As many connections as the requests in flight need, up to a limit; beyond it requests wait."""

    def __init__(self, target: Target, most: int) -> None:
        self.tally = Tally()
        self._target = target
        self._most = most
        self._opening: set[asyncio.Task[None]] = set()
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[float] = deque()

    async def connect(self) -> None:
        """Open the first connection."""
        self._join(await self._target.first(self))

    def send(self, due_s: float) -> None:
        """Send a request that is due, or let it wait for a connection."""
        self.tally.sent += 1
        self._waiting.append(due_s)
        if self._idle:
            self._go_on(self._idle.pop())
        else:
            self._grow()

    def answered(self, connection: Connection, answer: Answer) -> None:
        """Count, and send what waits."""
        seconds = time.perf_counter() - answer.since_s
        self.tally.add(answer.status, seconds, has_retry_after=answer.has_retry_after)
        if answer.reusable:
            self._go_on(connection)
        else:
            connection.close()

    def lost(self, connection: Connection, *, unanswered: bool) -> None:
        """Count what was lost, and open another connection where requests wait for one."""
        self.tally.connection_errors += unanswered
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._grow()

    def close(self) -> None:
        """Close everything; what still waits is given up."""
        self._waiting.clear()
        for task in self._opening:
            task.cancel()
        for connection in self._open:
            connection.close()

    def _join(self, connection: Connection) -> None:
        self._open.add(connection)
        self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        """Send what has waited longest, if anything waits."""
        if not self._waiting:
            self._idle.append(connection)
            return
        due_s = self._waiting.popleft()
        self.tally.add_late(time.perf_counter() - due_s)
        connection.send(due_s)

    def _grow(self) -> None:
        if len(self._open) + len(self._opening) < self._most:
            task = asyncio.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        """Open one more connection; where that fails, the request that has waited longest fails with it."""
        try:
            connection = await self._target.connect(self)
        except OSError:
            if self._waiting:
                self._waiting.popleft()
                self.tally.connection_errors += 1
            await asyncio.sleep(_PAUSE_S)
            if self._waiting:
                self._grow()
        else:
            self._join(connection)


@asynccontextmanager
async def _watched(tally: Tally, progress: Progress | None) -> AsyncIterator[None]:
    """Report progress once a second until the block ends."""

    async def watch(progress: Progress) -> None:
        while True:
            await asyncio.sleep(1.0)
            progress(tally)

    task = progress and asyncio.create_task(watch(progress))
    try:
        yield
    finally:
        if task:
            task.cancel()
