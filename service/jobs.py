"""Requests that are answered later: work in the background, and its results kept for a while."""

import asyncio
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from starlette.responses import JSONResponse, Response

from service.engine.progress import Progress
from service.errors import (
    DeadlineError,
    OverloadedError,
    PendingJobError,
    TooLargeError,
    UnavailableError,
    UnknownJobError,
)
from service.settings import Settings

State = Literal["queued", "running", "done", "failed", "cancelled"]

_AT_ONCE = 8
"""Jobs that run at a time, the others wait in their order: enough to share the steps of a prior."""

_LONGEST_PAUSE_S = 10
_PREFERENCE = re.compile(r"(?:^|,)\s*respond-async\s*(?:[,;=]|$)", re.IGNORECASE)


def prefers_job(preferences: str) -> bool:
    """Tell whether a Prefer header (RFC 7240) asks for an answer later."""
    return _PREFERENCE.search(preferences) is not None


@dataclass(frozen=True)
class Order:
    """What a job is to do.

    Attributes:
        endpoint: the path that was asked.
        model: reference of the one that answers.
        size_bytes: of the request, which is held until it is done.
        limit_s: after which it is given up.
        progress: told by the work.
        work: gives the answer.
        explain: makes an answer of an error.
    """

    endpoint: str
    model: str
    size_bytes: int
    limit_s: float
    progress: Progress
    work: Callable[[], Awaitable[Response]]
    explain: Callable[[BaseException], Response]


@dataclass(eq=False)
class Job:
    """A request that is answered later.

    Attributes:
        identifier: nobody can guess it, and whoever knows it may have the result.
        endpoint: the path that was asked.
        model: reference of the one that answers.
        progress: how far it has come.
        size_bytes: of the request, then of the answer.
        created: when it was accepted.
        state: what has become of it.
        answer: what the plain request would have been answered; None while there is none.
        task: the work.
    """

    identifier: str
    endpoint: str
    model: str
    progress: Progress
    size_bytes: int
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    state: State = "queued"
    answer: Response | None = None
    task: "asyncio.Task[None] | None" = None

    @property
    def path(self) -> str:
        """Where it can be asked after."""
        return f"/jobs/{self.identifier}"

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state not in ("queued", "running")

    @property
    def pause_s(self) -> int:
        """In how many seconds to ask again: the longer it has taken, the later."""
        age_s = (datetime.now(UTC) - self.created).total_seconds()
        return max(1, min(_LONGEST_PAUSE_S, math.ceil(age_s / 10)))

    def describe(self) -> dict[str, Any]:
        """Give what is told of it."""
        return {
            "id": self.identifier,
            "state": self.state,
            "created": self.created.isoformat(timespec="milliseconds"),
            "progress": 1.0 if self.state == "done" else self.progress.fraction,
            "endpoint": self.endpoint,
            "model": self.model,
        }

    def result(self) -> Response:
        """Give the answer, a fresh one each time.

        Raises:
            PendingJobError: there is none.
        """
        if self.answer is None:
            if self.is_over:
                raise PendingJobError("the job was cancelled and has no result; send the request again", None)
            raise PendingJobError(
                f"the job is {self.state} and has no result yet; ask {self.path} again in {self.pause_s} s",
                self.pause_s,
            )
        answer = Response(self.answer.body, self.answer.status_code)
        answer.raw_headers = list(self.answer.raw_headers)
        return answer


def accepted(job: Job) -> Response:
    """Tell where to ask after a job."""
    headers = {"location": job.path, "preference-applied": "respond-async", "retry-after": str(job.pause_s)}
    return JSONResponse(job.describe(), 202, headers)


