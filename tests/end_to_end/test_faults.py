"""What goes wrong around the service, and inside it: it says so, and goes on."""

import asyncio
import ctypes
import re
import resource
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from bench.resources import Resources
from service.settings import Settings
from tests.service.listening import Listening, talk
from tests.service.serving import PROBLEM, loaded, npy
from tests.service.stores import damage
from tests.service.test_lifecycle import free_port, server, wait_until_ready
from tests.toys import vectors
from tests.toys.publish import publish
from tests.toys.vectors import ToyReference

NPY = {"content-type": "application/x-npy", "accept": "application/x-npy"}
MODEL = "toy-binary"
IDLE = 2000


class Service:
    """A service in a process of its own, with a store of its own."""

    def __init__(self, store: Path, port: int, process: int) -> None:
        self.store, self.port, self.process = store, port, process
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    @property
    def resources(self) -> Resources:
        return Resources.of(self.process)

    def figure(self, name: str) -> float:
        (line,) = re.findall(rf"^{name} (.*)$", self.client.get("/metrics").text, re.M)
        return float(line)

    def decode(self, z: np.ndarray, model: str = MODEL) -> httpx.Response:
        return self.client.post("/decode", params={"model": model}, content=npy(z), headers=NPY)

    def begin(self, data: bytes, receive_bytes: int | None = None) -> socket.socket:
        """Connect and send, from a buffer of so many bytes for what comes back."""
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(data)
        return connection

    def check(self, toy: ToyReference) -> None:
        """Ask for what is known by other means."""
        z = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
        answer = self.decode(z)
        assert answer.status_code == 200, answer.text
        assert np.array_equal(loaded(answer.content), toy.decode(z).round().astype(np.uint8))


@pytest.fixture(scope="module")
def service(store_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    store, port = tmp_path_factory.mktemp("faults") / "store", free_port()
    shutil.copytree(store_root, store)
    options = {"header_timeout_s": 2, "body_timeout_s": 2, "control": "on", "drain_s": 0, "log_level": "error"}
    with server(store, port, **options) as process:
        wait_until_ready(port, process)
        running = Service(store, port, process.pid)
        with running.client:
            yield running
        assert process.poll() is None


@pytest.fixture
def toy(toy_references: dict[str, ToyReference]) -> ToyReference:
    return toy_references[MODEL]


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/x-npy\r\nAccept: application/x-npy\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within 20 s")


class Hanging:
    """A graph that never ends, until its thread is killed."""

    def __init__(self) -> None:
        self.thread: int | None = None

    def __call__(self, *_: Any, **__: Any) -> Any:
        self.thread = threading.get_ident()
        while True:
            time.sleep(0.005)

    def kill(self) -> None:
        assert self.thread is not None
        assert {thread.name for thread in threading.enumerate() if thread.ident == self.thread} == {"runner"}
        killed = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(SystemExit))
        assert killed == 1


def test_a_runner_that_is_killed_fails_its_own_request_and_is_replaced(
    settings: Settings, toy: ToyReference, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = np.ones((1, 4), np.float32)

    async def ask(there: Listening) -> httpx.Response:
        return await there.client.post(f"/decode?model={MODEL}", content=npy(z), headers=NPY)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.005)

    async def body(there: Listening) -> None:
        engine, may_be_replaced, graph = there.engine, threading.Event(), Hanging()
        worker = engine.batcher._worker
        spawn = worker._spawn
        monkeypatch.setattr(worker, "_spawn", lambda pause_s: may_be_replaced.wait(20) and spawn(pause_s))
        with monkeypatch.context() as patch:
            patch.setattr(engine.model(MODEL, "decode").sessions["decode"], "run", graph)
            struck = asyncio.create_task(ask(there))
            await until(lambda: graph.thread is not None)
            waiting = [asyncio.create_task(ask(there)) for _ in range(3)]
            await until(lambda: engine.queue_rows == 3)
        graph.kill()
        failed = await struck
        assert (failed.status_code, failed.headers["content-type"]) == (503, PROBLEM)
        assert "the runner of this request died" in failed.json()["detail"]
        ready = await there.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "failed")
        assert "SystemExit" in ready.json()["reason"]
        may_be_replaced.set()
        for answer in await asyncio.gather(*waiting):
            assert np.array_equal(loaded(answer.content), toy.decode(z).round().astype(np.uint8))
        await until(lambda: engine.state == "ready")
        assert (await there.client.get("/readyz")).status_code == 200
        assert "latentd_runner_deaths_total 1.0" in (await there.client.get("/metrics")).text

    talk(settings, body)


def test_latents_that_are_no_numbers_are_refused(service: Service, toy: ToyReference) -> None:
    for value in (np.nan, np.inf, -np.inf):
        z = np.zeros((2, 4), np.float32)
        z[1, 2] = value
        answer = service.decode(z)
        assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM)
        assert "not finite" in answer.json()["detail"]
    service.check(toy)


def test_an_artifact_that_is_damaged_leaves_the_old_version_serving(service: Service, toy: ToyReference) -> None:
    publish(service.store, MODEL, vectors.toy(vectors.make(9, channels=1, dimensions=4, binary=True), ("decode",)))
    damage(service.store, MODEL, 2)
    # The files of the version that is served are damaged too: what it is made of has been read before.
    damage(service.store, MODEL, 1)
    answer = service.client.post("/models/reload", timeout=60)
    assert answer.status_code == 200
    assert f"{MODEL}@1" in answer.json()["models"]
    assert "weights.data: sha256 is" in answer.json()["failed"][f"{MODEL}@2"]
    assert service.client.get("/readyz").status_code == 200
    assert service.client.get(f"/models/{MODEL}").json()["problems"] == answer.json()["failed"]
    service.check(toy)


def test_callers_who_hang_up_leave_no_work_behind(service: Service, toy: ToyReference) -> None:
    service.check(toy)
    before = service.resources.files
    large = npy(np.ones((512, 16, 16), np.int32))
    path = "/decode?model=toy-tokens"
    for _ in range(5):
        for sent in (post(path, large)[:-1000], post(path, large), b"POST /decode HTTP/1.1\r\nHo", b""):
            service.begin(sent).close()
        # The answer has 6 MB: it cannot have been sent before its reader leaves.
        with service.begin(post(path, large), 4096) as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    eventually(lambda: service.figure("latentd_queue_rows") == 0)
    assert service.figure("latentd_queue_bytes") == 0
    eventually(lambda: service.resources.files <= before)
    service.check(toy)


def test_slow_callers_hold_nobody_up(service: Service, toy: ToyReference) -> None:
    request = post(f"/decode?model={MODEL}", npy(np.zeros((1, 4), np.float32)))
    slow = [service.begin(request[:length]) for length in (1, 20, len(request) - 1) for _ in range(50)]
    for _ in range(10):
        service.check(toy)
    for connection in slow:
        with connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    service.check(toy)


@contextmanager
def open_files(least: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < least:
        pytest.skip(f"{least} files are needed, {hard} may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, least), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_idle_connections_hold_nobody_up(service: Service, toy: ToyReference) -> None:
    service.check(toy)
    before = service.resources
    with open_files(IDLE + 256), ExitStack() as idle:
        for _ in range(IDLE):
            connection = idle.enter_context(service.begin(b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"))
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert service.resources.files >= before.files + IDLE
        service.check(toy)
        assert service.resources.memory_bytes - before.memory_bytes < IDLE * 50_000
    eventually(lambda: service.resources.files <= before.files)
    service.check(toy)
