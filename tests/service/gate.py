"""Steps of a prior that are held up until the test lets them through."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from artifact.sampling import all_step_roles
from service.engine.opening import ServedModel
from service.engine.work import Arrays


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what threads and other tasks bring about."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)


class Gate:
    """The step graphs of a model, each run of which waits to be let through; the end of the block opens it for good.

    Attributes:
        runs: that have come to the gate, with their inputs.
        error: raised instead of the next run.
    """

    def __init__(self, model: ServedModel) -> None:
        self.runs: list[tuple[str, Arrays]] = []
        self.error: BaseException | None = None
        self._let = 0
        self._permits = threading.Semaphore(0)
        self._sessions: Any = model.sessions
        self._own = {role: self._sessions[role] for role in all_step_roles(model.prior)}

    def __enter__(self) -> "Gate":
        for role, session in self._own.items():
            self._sessions[role] = _Step(self, role, session)
        return self

    def __exit__(self, *_: object) -> None:
        self._sessions.update(self._own)
        self.open()

    def open(self) -> None:
        """Let everything through."""
        self._permits.release(1_000_000)

    def let(self, runs: int) -> None:
        """Let so many runs through."""
        self._let += runs
        self._permits.release(runs)

    async def step(self, runs: int) -> None:
        """Let so many runs through, and wait until the next one has come."""
        self.let(runs)
        await until(lambda: len(self.runs) > self._let)

    async def runs_until(self, task: "asyncio.Task[Any]") -> int:
        """Let runs through one by one until a task is done, and count them."""
        runs = 0
        while not task.done():
            await self.step(1)
            await asyncio.sleep(0.001)
            runs += 1
        return runs

    @property
    def rows(self) -> list[int]:
        """The row of each slot in the last run of a row."""
        return next(feeds["position"].tolist() for role, feeds in reversed(self.runs) if role == "prior_row")

    def take(self, role: str, feeds: Arrays) -> None:
        """Take a run in, until it is let through."""
        self.runs.append((role, {name: np.array(array) for name, array in feeds.items()}))
        assert self._permits.acquire(timeout=20)
        error, self.error = self.error, None
        if error is not None:
            raise error


class _Step:
    def __init__(self, gate: Gate, role: str, session: Any) -> None:
        self.gate, self.role, self.session = gate, role, session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, feeds: Arrays, **options: Any) -> Any:
        self.gate.take(self.role, feeds)
        return self.session.run(feeds, **options)
