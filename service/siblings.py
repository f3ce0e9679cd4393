"""The other processes behind the same port: each answers on a private unix socket too, where the others ask it."""

import asyncio
import http.client
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from service.errors import UnavailableError

_TIMEOUT_S = 10.0
_MARK = "is_from_sibling"
_STAMP = re.compile(r"w([0-9]{1,3})-.+")


@dataclass(frozen=True)
class Reply:
    """What a sibling has answered."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Siblings:
    """The processes behind one port, and which of them this is.

    Attributes:
        worker: the number of this one, from 0.
        workers: how many there are.
        folder: where their sockets are; None where there is one process.
        is_late: this one takes the place of one that has died; it listens when it is ready, since the others answer.
    """

    worker: int = 0
    workers: int = 1
    folder: Path | None = None
    is_late: bool = False

    @property
    def others(self) -> tuple[int, ...]:
        """The numbers of the other processes."""
        return tuple(worker for worker in range(self.workers) if worker != self.worker)

    def stamp(self, identifier: str) -> str:
        """Write the number of this process into an identifier, so that any of them finds its owner."""
        return f"w{self.worker}-{identifier}"

    def owner(self, stamped: str) -> int | None:
        """Read the number of the process that has made an identifier; None where no process of ours can have."""
        match = _STAMP.fullmatch(stamped)
        worker = int(match[1]) if match else self.workers
        return worker if worker < self.workers else None

    async def forward(
        self,
        worker: int,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        timeout_s: float = _TIMEOUT_S,
    ) -> Reply:
        """Ask another process.

        Args:
            worker: its number.
            method: HTTP's.
            path: with the query.
            body: of the request.
            content_type: of the body.
            timeout_s: for each step of the exchange.

        Returns:
            Its answer, whatever its status.

        Raises:
            UnavailableError: it does not answer.
        """
        if self.folder is None:
            raise UnavailableError(f"there is no worker {worker}; one process serves alone")
        headers = {"content-type": content_type} if body else {}
        connection = _UnixConnection(socket_path(self.folder, worker), timeout_s)
        try:
            return await asyncio.to_thread(_exchange, connection, method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"worker {worker} does not answer ({error}); come again in a moment") from error

    async def broadcast(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float = _TIMEOUT_S
    ) -> dict[int, Reply | UnavailableError]:
        """Ask all other processes at once.

        Args:
            method: HTTP's.
            path: with the query.
            body: of the request, JSON.
            timeout_s: for each step of an exchange.

        Returns:
            What each has answered, or that it has not, by its number.
        """

        async def ask(worker: int) -> Reply | UnavailableError:
            try:
                return await self.forward(worker, method, path, body, timeout_s=timeout_s)
            except UnavailableError as error:
                return error

        answers = await asyncio.gather(*(ask(worker) for worker in self.others))
        return dict(zip(self.others, answers, strict=True))

    @asynccontextmanager
    async def answering(self, app: ASGIApp) -> AsyncIterator[None]:
        """Let the siblings ask an app inside the block; its lifespan is not touched."""
        if self.folder is None:
            yield
            return
        config = uvicorn.Config(_Marked(app), ws="none", lifespan="off", log_config=None, access_log=False)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: HttpToolsProtocol(config, state, {}), socket_path(self.folder, self.worker)
        )
        try:
            yield
        finally:
            server.close()


def socket_path(folder: Path, worker: int) -> Path:
    """Name the socket of a process."""
    return folder / f"{worker}.sock"


def is_from_sibling(scope: Scope) -> bool:
    """Tell whether a request came from another process, which has asked who may and asks all others itself."""
    return bool(scope.get("state", {}).get(_MARK, False))


def siblings_of(request: Request) -> Siblings:
    """Give the processes behind the port that a request came to."""
    siblings: Siblings = request.app.state.siblings
    return siblings


@dataclass(frozen=True)
class _Marked:
    """Marks what comes over the private socket; no header from outside can."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[_MARK] = True
        await self.app(scope, receive, send)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("sibling", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: dict[str, Any]
) -> Reply:
    """Send a request and read its answer."""
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content_type = response.getheader("content-type", "")
        return Reply(response.status, content_type, response.read(), tuple(response.getheaders()))
    finally:
        connection.close()
