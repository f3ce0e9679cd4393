"""Requests like ones before: what the bytes of a head mean is found out once, and the same bytes mean the same again.

A client that asks for one thing over and over sends one head over and over. Where it asks `/encode` for an array, its
requests need no parser, no scope, no task and no layers: the rows are handed to the engine, and what comes of them is
written to the connection. Whatever is not just like one before goes the long way; so does an answer that is an error,
or cannot be written at once.
"""

import asyncio
import time
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope

from service.engine.lanes import Caller, Lane
from service.engine.work import Arrays
from service.express import BODIES, MOST_BYTES, Buffer, Express
from service.replies import Reply
from service.requests import REQUEST_ID_HEADER, Deadline, Service, choose_id, lane_named

_END = b"\r\n\r\n"
_METHOD = b"POST "
_MOST_HEADS, _MOST_HEAD_BYTES = 1024, 2048
_PLAIN = frozenset(b"accept accept-encoding connection content-length content-type host priority user-agent".split())
"""Headers that are the same in all requests of a client, and ask for nothing that the long way alone can do."""

_ID_HEADER = REQUEST_ID_HEADER.encode()
_NOBODY = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Head:
    """A head that has come before, and what it means.

    Attributes:
        raw: its bytes, with the empty line at their end.
        length: of the body.
        query: of the request.
        accept: its header; empty where there is none.
        content_type: likewise.
        lane: how urgent the request is.
        scope: all that ASGI has of it.
    """

    raw: bytes
    length: int
    query: bytes
    accept: bytes
    content_type: bytes
    lane: Lane
    scope: dict[str, Any]


class Line(Protocol):
    """A connection, as its request sees it."""

    def settle(self, prompt: "Prompt", outcome: Response | Exception) -> None:
        """Answer a request of this connection."""
        ...


