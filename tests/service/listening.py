"""An app behind a socket on the loop of the test, so that its insides can be watched and held up."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from service import upgrade
from service.app import create_app
from service.draining import Server
from service.engine.engine import Engine
from service.protocol import Connection, Limits
from service.settings import Settings
from service.siblings import Siblings
from tests.service.gate import Gate


@dataclass(frozen=True)
class Listening:
    """The app and a client that knows it by its address alone."""

    app: FastAPI
    client: httpx.AsyncClient
    server: Server

    @property
    def engine(self) -> Engine:
        engine: Engine = self.app.state.service.engine
        return engine

    def hold(self, name: str) -> Gate:
        """Hold the steps of a prior up."""
        return Gate(self.engine.model(name, "sample"))


@asynccontextmanager
async def listening(settings: Settings, siblings: Siblings | None = None) -> AsyncIterator[Listening]:
    app = create_app(settings, siblings=siblings)
    config = uvicorn.Config(app, http=Connection, **upgrade.OPTIONS, log_config=None, access_log=False)
    limits, familiar = Limits.of(settings), app.state.familiar
    server = Server(config, limits, drain=lambda: True, drain_s=0, reload=lambda: None, familiar=familiar)
    # Named as TCP, so that asyncio switches Nagle's algorithm off, as uvloop does in any case.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=20, trust_env=False
        ) as client:
            try:
                await until_ready(client)
                yield Listening(app, client, server)
            finally:
                server.should_exit = True
                await serving


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - as a prober asks
            await asyncio.sleep(0.01)


def talk(settings: Settings, body: Callable[[Listening], Coroutine[Any, Any, None]]) -> None:
    """Run a body with an app that listens."""

    async def main() -> None:
        async with listening(settings) as there:
            await body(there)

    asyncio.run(main())
