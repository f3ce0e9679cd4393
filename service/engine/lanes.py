"""Who asks: how urgent it is, and until when an answer is of use."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import IntEnum

from service.engine.progress import Progress


class Lane(IntEnum):
    """How urgent work is: whatever waits in the first lane goes before what waits in the second."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(slots=True)
class Caller:
    """What the engine knows of the request that work is done for, and what it tells of that work.

    Attributes:
        lane: how urgent it is.
        expires_s: on the monotonic clock, when nobody waits any more; None for never.
        queue_s: how long its rows have waited for a runner so far.
        compute_s: how long the runs that held its rows took.
        progress: told how far the work has come; None where nobody looks.
        ticket: its place in the order of arrival; None before its first run.
        first: what its first run was for, and how many rows; None before.
        later_s: what its later runs were expected to take so far.
    """

    lane: Lane = Lane.INTERACTIVE
    expires_s: float | None = None
    queue_s: float = 0.0
    compute_s: float = 0.0
    progress: Progress | None = None
    ticket: int | None = None
    first: tuple[object, int] | None = None
    later_s: float = 0.0

    def has_left(self) -> bool:
        """Tell whether an answer comes too late."""
        return self.would_leave_in(0.0)

    def would_leave_in(self, seconds: float) -> bool:
        """Tell whether an answer would come too late after so many seconds more."""
        return self.expires_s is not None and time.monotonic() + seconds > self.expires_s


CALLER: ContextVar[Caller] = ContextVar("caller")
"""The caller of the current task; work that nobody has set it for is interactive and does not expire."""


class as_caller:  # noqa: N801 - a context manager, spelled out because one made of a generator costs more
    """Do what is inside the block for a caller."""

    __slots__ = ("_caller", "_token")

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __enter__(self) -> Caller:
        self._token = CALLER.set(self._caller)
        return self._caller

    def __exit__(self, *_: object) -> None:
        CALLER.reset(self._token)


@contextmanager
def in_lane(lane: Lane) -> Iterator[None]:
    """Do what is inside the block in a lane, for the caller of the current task."""
    caller = current_caller()
    other = replace(caller, lane=lane, queue_s=0.0, compute_s=0.0)
    try:
        with as_caller(other):
            yield
    finally:
        caller.queue_s += other.queue_s
        caller.compute_s += other.compute_s


def current_caller() -> Caller:
    """Give the caller of the current task."""
    return CALLER.get(None) or Caller()
