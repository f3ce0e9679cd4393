"""The process: it starts, says so, ends cleanly, and tells in a line why it cannot start."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.cli import main

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LATENTD_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(store: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "service", "--store", str(store), "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT | {"LATENTD_PORT": str(port)}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, process.communicate()[1].decode()
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("not ready within 30 s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_cleanly(store_root: Path, number: signal.Signals) -> None:
    port = free_port()
    with server(store_root, port) as process:
        wait_until_ready(port, process)
        assert httpx.post(f"http://127.0.0.1:{port}/sample", params={"n": 2}).status_code == 200
        process.send_signal(number)
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0, log.decode()
        assert f"http://127.0.0.1:{port}" in log.decode()
        assert "Traceback" not in log.decode()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *words], capture_output=True, text=True, timeout=60, env=ENVIRONMENT
    )


def test_a_store_without_models_ends_the_process_with_the_reason(tmp_path: Path) -> None:
    ended = run("--store", str(tmp_path), "--port", str(free_port()))
    assert ended.returncode == 1
    assert "holds no models; set LATENTD_STORE" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_demanded_gpu_that_is_missing_ends_the_process_with_the_reason(store_root: Path) -> None:
    ended = run("--store", str(store_root), "--device", "cuda", "--port", str(free_port()))
    assert ended.returncode == 1
    assert "device cuda is demanded and does not work" in ended.stderr


def test_a_port_in_use_is_told_in_one_line(store_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--store", str(store_root), "--port", str(taken.getsockname()[1])]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is another server on this port?" in line


def test_bad_settings_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "many", "--buckets", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "LATENTD_PORT" in line
    assert "buckets" in line


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for flag in ("--store", "--models", "--device", "--threads", "--max-body-bytes", "--deadline-s"):
        assert flag in text


def test_the_service_imports_no_torch() -> None:
    code = "import sys, service.app; sys.exit('torch' in sys.modules or 'models' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
