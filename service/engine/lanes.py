"""Who asks: how urgent it is, and until when an answer is of use."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum


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
    """

    lane: Lane = Lane.INTERACTIVE
    expires_s: float | None = None
    queue_s: float = 0.0
    compute_s: float = 0.0

    def has_left(self) -> bool:
        """Tell whether an answer comes too late."""
        return self.would_leave_in(0.0)

    def would_leave_in(self, seconds: float) -> bool:
        """Tell whether an answer would come too late after so many seconds more."""
        return self.expires_s is not None and time.monotonic() + seconds > self.expires_s


CALLER: ContextVar[Caller] = ContextVar("caller")
"""The caller of the current task; work that nobody has set it for is interactive and does not expire."""


@contextmanager
def as_caller(caller: Caller) -> Iterator[Caller]:
    """Do what is inside the block for a caller."""
    token = CALLER.set(caller)
    try:
        yield caller
    finally:
        CALLER.reset(token)


def current_caller() -> Caller:
    """Give the caller of the current task."""
    return CALLER.get(None) or Caller()