class Jobs:
    """The jobs of this process, in its memory alone. Owned by the event loop.

    Args:
        settings: how many, how large, how long.
        stamp: marks an identifier as one of this process.
    """

    def __init__(self, settings: Settings, stamp: Callable[[str], str]) -> None:
        self._settings = settings
        self._stamp = stamp
        self._jobs: dict[str, Job] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._is_closed = False

    @property
    def unfinished(self) -> list[Job]:
        """Those that wait or run."""
        return [job for job in self._jobs.values() if not job.is_over]

    def accept(self, order: Order) -> Job:
        """Begin a job.

        Raises:
            OverloadedError: there are too many, or they hold too much.
            UnavailableError: the service is shutting down.
        """
        if self._is_closed:
            raise UnavailableError("the service is shutting down; ask another replica or come back later")
        self._check_room(order.size_bytes)
        identifier = self._stamp(secrets.token_urlsafe(16))
        job = Job(identifier, order.endpoint, order.model, order.progress, order.size_bytes)
        self._jobs[identifier] = job
        job.task = asyncio.create_task(self._run(job, order))
        return job

    def find(self, identifier: str) -> Job:
        """Find a job.

        Raises:
            UnknownJobError: there is none, or none any more.
        """
        job = self._jobs.get(identifier)
        if job is None:
            raise UnknownJobError(
                f"there is no job {identifier[:80]!r}; results are kept for {self._settings.job_ttl_s:g} s, and no "
                "longer than the process lives: send the request again"
            )
        return job

    def end(self, identifier: str) -> None:
        """Cancel a job, or forget one that is over.

        Raises:
            UnknownJobError: there is none, or none any more.
        """
        job = self.find(identifier)
        if job.is_over:
            del self._jobs[identifier]
        else:
            self._settle(job, "cancelled", None)

    def close(self) -> None:
        """Accept nothing any more."""
        self._is_closed = True

    async def stop(self) -> None:
        """Give up what is not over, and accept nothing any more."""
        self.close()
        tasks = [job.task for job in self.unfinished if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check_room(self, size_bytes: int) -> None:
        """Refuse a job where there are too many, or they hold too much."""
        settings, held = self._settings, self._held_bytes
        if len(self._jobs) >= settings.max_jobs:
            reason = f"there are {len(self._jobs)} jobs already, at most {settings.max_jobs} are kept"
        elif self._jobs and held + size_bytes > settings.max_job_bytes:
            reason = f"the jobs hold {held} bytes already, at most {settings.max_job_bytes} are kept"
        else:
            return
        pause_s = max(job.pause_s for job in self._jobs.values())
        raise OverloadedError(f"{reason}; come again in {pause_s} s, or DELETE jobs whose results you have", pause_s)

    @property
    def _held_bytes(self) -> int:
        return sum(job.size_bytes for job in self._jobs.values())

    async def _run(self, job: Job, order: Order) -> None:
        """Do the work, whatever happens."""
        try:
            async with asyncio.timeout(order.limit_s), self._places:
                job.state = "running"
                answer = await _insist(order)
        except asyncio.CancelledError:
            answer = order.explain(UnavailableError("the service was shut down before the job was done; send it again"))
        except TimeoutError:
            answer = order.explain(DeadlineError(f"the job was not done within {order.limit_s:g} s; ask for less"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            answer = order.explain(error)
        if job.is_over:
            return
        free = self._settings.max_job_bytes - self._held_bytes + job.size_bytes
        if len(answer.body) > free:
            answer = order.explain(
                TooLargeError(
                    f"the result has {len(answer.body)} bytes, and the results of jobs have {free} left of "
                    f"{self._settings.max_job_bytes}; DELETE jobs whose results you have, or ask for less"
                )
            )
        self._settle(job, "done" if answer.status_code < 400 else "failed", answer)

    def _settle(self, job: Job, state: State, answer: Response | None) -> None:
        """End a job, and forget it after a while."""
        job.state, job.answer = state, answer
        job.size_bytes = 0 if answer is None else len(answer.body)
        if job.task is not None and state == "cancelled":
            job.task.cancel()
        job.task = None
        asyncio.get_running_loop().call_later(self._settings.job_ttl_s, self._jobs.pop, job.identifier, None)


async def _insist(order: Order) -> Response:
    """Do the work; where the queue is full, as soon as there is room."""
    while True:
        try:
            return await order.work()
        except OverloadedError as error:
            await asyncio.sleep(error.retry_after_s)
