"""The cheapest HTTP/1.1 client that measures honestly: one prebuilt request, sent over and over on raw connections."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self, cast
from urllib.parse import urlsplit

import httptools


class LoadError(Exception):
    """The load cannot be put on; the message says why."""


class Owner(Protocol):
    """Whoever sends on a connection."""

    def answered(self, connection: "Connection", answer: "Answer") -> None:
        """Take an answer; the connection carries nothing now."""

    def lost(self, connection: "Connection", *, unanswered: bool) -> None:
        """Take note that the connection is closed, and whether a request was left unanswered on it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of an answer.

    Attributes:
        status: of HTTP.
        since_s: from when the request is timed, on the clock of `time.perf_counter`.
        has_retry_after: whether it says when to come again.
        reusable: whether the server takes another request on this connection.
    """

    status: int
    since_s: float
    has_retry_after: bool
    reusable: bool


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    Args:
        request: the bytes of every request.
        owner: told of answers and of the end.
    """

    def __init__(self, request: bytes, owner: Owner) -> None:
        self._request = request
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._since_s: float | None = None
        self._has_retry_after = False

    def send(self, since_s: float) -> None:
        """Send the request once more; the one before has been answered.

        Args:
            since_s: from when it is timed, on the clock of `time.perf_counter`.
        """
        self._since_s = since_s
        self._has_retry_after = False
        self._transport.write(self._request)

    def close(self) -> None:
        """Close the connection; a request in flight is given up."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        del exc
        unanswered, self._since_s = self._since_s is not None, None
        self._owner.lost(self, unanswered=unanswered)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Look for Retry-After; called by the parser."""
        if len(name) == 11 and value and name.lower() == b"retry-after":
            self._has_retry_after = True

    def on_message_complete(self) -> None:
        """Hand the answer on; called by the parser."""
        if (since_s := self._since_s) is None:
            return
        self._since_s = None
        parser = self._parser
        answer = Answer(parser.get_status_code(), since_s, self._has_retry_after, parser.should_keep_alive())
        self._owner.answered(self, answer)


@dataclass(frozen=True)
class Target:
    """Where the requests go, and the bytes of each."""

    host: str
    port: int
    request: bytes

    @classmethod
    def of(cls, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Self:
        """Build the request once: a GET, or a POST where there is a body.

        Args:
            url: `http://host:port/path?query`.
            body: the content; None for none.
            headers: beside Host and Content-Length.

        Returns:
            The target.

        Raises:
            LoadError: the address is none of plain HTTP.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError as error:
            raise LoadError(f"{url!r} is no address: {error}; expected http://host:port/path") from error
        if parts.scheme != "http" or not host:
            raise LoadError(f"{url!r} is no address of plain HTTP; expected http://host:port/path")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        return cls(host, port, head.encode("latin-1") + (body or b""))

    async def connect(self, owner: Owner) -> Connection:
        """Open a connection.

        Args:
            owner: whoever will send on it.

        Returns:
            The connection.

        Raises:
            OSError: nobody listens there, or nobody is let in.
        """
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self.request, owner), self.host, self.port)
        return connection

    async def first(self, owner: Owner) -> Connection:
        """Open the first connection, without which there is no load.

        Args:
            owner: whoever will send on it.

        Returns:
            The connection.

        Raises:
            LoadError: nobody listens there, or nobody is let in.
        """
        try:
            return await self.connect(owner)
        except OSError as error:
            raise LoadError(f"no connection to {self.host}:{self.port}: {error}; is the server running?") from error
