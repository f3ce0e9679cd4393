"""One request and its answer on a connection, with short answers written in one piece."""

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

Headers = Iterable[tuple[bytes, bytes]]


class Cycle(RequestResponseCycle):
    """As uvicorn's, which writes head and body of every answer apart."""

    _start: Any = None

    @classmethod
    def of(cls, line: HttpToolsProtocol, scope: Any, *, keep_alive: bool) -> "Cycle":
        """Make the cycle of a request whose body is not read any more.

        Args:
            line: its connection.
            scope: of ASGI.
            keep_alive: whether the connection goes on after the answer.

        Returns:
            The cycle.
        """
        cycle = cls(
            scope=scope,
            transport=line.transport,
            flow=line.flow,
            logger=line.logger,
            access_logger=line.access_logger,
            access_log=line.access_log,
            default_headers=line.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=line.on_response_complete,
        )
        cycle.more_body = False
        return cycle

    async def send(self, message: Any) -> None:
        """Take a part of the answer; its head waits for the first part of its body."""
        start = self._start
        if start is None:
            if message["type"] == "http.response.start" and not self.response_started:
                self._start = message
                return
            await super().send(message)
            return
        self._start = None
        if self._is_whole(start, message):
            self._write(start, message["body"])
            return
        await super().send(start)
        await super().send(message)

    def _is_whole(self, start: Any, message: Any) -> bool:
        """Tell whether an answer is one of the usual kind, complete, on a connection that takes it and goes on."""
        return (
            start["status"] == 200
            and message["type"] == "http.response.body"
            and not message.get("more_body", False)
            and self.keep_alive
            and not self.flow.write_paused
            and not self.disconnected
            and not self.waiting_for_100_continue
            and self.scope["method"] != "HEAD"
            and (b"content-length", b"%d" % len(message.get("body", b""))) in start["headers"]
            and not any(name == b"connection" or b"\n" in value or b"\r" in value for name, value in start["headers"])
        )

    def _write(self, start: Any, body: bytes) -> None:
        """Write a whole answer, and go on to the next request."""
        self.response_started = self.response_complete = True
        self.expected_content_length, self.chunked_encoding = 0, False
        self.transport.write(whole(self.default_headers, start["headers"], body))
        self.message_event.set()
        self.on_response()


def whole(defaults: Headers, headers: Headers, body: bytes) -> bytes:
    """Write an answer 200 as it travels.

    Args:
        defaults: headers of every answer.
        headers: of this one.
        body: of the length that they say.

    Returns:
        Head and body.
    """
    lines = [b"%b: %b\r\n" % header for header in (*defaults, *headers)]
    return b"".join((STATUS_LINE[200], *lines, b"\r\n", body))
