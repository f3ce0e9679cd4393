"""HTTP/1.1 connections that nobody can hold open for ever: uvicorn's protocol with limits of time, size and number."""

import asyncio
import logging
import time
from collections import Counter, deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.cycle import Cycle, whole
from service.familiar import Familiar, Prompt
from service.refusals import Refusal
from service.replies import Reply
from service.settings import Settings
from service.upgrade import is_live

_LINGER_S = 2.0
_MAX_LINGERING = 256
_MAX_WAITING = 128
_NO_TRAILERS: deque[tuple[bytes, bytes]] = deque(maxlen=0)
_BODY_HEADERS = (b"content-length", b"transfer-encoding")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a connection may take.

    Attributes:
        head_s: for the whole head of a request, and from connecting to the first one.
        body_s: for the whole body.
        write_s: without a byte of the answer being read.
        keep_alive_s: between an answer and the next request.
        connections: at once.
        head_bytes: of a request.
        message_bytes: of a request with its body, as it travels: chunks have their own overhead.
    """

    head_s: float
    body_s: float
    write_s: float
    keep_alive_s: float
    connections: int
    head_bytes: int
    message_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Take the limits from the settings."""
        return cls(
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.write_timeout_s,
            settings.keep_alive_s,
            settings.max_connections,
            settings.max_head_bytes,
            settings.max_head_bytes + 2 * settings.max_body_bytes,
        )


class Connections(ServerState):
    """All connections of a server.

    Args:
        limits: of each, and of their number.
        familiar: the requests that go the short way; None where none does.

    Attributes:
        limits: likewise.
        familiar: likewise.
        refused: how many connections were ended, by the reason, since the start.
        lingering: those that have been refused and may still be reading why.
        draining: True where every answer from now on ends its connection.
    """

    def __init__(self, limits: Limits, familiar: Familiar | None = None) -> None:
        super().__init__()
        self.limits = limits
        self.familiar = familiar
        self.refused: Counter[str] = Counter()
        self.lingering: set[asyncio.Transport] = set()
        self.draining = False
        self._told: Counter[str] = Counter()

    def sweep(self, now_s: float | None = None) -> None:
        """End the connections whose time is over; to be called every second.

        Args:
            now_s: a monotonic clock; None reads it.
        """
        now_s = time.monotonic() if now_s is None else now_s
        for connection in list(self.connections):
            if isinstance(connection, Connection):
                connection.sweep(now_s)
        if news := self.refused - self._told:
            self._told = self.refused.copy()
            _LOG.info("ended connections: %s", ", ".join(f"{count} of {reason}" for reason, count in news.items()))


class _Stage(Enum):
    """What a connection waits for."""

    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    READER = auto()
    NOTHING = auto()


