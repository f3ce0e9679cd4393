"""Several processes behind one port: all answer, one that dies is replaced, and all end together."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import processes
from service.processes import Child, count_workers
from service.settings import Settings
from tests.service.serving import npy
from tests.service.test_lifecycle import ENVIRONMENT, free_port

PATIENCE_S = 60.0


class Service:
    """The parent, its port, and what it logs."""

    def __init__(self, store: Path, log: Path, *words: str) -> None:
        self.port = free_port()
        self.log = log
        options = ("--store", str(store), "--device", "cpu", "--threads", "1", "--buckets", "8", "--drain-s", "2")
        command = [sys.executable, "-m", "service", *options, "--port", str(self.port), "--workers", "2", *words]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stderr=file, env=ENVIRONMENT)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ready(self) -> dict[int, int]:
        """Ask anew until each worker has said that it is ready; give their processes."""
        found: dict[int, int] = {}

        def ask() -> bool:
            try:
                answer = httpx.get(self.url("/readyz"))
            except httpx.TransportError:
                return False
            if answer.status_code == 200:
                found[answer.json()["worker"]] = answer.json()["process"]
            return len(found) == 2

        self.wait_until(ask)
        return found

    def wait_until(self, holds: Callable[[], bool]) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end_s, self.log.read_text()
            time.sleep(0.01)


@contextmanager
def serving(store: Path, log: Path, *words: str) -> Iterator[Service]:
    service = Service(store, log, *words)
    try:
        yield service
    finally:
        service.process.kill()
        service.process.wait()


def is_alive(process: int) -> bool:
    """Tell whether a process lives and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_workers_share_a_port_are_replaced_and_end_without_losing_a_request(
    store_root: Path, tmp_path: Path, toy_references: Any
) -> None:
    toy = toy_references["toy-binary"]
    images = toy.images(8)
    with serving(store_root, tmp_path / "log") as service:
        before = service.ready()
        assert len(set(before.values())) == 2

        text = httpx.get(service.url("/metrics")).text
        assert set(re.findall(r'latentd_ready\{worker="(\d)"\} 1\.0', text)) == {"0", "1"}

        os.kill(before[0], signal.SIGKILL)
        after: dict[int, int] = {}

        def is_replaced() -> bool:
            """Every answer in the meantime is a good one: the new worker listens when it is ready."""
            try:
                answer = httpx.get(service.url("/readyz"))
            except (httpx.RemoteProtocolError, httpx.ReadError):
                return False  # the connection was the dead one's
            assert answer.status_code == 200
            after[answer.json()["worker"]] = answer.json()["process"]
            return after.get(0, before[0]) != before[0]

        service.wait_until(is_replaced)
        assert service.ready() == {0: after[0], 1: before[1]}
        assert "worker 0 ended with status -9; it is started again in 0.5 s" in service.log.read_text()

        def has_reloaded() -> bool:
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            return service.log.read_text().count("SIGHUP: ") >= 2

        service.wait_until(has_reloaded)

        enough = threading.Event()

        def send() -> list[int]:
            statuses = []
            while not enough.is_set():
                answer = httpx.post(
                    service.url("/encode?model=toy-binary"),
                    content=npy(images),
                    headers={"content-type": "application/x-npy", "accept": "application/x-npy"},
                    timeout=PATIENCE_S,
                )
                statuses.append(answer.status_code)
                np.testing.assert_allclose(
                    np.frombuffer(answer.content[-8 * 4 * 4 :], np.float32).reshape(8, 4),
                    toy.encode(images)[0],
                    rtol=1e-4,
                    atol=1e-4,
                )
            return statuses

        with ThreadPoolExecutor(8) as clients:
            sending = [clients.submit(send) for _ in range(8)]
            time.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            enough.set()
            statuses = [status for each in sending for status in each.result()]
        assert len(statuses) > 8
        assert set(statuses) == {200}
        assert service.process.wait(PATIENCE_S) == 0, service.log.read_text()
        assert not any(is_alive(process) for process in (*after.values(), *before.values()))
        assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
def test_workers_end_with_their_parent(store_root: Path, tmp_path: Path) -> None:
    with serving(store_root, tmp_path / "log") as service:
        children = service.ready().values()
        service.process.kill()
        service.process.wait()
        end_s = time.monotonic() + PATIENCE_S
        while any(is_alive(process) for process in children):
            assert time.monotonic() < end_s
            time.sleep(0.05)


