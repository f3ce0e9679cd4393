"""An app without a socket between, and the bodies that go to and fro."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from service.app import create_app
from service.engine.engine import Engine
from service.settings import Settings

PROBLEM = "application/problem+json"


class Client:
    """A client of the app without a socket between: httpx on the app's own event loop."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner) -> None:
        self.app, self.runner = app, runner
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.runner.run(self.client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.runner.run(self.client.post(path, **options))


@contextmanager
def serving(settings: Settings) -> Iterator[Client]:
    """Run an app through its whole life."""
    app = create_app(settings)
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        client = Client(app, runner)
        try:
            runner.run(_ready(client))
            yield client
        finally:
            runner.run(client.client.aclose())
            runner.run(lifespan.__aexit__(None, None, None))


async def _ready(client: Client) -> None:
    """Wait for the models, however slow the machine is."""
    async with asyncio.timeout(60):
        while (await client.client.get("/readyz")).status_code != 200:  # noqa: ASYNC110 - as a prober asks
            await asyncio.sleep(0.01)


def png(image: np.ndarray, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, kind)
    return buffer.getvalue()


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def form(*files: bytes) -> tuple[bytes, str]:
    head = b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return b"".join(head + file + b"\r\n" for file in files) + b"--xyz--\r\n", "multipart/form-data; boundary=xyz"


def loaded(data: bytes) -> Any:
    return np.load(io.BytesIO(data), allow_pickle=False)


def post(client: Client, path: str, data: bytes = b"", content_type: str = "", accept: str = "*/*") -> Any:
    headers = {"accept": accept} | ({"content-type": content_type} if content_type else {})
    return client.post(path, content=data, headers=headers)


def with_engine(settings: Settings, body: Callable[[Engine], Awaitable[Any]]) -> Any:
    """Run a body with an engine that is started, and stopped in any case."""

    async def main() -> Any:
        engine = Engine(settings)
        await engine.start()
        try:
            return await body(engine)
        finally:
            await engine.stop()

    return asyncio.run(main())