class Connection(HttpToolsProtocol):
    """One connection.

    It sets no timers: every second `sweep` looks what the connection waits for, and since when it has found it so.
    """

    server_state: Connections
    cycle: Any
    """uvicorn's, or the `Prompt` of a request on the short way."""
    scope: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._prompt: Prompt | None = None
        self._stage: tuple[_Stage, object] | None = None
        self._since_s = 0.0
        self._measured: object = None
        self._measured_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Take a new connection, or refuse one too many."""
        super().connection_made(transport)
        if len(self.connections) > self.server_state.limits.connections:
            self._refuse(Refusal.TOO_MANY)

    def data_received(self, data: bytes) -> None:
        """Take what has come, by the short way where it is a request like one before."""
        familiar, prompt = self.server_state.familiar, self._prompt
        if prompt is not None and prompt.more_body:
            self._take_in(prompt, data)
        elif familiar is None or not self._is_at_rest:
            self._parse(data)
        elif (head := familiar.find(data)) is not None:
            self._prompt = self.cycle = Prompt(familiar, self, head, self.scope)
            self._take_in(self._prompt, data[len(head.raw) :])
        else:
            before = self.scope
            self._parse(data)
            cycle, is_new = self.cycle, self.scope is not before
            if is_new and cycle is not None and cycle.scope is self.scope and cycle.keep_alive and not self.pipeline:
                familiar.learn(data, self.scope)

    @property
    def _is_at_rest(self) -> bool:
        """Whether the next byte begins a request, to be answered at once."""
        cycle = self.cycle
        if cycle is None:
            return self.scope is None
        return cycle.response_complete and not cycle.more_body and cycle.scope is self.scope

    def _take_in(self, prompt: Prompt, data: bytes) -> None:
        """Take in more of a request on the short way, and begin it when it is there."""
        rest = prompt.take_in(data)
        if prompt.more_body:
            return
        if self.server_state.draining or not prompt.begin():
            self._prompt, prompt.response_complete = None, True
            head, body = prompt.message
            self._parse(head)
            # A connection that is being closed takes no request any more.
            if not self.transport.is_closing():
                self.scope["is_unmatched"] = True
                self._parse(body)
        if rest:
            self._parse(rest)

    def settle(self, prompt: Prompt, outcome: Response | Exception) -> None:
        """Answer a request of the short way: at once where that can be, else as any other."""
        self._prompt = None
        is_open = not (prompt.disconnected or self.flow.write_paused or self.transport.is_closing())
        if is_open and prompt.keep_alive and isinstance(outcome, Reply):
            prompt.response_started = prompt.response_complete = True
            headers = prompt.finish(outcome)
            self.transport.write(whole(self.server_state.default_headers, headers, bytes(outcome.body)))
            self.on_response_complete()
            return
        scope = prompt.head.scope | {"outcome": outcome, "server": self.server, "client": self.client}
        scope |= {"scheme": self.scheme, "state": self.app_state.copy()}
        cycle = Cycle.of(self, scope, keep_alive=prompt.keep_alive)
        cycle.disconnected = prompt.disconnected
        if self.scope is prompt.scope:
            self.scope = scope
        if self.cycle is prompt:
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what nobody waits for any more."""
        super().connection_lost(exc)
        if self._prompt is not None:
            self._prompt.disconnected = True
            self._prompt.leave()

    def _parse(self, data: bytes) -> None:
        """Take what is no request of the short way."""
        if self.parser is None or self.transport.is_closing():
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Anywhere else it is answered as if it had not been asked for.
            if self._should_upgrade():
                self.handle_websocket_upgrade()
                return
        except httptools.HttpParserError:
            self._refuse_malformed()
            return
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.scope is not self.scope:
            self._measure(len(data))

    def on_headers_complete(self) -> None:
        """Start a request, or let it wait for those before it; while the server drains its answer will be the last."""
        if len(self.pipeline) >= _MAX_WAITING:
            raise OverflowError("too many requests wait on one connection")
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        # The cycle is made inside, and begins when the loop comes round: until then it can be told how to write.
        self.cycle.__class__ = Cycle
        # Fields after a chunked body would go on to fill the request's headers.
        self.headers = _NO_TRAILERS  # type: ignore[assignment]
        # A body beside a wish to upgrade that is not heeded is not parsed as one: it must not be taken for a request.
        is_body_lost = self.parser.should_upgrade() and any(
            name in _BODY_HEADERS for name, _ in self.cycle.scope["headers"]
        )
        if self.server_state.draining or is_body_lost:
            self.cycle.keep_alive = False

    def _should_upgrade(self) -> bool:
        """Tell whether the request becomes a WebSocket: at one path, where no answer is due before."""
        is_free = self.cycle is None or self.cycle.response_complete
        return is_free and is_live(self.url) and bool(super()._should_upgrade())

    def on_response_complete(self) -> None:
        """Go on with the next request, as uvicorn does, without its timer for each."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def shutdown(self) -> None:
        """End the connection when its request is answered; one whose head has begun to come is a request."""
        if not self._is_reading_head:
            super().shutdown()

    def sweep(self, now_s: float) -> None:
        """End the connection where it has waited for too long.

        Args:
            now_s: a monotonic clock.
        """
        stage = self._find_stage()
        if stage != self._stage:
            self._stage, self._since_s = stage, now_s
            return
        limits, waited_s = self.server_state.limits, now_s - self._since_s
        match stage[0]:
            case _Stage.HEAD if waited_s > limits.head_s:
                self._refuse(Refusal.SLOW_HEAD)
            case _Stage.BODY if waited_s > limits.body_s:
                self._refuse(Refusal.SLOW_BODY)
            case _Stage.READER if waited_s > limits.write_s:
                self._refuse(Refusal.UNREAD_ANSWER)
            case _Stage.NOTHING if waited_s > limits.keep_alive_s:
                self.transport.close()

    @property
    def _is_reading_head(self) -> bool:
        """Whether a part of a head has come, the rest of which is missing."""
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def _find_stage(self) -> tuple[_Stage, object]:
        """Tell what the connection waits for, with something that changes when it waits for the next such thing."""
        if unread := self.transport.get_write_buffer_size():
            return _Stage.READER, unread
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            is_head = cycle is None or self._is_reading_head
            return _Stage.HEAD if is_head else _Stage.NOTHING, cycle
        if cycle.more_body and not self.pipeline and not self.flow.read_paused:
            return _Stage.BODY, cycle
        return _Stage.ANSWER, cycle

    def _measure(self, received: int) -> None:
        """Count the bytes of a message that is not complete."""
        if self._measured is not self.scope:
            self._measured, self._measured_bytes = self.scope, 0
        self._measured_bytes += received
        limits = self.server_state.limits
        if self._measured_bytes > limits.head_bytes and self._is_reading_head:
            self._refuse(Refusal.LARGE_HEAD)
        elif self._measured_bytes > limits.message_bytes:
            self._refuse(Refusal.LARGE_MESSAGE)

    def _refuse_malformed(self) -> None:
        """Say that the bytes are not HTTP; where requests came before them, those are answered instead, as the last."""
        if self.cycle is None or self.cycle.response_complete or self._is_unanswered:
            self._refuse(Refusal.MALFORMED)
        else:
            self.cycle.keep_alive = False

    @property
    def _is_unanswered(self) -> bool:
        """Whether what is said next would be the answer to what comes now, and nothing has been said yet."""
        cycle = self.cycle
        if cycle is None:
            return True
        if cycle.response_complete:
            return self._is_reading_head or not cycle.more_body
        return cycle.more_body and not self.pipeline and not cycle.response_started

    def _refuse(self, refusal: Refusal) -> None:
        """End the connection, with the reason where that can be told."""
        state, transport = self.server_state, self.transport
        state.refused[refusal.name.lower()] += 1
        can_tell = bool(refusal.value) and self._is_unanswered and not transport.is_closing()
        if not can_tell or len(state.lingering) >= _MAX_LINGERING:
            transport.abort()
            return
        self.flow.resume_reading()
        transport.set_protocol(_Lingering(transport, state.lingering))
        transport.write(refusal.value)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
        self.connection_lost(ConnectionAbortedError(refusal.name))


class _Lingering(asyncio.Protocol):
    """A refused connection: what still comes is read and forgotten, lest the answer be lost with it.

    A socket that is closed on unread bytes is reset, and the other side may lose what it has not read either.

    Args:
        transport: of the connection.
        others: that linger too.
    """

    def __init__(self, transport: asyncio.Transport, others: set[asyncio.Transport]) -> None:
        self._transport, self._others = transport, others
        others.add(transport)
        self._end = asyncio.get_running_loop().call_later(_LINGER_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._end.cancel()
        self._others.discard(self._transport)
