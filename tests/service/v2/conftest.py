"""A server with the toys on loopback, and what it is asked by."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.settings import Settings
from tests.service.serving import Client, serving
from tests.service.v2.asking import LIMITS
from tests.toys.publish import TOYS


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an app on a port of its own; gives the address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while app.state.service.engine.state == "loading":
                time.sleep(0.01)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def toys(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the toy store."""
    root = tmp_path_factory.mktemp("v2") / "store"
    shutil.copytree(store_root, root)
    return root


@pytest.fixture(scope="module")
def address(toys: Path) -> Iterator[str]:
    """The address of a server that lets callers load and unload."""
    with running(create_app(Settings(store=toys, device="cpu", threads=1, buckets=(1, 4), control=True))) as address:
        yield address


@pytest.fixture(scope="module")
def client(store_root: Path) -> Iterator[Client]:
    """A client, without a socket between, of a server with limits that are soon reached."""
    settings = Settings(store=store_root, models=TOYS, device="cpu", threads=1, buckets=(4,), **LIMITS)
    with serving(settings) as client:
        yield client