def test_workers_that_cannot_start_end_all_with_the_reason(tmp_path: Path) -> None:
    with serving(tmp_path, tmp_path / "log") as service:
        assert service.process.wait(PATIENCE_S) == 1
    log = service.log.read_text()
    assert "holds no models; set LATENTD_STORE" in log
    assert "cannot start, for the reason above; all end" in log
    assert "Traceback" not in log


class Script:
    """Children that end as a script says: a status, or None for one that serves until the end.

    Args:
        lives: of each worker, one after the other.
        never_ready: workers whose first life ends before they serve.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lives: list[list[int | None]], never_ready: set[int]) -> None:
        self.lives, self.never_ready = lives, never_ready
        self.started: list[tuple[int, bool]] = []
        monkeypatch.setattr(processes, "_FIRST_PAUSE_S", 0.01)
        monkeypatch.setattr(processes._Parent, "_live", self.live)

    async def live(self, worker: int, *, is_late: bool) -> int:
        self.started.append((worker, is_late))
        if worker not in self.never_ready:
            self.parent.ready.add(worker)
        await asyncio.sleep(0.05)
        status = self.lives[worker].pop(0)
        if status is None:
            await self.parent.ending.wait()
            return 0
        return status

    def run(self) -> int:
        async def main() -> int:
            self.parent = processes._Parent((), Child(0, len(self.lives), "", 0, (), 0, is_late=False))
            async with asyncio.timeout(PATIENCE_S):
                running = asyncio.create_task(self.parent.run())
                while any(self.lives) and not self.parent.ending.is_set():  # noqa: ASYNC110 - the script's end
                    await asyncio.sleep(0.01)
                self.parent._end(signal.SIGTERM)
                return await running

        return asyncio.run(main())


def test_a_worker_that_dies_is_started_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [[-9, -11, 1, None], [None]], never_ready=set())
    assert script.run() == 0
    assert script.started[:2] == [(0, False), (1, False)]
    assert script.started[2:] == [(0, True)] * 3


def test_one_that_cannot_start_at_first_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [[None], [2, None]], never_ready={1})
    assert script.run() == 1
    assert len(script.started) == 2


def test_one_that_cannot_start_again_does_not_end_those_that_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [[None], [-9, 1, 1, None]], never_ready={1})
    assert script.run() == 0
    assert script.started.count((1, True)) == 3


def test_one_that_does_not_end_cleanly_shows_in_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, [[None], [None]], never_ready=set())
    live = script.live

    async def crash_at_the_end(worker: int, *, is_late: bool) -> int:
        await live(worker, is_late=is_late)
        return -9 if worker else -signal.SIGTERM

    monkeypatch.setattr(processes._Parent, "_live", staticmethod(crash_at_the_end))
    assert script.run() == 1


def test_a_child_is_told_its_place(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(5, 8, "/run/a folder", socket.AF_INET6, ("::1", 80, 0, 0), 4, is_late=True)
    flag, word = child.words()
    assert flag == "--child"
    assert Child.read(word) == child
    siblings = child.siblings
    assert (siblings.worker, siblings.workers, siblings.folder) == (5, 8, Path("/run/a folder"))
    assert siblings.is_late


def test_each_worker_has_a_gpu_and_its_share_of_the_cores(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count_gpus", lambda: 4)
    monkeypatch.setattr(processes, "available_cores", lambda: 16)

    def place(worker: int, **changes: Any) -> tuple[int, int]:
        wish = {"device": "auto", "threads": 0} | changes
        settled = Child(worker, 6, "", 0, (), 0, is_late=False).settle(settings.model_copy(update=wish))
        return settled.device_id, settled.threads

    assert [place(worker)[0] for worker in range(6)] == [0, 1, 2, 3, 0, 1]
    assert [place(worker, device_id=3)[0] for worker in range(6)] == [3, 0, 1, 2, 3, 0]
    assert place(3, device="cpu") == (0, 2)
    assert place(3, threads=7)[1] == 7
    monkeypatch.setattr(processes, "count_gpus", lambda: 0)
    assert place(3) == (0, 2)


def test_workers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count_gpus", lambda: 4)
    assert count_workers(Settings()) == 1
    assert count_workers(Settings(workers="auto")) == 4  # type: ignore[arg-type]
    monkeypatch.setenv("LATENTD_WORKERS", "auto")
    assert count_workers(Settings()) == 4
    assert count_workers(Settings(workers=3)) == 3
    monkeypatch.setattr(processes, "count_gpus", lambda: 0)
    assert count_workers(Settings(workers=0)) == 1
