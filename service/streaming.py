"""Partial results as server-sent events: a picture filling in, then the answer."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from jaxtyping import Int32
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service import problems
from service.engine.progress import Progress
from service.errors import ServiceError
from service.presence import while_wanted
from service.requests import Deadline

EVENTS = "text/event-stream"

_REFUSAL_S = 0.05
"""An error that comes so soon is the plain answer, with a status of its own."""
_PAUSE_S = 0.1
"""Between two pictures."""
_HEARTBEAT_S = 10.0
"""After so long without an event a comment keeps whatever lies between from hanging up."""

_COMMENT = b": no news\n\n"
_HEADERS = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))

T = TypeVar("T")


class EventStream(Response):
    """The events of one request: `progress` as codes are drawn, in the end one `result`, or one `error`.

    Args:
        request: whose body has been read wholly.
        deadline: of its answer.
        progress: told by the work.
        work: gives the answer in JSON.
        preview: shows the codes of each link begun so far as a PNG, what is not drawn yet as grey.
    """

    def __init__(
        self,
        request: Request,
        deadline: Deadline,
        progress: Progress,
        work: Callable[[], Awaitable[Response]],
        preview: Callable[[Sequence[Int32[NDArray[Any], "n *grid"]]], Awaitable[bytes]],
    ) -> None:
        self.background = None
        self._request = request
        self._deadline = deadline
        self._progress = progress
        self._work = work
        self._preview = preview

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come; whoever leaves ends the work."""
        working = asyncio.ensure_future(while_wanted(receive, self._deadline, self._work()))
        is_begun = False
        try:
            await asyncio.wait((working,), timeout=_REFUSAL_S)
            if working.done() and (error := working.exception()) is not None:
                await problems.answer(self._request, error)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            is_begun = True
            await send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
            async for event in self._events(working):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            # The server cuts off what outlasts its grace.
            if not is_begun:
                raise
            await send({"type": "http.response.body", "body": _error(problems.cut_off(self._request))})
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _events(self, working: "asyncio.Future[Response]") -> AsyncIterator[bytes]:
        """Give event after event."""
        while not working.done():
            if await _meanwhile(working, self._progress.change()) is not None:
                if (event := await _meanwhile(working, self._show())) is not None:
                    yield event
                    await asyncio.wait((working,), timeout=_PAUSE_S)
            elif not working.done():
                yield _COMMENT
        error = working.exception()
        if error is None:
            yield _event("result", bytes(working.result().body))
        elif not isinstance(error, ClientDisconnect):
            yield _error(problems.answer(self._request, error))

    async def _show(self) -> bytes | None:
        """Show what has been drawn; nothing where that fails, since the work itself will say why."""
        progress = self._progress
        if not progress.codes:
            return None
        done, of, codes = progress.done, progress.of, [grid.copy() for grid in progress.codes]
        try:
            picture = await self._preview(codes)
        except ServiceError:
            return None
        document = {"done": done, "of": of, "image": base64.b64encode(picture).decode("ascii")}
        return _event("progress", json.dumps(document).encode())


async def _meanwhile(working: "asyncio.Future[Any]", step: Coroutine[Any, Any, T]) -> T | None:
    """Await something small, no longer than the work and no longer than a heartbeat; None where that was too short."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.wait((working, task), timeout=_HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()


def _event(name: str, data: bytes) -> bytes:
    """Write an event; its data, being JSON of ours, has no line breaks."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def _error(problem: Response) -> bytes:
    return _event("error", bytes(problem.body))
