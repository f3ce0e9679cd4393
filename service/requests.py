"""What a request carries besides HTTP's own: its identity, the running service, the time of its phases."""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from service.engine.engine import Engine
from service.engine.lanes import Lane
from service.errors import DeadlineError
from service.jobs import Jobs
from service.live import LiveStreams
from service.metrics import Metrics
from service.settings import Settings

REQUEST_ID_HEADER = "x-request-id"
# A number of our own behind what tells processes apart: a random id for each request would cost a system call.
_PROCESS = secrets.token_hex(6)
_NUMBERS = itertools.count(1)
_URGENCY = re.compile(rb"(?:^|,)\s*u=([0-7])\s*(?:[,;]|$)")
_DEFAULT_URGENCY = 3
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

T = TypeVar("T")


@dataclass(frozen=True)
class Service:
    """What all requests share.

    Attributes:
        settings: limits and addresses.
        engine: the models.
        metrics: what Prometheus reads.
        workers: threads for the work that would hold up the event loop.
        jobs: requests that are answered later.
        live: streams of live sound.
    """

    settings: Settings
    engine: Engine
    metrics: Metrics
    workers: ThreadPoolExecutor
    jobs: Jobs
    live: LiveStreams

    def reload(self) -> None:
        """Begin to serve what the store holds now; the log tells how it goes."""
        self.engine.lifecycle.refresh_soon()

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Do a piece of work in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, work)


def service_of(request: Request) -> Service:
    """Give the service that a request was sent to."""
    service: Service = request.app.state.service
    return service


def choose_id(wished: str | None) -> str:
    """Take the caller's request id where it is harmless, else make one."""
    return wished if wished and _SANE_ID.fullmatch(wished) else f"{_PROCESS}-{next(_NUMBERS):x}"


def lane_named(priority: bytes) -> Lane:
    """Tell how urgent a request is by its Priority header (RFC 9218): an urgency beyond 3, the default, is bulk."""
    urgency = _URGENCY.search(priority) if priority else None
    return Lane.BULK if urgency and int(urgency[1]) > _DEFAULT_URGENCY else Lane.INTERACTIVE


def lane_of(request: Request) -> Lane:
    """Tell how urgent a request is."""
    return lane_named(request.headers.get("priority", "").encode("latin-1"))


def request_id(request: Request) -> str:
    """Give the identity of a request, as its answer bears it."""
    return str(request.state.request_id)


class Phases:
    """How long the phases of a request took, in milliseconds, for the Server-Timing header."""

    def __init__(self) -> None:
        self.durations_ms: dict[str, float] = {}

    def measure(self, phase: str) -> "_Measure":
        """Measure a phase: the time inside the block."""
        return _Measure(self.durations_ms, phase)

    def header(self) -> str:
        """Write the phases in the form of Server-Timing."""
        return ", ".join([f"{phase};dur={duration:.2f}" for phase, duration in self.durations_ms.items()])


class _Measure:
    """The time from the beginning of a block to its end."""

    __slots__ = ("_durations_ms", "_phase", "_start_s")

    def __init__(self, durations_ms: dict[str, float], phase: str) -> None:
        self._durations_ms, self._phase = durations_ms, phase

    def __enter__(self) -> None:
        self._start_s = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._durations_ms[self._phase] = (time.perf_counter() - self._start_s) * 1e3


class Deadline:
    """The moment by which a request is given up; a thread asks it between items, since it cannot be cancelled.

    Args:
        limit_s: seconds from now.

    Attributes:
        limit_s: likewise.
        end_s: that moment, on the monotonic clock.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.end_s = time.monotonic() + limit_s
        self._is_abandoned = False

    def abandon(self) -> None:
        """Let threads stop at their next item, since nobody waits any more."""
        self._is_abandoned = True

    def error(self) -> DeadlineError:
        """Say that it has passed."""
        return DeadlineError(
            f"the answer was not ready within {self.limit_s:g} s; ask for less at once, or with the header "
            "Prefer: respond-async, for which LATENTD_JOB_DEADLINE_S counts"
        )

    def check(self) -> None:
        """Stop here where the deadline has passed.

        Raises:
            DeadlineError: it has, or the request was abandoned.
        """
        if self._is_abandoned or time.monotonic() > self.end_s:
            raise self.error()
