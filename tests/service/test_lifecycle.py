"""The process: it starts, says so, ends cleanly, and tells in a line why it cannot start."""

import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.cli import main
from tests.service.serving import npy

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("LATENTD_", "OTEL_"))}
Z = npy(np.zeros((2, 4), np.float32))
NPY = {"content-type": "application/x-npy"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(port: int, **options: object) -> dict[str, str]:
    """Name settings in small letters, other variables in capitals."""
    named = {name if name.isupper() else f"LATENTD_{name.upper()}": str(value) for name, value in options.items()}
    return ENVIRONMENT | {"LATENTD_PORT": str(port)} | named


def probe(port: int, **options: object) -> int:
    """Ask as the container's health check does."""
    command = [sys.executable, "-m", "service.probe"]
    return subprocess.run(command, capture_output=True, env=environment(port, **options), check=False).returncode


@contextmanager
def server(store: Path, port: int, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "service", "--store", str(store), "--device", "cpu", "--threads", "1"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment(port, **options))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_ready(port: int, process: subprocess.Popen[bytes], *, verify: ssl.SSLContext | None = None) -> None:
    url = f"{'https' if verify else 'http'}://127.0.0.1:{port}/readyz"
    with httpx.Client(verify=verify or False) as client:
        for _ in range(600):
            assert process.poll() is None, process.communicate()[1].decode()
            try:
                if client.get(url).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError("not ready within 30 s")


def end(process: subprocess.Popen[bytes]) -> str:
    """Wait for a clean end, and give the log."""
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0, log.decode()
    assert "Traceback" not in log.decode()
    return log.decode()


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM], [signal.SIGTERM]])
def test_it_serves_and_ends_cleanly(store_root: Path, signals: list[signal.Signals]) -> None:
    port = free_port()
    # Only a lonely SIGTERM waits until others have noticed; were the others to wait too, this would take too long.
    with server(store_root, port, drain_s=0.5 if signals == [signal.SIGTERM] else 600) as process:
        wait_until_ready(port, process)
        assert httpx.post(f"http://127.0.0.1:{port}/sample", params={"n": 2}).status_code == 200
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)
        assert f"http://127.0.0.1:{port}" in end(process)


def test_it_ends_cleanly_before_it_is_ready(store_root: Path) -> None:
    port = free_port()
    with server(store_root, port, drain_s=600) as process:
        assert process.stderr is not None
        assert b"latentd listens on" in process.stderr.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        end(process)


def test_nothing_is_lost_when_it_drains_under_load(store_root: Path) -> None:
    port, outcomes = free_port(), []

    def ask_until_told_to_stop() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            while True:
                answer = client.post("/decode?model=toy-binary", content=Z, headers=NPY)
                outcomes.append(answer.status_code)
                if answer.headers.get("connection") == "close":
                    return

    with server(store_root, port, drain_s=1) as process:
        wait_until_ready(port, process)
        callers = [threading.Thread(target=ask_until_told_to_stop) for _ in range(8)]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as prober:
            for caller in callers:
                caller.start()
            end_s = time.monotonic() + 20
            while len(outcomes) <= len(callers) and time.monotonic() < end_s:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.4)
            ready = prober.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (503, "draining")
            assert prober.post("/decode?model=toy-binary", content=Z, headers=NPY).status_code == 200
        for caller in callers:
            caller.join(timeout=20)
        end(process)
    assert len(outcomes) > len(callers)
    assert set(outcomes) == {200}


def test_requests_that_have_begun_are_answered_after_it_has_stopped_listening(store_root: Path) -> None:
    port = free_port()
    head = (
        b"POST /decode?model=toy-binary HTTP/1.1\r\nhost: here\r\ncontent-type: application/x-npy\r\n"
        b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(Z)
    )
    with server(store_root, port, drain_s=0) as process:
        wait_until_ready(port, process)
        begun = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(20)]
        for connection in begun:
            connection.sendall(head)
            assert connection.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        process.send_signal(signal.SIGTERM)
        wait_until_refused(port)
        for connection in begun:
            connection.sendall(Z)
        for connection in begun:
            with connection:
                answer = b"".join(iter(lambda: connection.recv(65536), b""))  # noqa: B023 - read at once
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer
        end(process)