class Familiar:
    """The heads that are known.

    Args:
        express: knows what is done with bodies.
        service: what all requests share.
    """

    def __init__(self, express: Express, service: Service) -> None:
        self.express, self.service = express, service
        self._heads: dict[bytes, Head] = {}
        self._waiting: dict[Prompt, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def find(self, data: bytes) -> Head | None:
        """Find what the head of a message means.

        Args:
            data: the first bytes after the message before, more or fewer than the head.

        Returns:
            What was found out before; None where nothing was.
        """
        end = data.find(_END, 0, _MOST_HEAD_BYTES)
        return self._heads.get(data[: end + len(_END)]) if end > 0 else None

    def learn(self, data: bytes, scope: Scope) -> None:
        """Remember a head that goes on after its answer, as its parser understood it.

        Args:
            data: the first bytes after the message before; nothing has come since.
            scope: what the parser made of them.
        """
        raw = data[: data.find(_END, 0, _MOST_HEAD_BYTES) + len(_END)]
        head = dict(scope["headers"])
        # As many lines as headers: else what was parsed is not just these bytes.
        is_plain = raw.startswith(_METHOD) and len(head) == len(scope["headers"]) and head.keys() <= _PLAIN
        if not is_plain or not raw.count(b"\n") == raw.count(b"\r\n") == len(head) + 2:
            return
        content_type, length = head.get(b"content-type", b""), int(head.get(b"content-length", b"0"))
        is_short = 0 < length <= min(MOST_BYTES, self.service.settings.max_body_bytes)
        if not is_short or len(data) > len(raw) + length or content_type not in BODIES:
            return
        accept, lane = head.get(b"accept", b""), lane_named(head.get(b"priority", b""))
        is_ours = scope["path"] == self.express.endpoint.path and scope["http_version"] == "1.1"
        if not is_ours or not self.express.wants_array(accept):
            return
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[raw] = Head(raw, length, scope["query_string"], accept, content_type, lane, dict(scope))

    def wait(self, prompt: "Prompt") -> None:
        """Watch the deadline of a request; those that begin later end later."""
        self._waiting[prompt] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(prompt.deadline.limit_s, self._look)

    def forget(self, prompt: "Prompt") -> None:
        """Watch it no more."""
        self._waiting.pop(prompt, None)

    def _look(self) -> None:
        """Give up what is late, and look again when the next one will be."""
        now_s = time.monotonic()
        for prompt in list(takewhile(lambda prompt: prompt.deadline.end_s <= now_s, self._waiting)):
            prompt.set_exception(prompt.deadline.error())
        self._timer = None
        if (first := next(iter(self._waiting), None)) is not None:
            self._timer = asyncio.get_running_loop().call_later(first.deadline.end_s - now_s, self._look)


class Prompt:
    """A request on the short way, from the end of its head to its answer.

    To its connection it is what uvicorn calls a cycle; to the engine it is who waits for the outputs.

    Args:
        familiar: knows its head.
        line: where it came, and is answered.
        head: of the request.
        scope: of the request before it on this connection; None where there was none.

    Attributes:
        head: likewise.
        scope: likewise.
        deadline: from when the body was there.
        more_body: whether some of it is missing.
        keep_alive: whether the connection goes on after the answer.
        disconnected: whether the connection is lost.
        response_started: whether a part of the answer was written.
        response_complete: whether all of it was, or is left to the long way.
    """

    __slots__ = (
        "_body",
        "_caller",
        "_familiar",
        "_filled",
        "_is_settled",
        "_line",
        "_output",
        "_reference",
        "_start_s",
        "_work_s",
        "deadline",
        "disconnected",
        "head",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
    )

    message_event = _NOBODY
    """uvicorn wakes here whoever waits for a body."""

    def __init__(self, familiar: Familiar, line: Line, head: Head, scope: Any) -> None:
        self._familiar, self._line = familiar, line
        self.head, self.scope = head, scope
        self._start_s = time.perf_counter()
        self._is_settled = self.response_started = self.response_complete = self.disconnected = False
        self.more_body = self.keep_alive = True
        self._body: Buffer = b""
        self._filled = 0

    def take_in(self, data: bytes) -> bytes:
        """Take in more of the body; what is large is laid where it will be read.

        Args:
            data: what has come, as much as it is.

        Returns:
            What came after the body.
        """
        missing = self.head.length - self._filled
        if not self._filled and len(data) >= missing:
            self._body = data[:missing]
        else:
            if not self._filled:
                self._body = np.empty(self.head.length, np.uint8).data
            part = data[:missing]
            self._body[self._filled : self._filled + len(part)] = part  # type: ignore[index]  # made above
        self._filled += min(missing, len(data))
        self.more_body = self._filled < self.head.length
        return data[missing:]

    @property
    def message(self) -> tuple[bytes, bytes]:
        """Head and body, as they came."""
        return self.head.raw, bytes(self._body)

    def begin(self) -> bool:
        """Hand the rows to the engine, once the body is there.

        Returns:
            Whether that was done; else the request must go the long way.
        """
        familiar, head = self._familiar, self.head
        service = familiar.service
        try:
            found = familiar.express.match(head.query, head.accept, head.content_type, self._body, service)
            if found is None:
                return False
            self.deadline = Deadline(service.settings.deadline_s)
            self._caller = Caller(head.lane, self.deadline.end_s)
            self._output, self._reference = found.output, found.model.reference
            self._work_s = time.perf_counter()
            service.engine.post(found.model, "encode", {"x": found.images}, self._caller, self)
        except Exception:  # noqa: BLE001 - whatever it is, the long way meets it too, and tells the caller
            return False
        self._body = b""
        familiar.wait(self)
        return True

    def done(self) -> bool:
        """Tell whether nobody waits any more."""
        return self._is_settled

    def set_result(self, result: Arrays) -> None:
        """Answer with outputs."""
        familiar, work_s = self._familiar, time.perf_counter() - self._work_s
        metrics = familiar.service.metrics
        try:
            reply = familiar.express.reply(result[self._output], self._reference, self._caller, work_s, metrics)
        except Exception as error:  # noqa: BLE001 - those whose rows ran in the same batch must not fail with it
            self._settle(error)
        else:
            self._settle(reply)

    def set_exception(self, exception: Exception) -> None:
        """Answer with an error."""
        self._settle(exception)

    def leave(self) -> None:
        """Answer nobody: the caller has left."""
        if not self._is_settled and not self.more_body:
            self._settle(ClientDisconnect())

    def _settle(self, outcome: Response | Exception) -> None:
        self._is_settled = True
        self._familiar.forget(self)
        self._line.settle(self, outcome)

    def finish(self, reply: Reply) -> list[tuple[bytes, bytes]]:
        """Count an answer that is written at once, and give its headers."""
        service, path = self._familiar.service, self._familiar.express.endpoint.path
        service.metrics.requests.observe(path, 200, time.perf_counter() - self._start_s)
        return [*reply.raw_headers, (_ID_HEADER, choose_id(None).encode())]
