"""Work for a caller, as long as the caller is there and the deadline has not passed."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.requests import Deadline

T = TypeVar("T")

PATIENCE_S = 0.05
"""Nobody looks after a caller before: most answers are there by then, and a watch costs as much as a short run."""


async def while_wanted(receive: Receive, deadline: Deadline, work: Awaitable[T]) -> T:
    """Await work in the current task, and give it up when the caller leaves or the deadline passes.

    Args:
        receive: of a request whose body has been read wholly, so that nothing but the caller's leaving can come.
        deadline: after which nobody wants the result.
        work: what the caller waits for.

    Returns:
        Its result.

    Raises:
        ClientDisconnect: the caller has left.
        DeadlineError: the deadline has passed.
    """
    watch = _Watch(receive, deadline)
    try:
        return await work
    except asyncio.CancelledError:
        if (reason := watch.reason()) is not None:
            raise reason from None
        raise
    finally:
        watch.end()


class _Watch:
    """Cancels the current task when nobody wants its result any more.

    Args:
        receive: tells that the caller has left.
        deadline: the moment after which it is too late.
    """

    def __init__(self, receive: Receive, deadline: Deadline) -> None:
        self._receive = receive
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._leaving: asyncio.Task[None] | None = None
        self._reason: Exception | None = None
        self._timer = self._loop.call_later(min(PATIENCE_S, deadline.limit_s), self._begin)

    def reason(self) -> Exception | None:
        """Say why this watch has cancelled the task; None where somebody else did, too."""
        is_ours = self._reason is not None and self._task is not None and self._task.uncancel() == 0
        return self._reason if is_ours else None

    def end(self) -> None:
        """Look no more; threads that still work for the caller stop at their next item."""
        self._deadline.abandon()
        self._timer.cancel()
        if self._leaving is not None:
            self._leaving.cancel()

    def _begin(self) -> None:
        left_s = self._deadline.limit_s - min(PATIENCE_S, self._deadline.limit_s)
        self._timer = self._loop.call_later(left_s, self._cancel, self._deadline.error())
        self._leaving = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel(ClientDisconnect())

    def _cancel(self, reason: Exception) -> None:
        if self._reason is None and self._task is not None:
            self._reason = reason
            self._task.cancel()