def wait_until_refused(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    raise AssertionError("it listens still after 20 s")


class Collector(HTTPServer):
    """What OpenTelemetry sends spans to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        self.names: list[str] = []


class CollectorHandler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        message = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.server.names.extend(f"{self.path} {span.name}" for span in scope.spans)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_logs_and_spans_leave_as_they_are_configured(store_root: Path) -> None:
    port = free_port()
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{collector.server_port}"
            options = {"log_format": "json", "drain_s": 0, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
            with server(store_root, port, **options) as process:
                wait_until_ready(port, process)
                url = f"http://127.0.0.1:{port}/sample?n=2"
                assert httpx.post(url, headers={"x-request-id": "mine"}).status_code == 200
                process.send_signal(signal.SIGTERM)
                log = end(process)
        finally:
            collector.shutdown()
            thread.join()
    # At the end, since they are sent in batches, and the last one before the process is gone.
    assert collector.names == ["/v1/traces POST /sample"]
    records = [json.loads(line) for line in log.splitlines() if "onnxruntime" not in line]
    (access,) = (record for record in records if record["logger"] == "latentd.access")
    assert (access["path"], access["status"], access["request_id"]) == ("/sample", 200, "mine")


def issue(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """Write a certificate for this machine, and its key."""
    issued = authority.issue_cert("127.0.0.1")
    files = {"tls_cert": folder / "cert.pem", "tls_key": folder / "key.pem"}
    files["tls_cert"].write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    files["tls_key"].write_bytes(issued.private_key_pem.bytes())
    return files


def encrypt(key: Path, password: bytes) -> None:
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(password)
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, encryption))


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def write_keys(path: Path, *keys: str) -> Path:
    path.write_text("\n".join(f"{key}:{hashlib.sha256(key.encode()).hexdigest()}" for key in keys))
    return path


def test_https_with_keys_both_read_again_on_sighup(store_root: Path, tmp_path: Path) -> None:
    port, before, after = free_port(), trustme.CA(), trustme.CA()
    files = issue(before, tmp_path)
    encrypt(files["tls_key"], b"a password")
    password = tmp_path / "password"
    password.write_bytes(b"a password\n")
    keys = write_keys(tmp_path / "keys", "alice")
    url = f"https://127.0.0.1:{port}/models"
    options = {**files, "tls_key_password_file": password, "api_keys_file": keys, "drain_s": 0}
    assert probe(port, **options) == 1
    with server(store_root, port, **options) as process:
        wait_until_ready(port, process, verify=trusting(before))
        assert probe(port, **options) == 0
        with httpx.Client(verify=trusting(before)) as client:
            assert client.get(url).status_code == 401
            assert client.get(url, headers={"x-api-key": "alice"}).status_code == 200
        issue(after, tmp_path)
        write_keys(keys, "bob")
        process.send_signal(signal.SIGHUP)
        wait_until_ready(port, process, verify=trusting(after))
        with httpx.Client(verify=trusting(after)) as client:
            assert client.get(url, headers={"x-api-key": "alice"}).status_code == 401
            assert client.get(url, headers={"x-api-key": "bob"}).status_code == 200
        files["tls_key"].write_text("no key")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        with httpx.Client(verify=trusting(after)) as client:
            assert client.get(url, headers={"x-api-key": "bob"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert "the certificate stays as it was: LATENTD_TLS_KEY" in end(process)


def test_a_client_needs_a_certificate_where_that_is_set(store_root: Path, tmp_path: Path) -> None:
    port, authority = free_port(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = issue(authority, tmp_path)
    with server(store_root, port, **files, tls_client_ca=tmp_path / "ca.pem", drain_s=0) as process:
        known = trusting(authority)
        known.load_cert_chain(files["tls_cert"], files["tls_key"])
        wait_until_ready(port, process, verify=known)
        with httpx.Client(verify=trusting(authority)) as unknown, pytest.raises(httpx.TransportError):
            unknown.get(f"https://127.0.0.1:{port}/livez")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda files: files.pop("tls_cert"), "LATENTD_TLS_KEY is set without LATENTD_TLS_CERT"),
        (lambda files: files["tls_cert"].unlink(), "cert.pem cannot be read: No such file"),
        (lambda files: files["tls_key"].unlink(), "key.pem cannot be read: No such file"),
        (lambda files: files["tls_cert"].write_text("none"), "cert.pem holds no certificates in PEM"),
        (lambda files: files["tls_key"].write_text("none"), "key.pem holds no private key in PEM"),
        (lambda files: files.pop("tls_key"), "cert.pem holds no private key in PEM; name the file with the key"),
        (
            lambda files: encrypt(files["tls_key"], b"secret"),
            "the TLS key is encrypted; name the file with its password",
        ),
        (
            lambda files: files["tls_key"].write_bytes(trustme.CA().issue_cert("b").private_key_pem.bytes()),
            "key.pem is not the key of the certificate in",
        ),
        (lambda files: files.update(tls_client_ca=files["tls_key"]), "holds no certificates in PEM"),
        (lambda files: files.update(api_keys_file=files["tls_key"]), "key.pem, line 1: expected name:sha256-of-key"),
    ],
)
def test_bad_files_are_told_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[dict[str, Path]], object],
    message: str,
) -> None:
    files = issue(trustme.CA(), tmp_path)
    spoil(files)
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in files.items()]
    assert main(["--store", str(tmp_path), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


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


@pytest.mark.slow
def test_sigterm_waits_for_jobs_and_for_those_who_ask_after_them() -> None:
    port, later = free_port(), {"prefer": "respond-async"}
    with server(Path("pretrained"), port, models="cifar-vq", drain_s=1, buckets=1) as process:
        wait_until_ready(port, process)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            accepted = client.post("/sample", params={"n": 500, "output": "codes"}, headers=later)
            process.send_signal(signal.SIGTERM)
            while client.get("/readyz").status_code == 200:
                time.sleep(0.02)
            assert client.post("/sample", headers=later).status_code == 503
            address = accepted.headers["location"]
            while client.get(address).json()["state"] != "done":
                time.sleep(0.1)
            assert len(json.loads(client.get(f"{address}/result").content)["items"]) == 500
        end(process)
