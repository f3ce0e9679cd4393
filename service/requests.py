"""What a request carries besides HTTP's own: its identity, the running service, the time of its phases."""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import Request

from service.engine.engine import Engine
from service.errors import DeadlineError
from service.metrics import Metrics
from service.settings import Settings

REQUEST_ID_HEADER = "x-request-id"
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
    """

    settings: Settings
    engine: Engine
    metrics: Metrics
    workers: ThreadPoolExecutor

    async def off_loop(self, work: Callable[[], T]) -> T:
        """Do a piece of work in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.workers, work)


def service_of(request: Request) -> Service:
    """Give the service that a request was sent to."""
    service: Service = request.app.state.service
    return service


def choose_id(wished: str | None) -> str:
    """Take the caller's request id where it is harmless, else make one."""
    return wished if wished and _SANE_ID.fullmatch(wished) else uuid.uuid4().hex


def request_id(request: Request) -> str:
    """Give the identity of a request, as its answer bears it."""
    return str(request.state.request_id)


@dataclass
class Phases:
    """How long the phases of a request took, in milliseconds, for the Server-Timing header."""

    durations_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Measure a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.durations_ms[phase] = (time.perf_counter() - start) * 1e3

    def header(self) -> str:
        """Write the phases in the form of Server-Timing."""
        return ", ".join(f"{phase};dur={duration:.2f}" for phase, duration in self.durations_ms.items())


class Deadline:
    """The moment by which a request is given up; a thread asks it between items, since it cannot be cancelled.

    Args:
        limit_s: seconds from now.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._end_s = time.monotonic() + limit_s
        self._is_abandoned = False

    @asynccontextmanager
    async def enforce(self) -> AsyncIterator[None]:
        """Give up what is awaited inside once the deadline has passed; at the end threads stop at their next item.

        Raises:
            DeadlineError: it has passed.
        """
        try:
            async with asyncio.timeout(self.limit_s):
                yield
        except TimeoutError as error:
            raise self._error() from error
        finally:
            self._is_abandoned = True

    def _error(self) -> DeadlineError:
        return DeadlineError(
            f"the answer was not ready within {self.limit_s:g} s; send fewer items, or ask for fewer samples"
        )

    def check(self) -> None:
        """Stop here where the deadline has passed.

        Raises:
            DeadlineError: it has, or the request was abandoned.
        """
        if self._is_abandoned or time.monotonic() > self._end_s:
            raise self._error()
