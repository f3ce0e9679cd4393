"""Connections, from raw sockets: slow ones, rude ones, too many of them."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import uvicorn

from service import draining
from service.draining import Server
from service.protocol import Connection, Limits

LIMITS = Limits(
    head_s=0.3, body_s=0.4, write_s=0.8, keep_alive_s=30, connections=400, head_bytes=4096, message_bytes=300_000
)
LARGE = 16 * 2**20


class App:
    """Answers what it was asked; knows what it has seen."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.left = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body += message["body"]
        self.headers = scope["headers"]
        if scope["path"] == "/slow":
            await asyncio.sleep(0.8)
        answer = bytes(LARGE) if scope["path"] == "/large" else scope["path"].encode() + b" %d" % len(body)
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class Served:
    def __init__(self, server: Server, app: App, port: int) -> None:
        self.server, self.app, self.port = server, app, port

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> socket.socket:
        connection = self.connect()
        connection.sendall(data)
        return connection

    def ask(self, path: str = "/") -> bytes:
        """Ask as a client does that knows nothing of all this."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        client.request("GET", path)
        answer = client.getresponse().read()
        client.close()
        return answer

    def wait_for_connections(self, count: int) -> None:
        for _ in range(500):
            if len(self.server.server_state.connections) == count:
                return
            time.sleep(0.01)
        raise AssertionError(f"{len(self.server.server_state.connections)} connections, expected {count}")


@contextmanager
def served(limits: Limits) -> Iterator[Served]:
    app = App()
    config = uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None, proxy_headers=False)
    server = Server(config, limits, drain=lambda: True, drain_s=0, reload=lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Served(server, app, port)
        finally:
            server.should_exit = True
            thread.join(timeout=20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draining, "_SWEEP_S", 0.05)
        with served(LIMITS) as running:
            yield running


@pytest.fixture
def server(shared: Served) -> Served:
    """The server as if nobody had asked it yet."""
    shared.wait_for_connections(0)
    shared.server.server_state.limits = LIMITS
    shared.server.server_state.refused.clear()
    shared.app.left.clear()
    return shared


def read_all(connection: socket.socket) -> bytes:
    with connection:
        return b"".join(iter(lambda: connection.recv(65536), b""))


def read_until(connection: socket.socket, end: bytes) -> None:
    """Read an answer that the connection outlives."""
    answer = b""
    while not answer.endswith(end):
        answer += (data := connection.recv(1024))
        assert data, answer


def check_problem(answer: bytes, status: int) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    document: dict[str, Any] = json.loads(body)
    assert document["status"] == status
    return document


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nhost: here\r\nx-slow: "])
def test_a_head_that_does_not_come_is_given_up(server: Served, sent: bytes) -> None:
    slow = server.send(sent)
    assert server.ask("/meanwhile") == b"/meanwhile 0"
    check_problem(read_all(slow), 408)
    server.wait_for_connections(0)


def test_a_head_that_comes_byte_by_byte_is_given_up(server: Served) -> None:
    slow = server.send(b"GET / HTTP/1.1\r\n")
    answer = b""
    slow.settimeout(0.05)
    for _ in range(100):
        try:
            slow.sendall(b"x")
            answer += slow.recv(65536)
        except TimeoutError:
            continue
        break
    slow.settimeout(10)
    check_problem(answer + read_all(slow), 408)


def test_a_body_that_does_not_come_is_given_up(server: Served) -> None:
    slow = server.send(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n12345")
    assert server.ask("/meanwhile") == b"/meanwhile 0"
    check_problem(read_all(slow), 408)
    assert server.app.left.wait(5)


def test_a_second_head_that_does_not_come_is_given_up(server: Served) -> None:
    answer = read_all(server.send(b"GET /first HTTP/1.1\r\nhost: here\r\n\r\nGET /second HTT"))
    first, _, rest = answer.partition(b"/first 0")
    assert first.startswith(b"HTTP/1.1 200 ")
    check_problem(rest, 408)


def test_an_answer_may_take_longer_than_all_limits_of_the_caller(server: Served) -> None:
    assert server.ask("/slow") == b"/slow 0"


def test_a_large_body_in_pieces_is_taken(server: Served) -> None:
    server.server.server_state.limits = replace(LIMITS, body_s=30)
    head = b"POST / HTTP/1.1\r\nhost: here\r\nconnection: close\r\ncontent-length: 200000\r\n\r\n"
    connection = server.send(head)
    for _ in range(10):
        connection.sendall(bytes(20_000))
        time.sleep(0.01)
    assert read_all(connection).endswith(b"/ 200000")


def test_callers_who_hang_up_leave_nothing_behind(server: Served) -> None:
    for sent in (b"GET / HT", b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n123", b""):
        server.send(sent).close()
    assert server.app.left.wait(5)
    server.wait_for_connections(0)
    assert server.ask() == b"/ 0"


def test_idle_connections_are_kept_for_their_time(server: Served) -> None:
    idle = [server.send(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n") for _ in range(300)]
    for connection in idle:
        read_until(connection, b"/ 0")
    server.wait_for_connections(300)
    assert server.ask("/other") == b"/other 0"
    server.server.server_state.limits = replace(LIMITS, keep_alive_s=0.1)
    for connection in idle:
        assert read_all(connection) == b""
    server.wait_for_connections(0)
    assert not server.server.server_state.refused


def test_one_connection_too_many_is_told_so(server: Served) -> None:
    server.server.server_state.limits = replace(LIMITS, connections=2, head_s=30)
    with server.connect(), server.connect() as second:
        server.wait_for_connections(2)
        answer = read_all(server.send(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"))
        check_problem(answer, 503)
        assert b"retry-after: " in answer
        second.sendall(b"GET /second HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        assert read_all(second).endswith(b"/second 0")
        server.wait_for_connections(1)
        assert server.ask("/again") == b"/again 0"


def test_pipelined_requests_are_answered_in_order(server: Served) -> None:
    requests = b"".join(b"GET /%d HTTP/1.1\r\nhost: here\r\n\r\n" % number for number in range(5))
    answer = read_all(server.send(requests + b"GET /last HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n"))
    expected = [b"/0 0", b"/1 0", b"/2 0", b"/3 0", b"/4 0", b"/last 0"]
    found = [answer.find(part) for part in expected]
    assert -1 not in found
    assert found == sorted(found)


def test_requests_are_not_taken_without_end_before_they_are_answered(server: Served) -> None:
    answer = read_all(server.send(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n" * 5000))
    assert 129 <= answer.count(b"HTTP/1.1 200 ") < 5000


def test_what_is_not_http_is_told_so(server: Served) -> None:
    check_problem(read_all(server.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")), 400)


def test_a_request_before_what_is_not_http_is_answered(server: Served) -> None:
    answer = read_all(server.send(b"GET /slow HTTP/1.1\r\nhost: here\r\n\r\n\x16\x03\x01 no HTTP\r\n\r\n"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"/slow 0" in answer


def test_a_chunk_that_is_none_is_told_so(server: Served) -> None:
    head = b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    check_problem(read_all(server.send(head + b"5\r\n12345\r\nno chunk\r\n")), 400)
    assert server.app.left.wait(5)


def flood(connection: socket.socket, data: bytes, times: int) -> bytes:
    """Send until the other side has had enough."""
    try:
        for _ in range(times):
            connection.sendall(data)
    except ConnectionError:
        pass
    return read_all(connection)


def test_a_head_without_end_is_refused(server: Served) -> None:
    answer = flood(server.send(b"GET / HTTP/1.1\r\n"), b"x-more: of the same\r\n" * 100, 200)
    check_problem(answer, 431)


def test_a_header_without_end_is_refused(server: Served) -> None:
    check_problem(flood(server.send(b"GET / HTTP/1.1\r\nx-long: "), b"x" * 10_000, 20), 431)


def test_trailers_without_end_are_refused(server: Served) -> None:
    head = b"POST / HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n"
    check_problem(flood(server.send(head), b"x-more: of the same\r\n" * 100, 500), 413)


def test_trailers_are_no_headers(server: Served) -> None:
    head = b"POST / HTTP/1.1\r\nhost: here\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = read_all(server.send(head + b"5\r\n12345\r\n0\r\nx-api-key: late\r\n\r\n"))
    assert answer.endswith(b"/ 5")
    assert [name for name, _ in server.app.headers] == [b"host", b"connection", b"transfer-encoding"]


def test_a_request_to_change_the_protocol_is_answered_as_if_it_had_not_asked(server: Served) -> None:
    head = b"GET /plain HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: %s\r\n\r\n"
    for protocol in (b"websocket", b"h2c"):
        with server.send(head % protocol) as connection:
            read_until(connection, b"/plain 0")


def test_a_body_beside_a_wish_to_change_the_protocol_is_no_request(server: Served) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nhost: here\r\n\r\n"
    head = b"POST /plain HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n"
    with server.send(head % len(hidden)) as connection:
        with suppress(ConnectionError):
            time.sleep(0.05)
            connection.sendall(hidden)
        answer = read_all(connection)
    assert b"/plain" in answer
    assert b"/hidden" not in answer


def test_an_answer_that_nobody_reads_is_given_up(server: Served) -> None:
    connection = server.send(b"GET /large HTTP/1.1\r\nhost: here\r\n\r\n")
    server.wait_for_connections(1)
    server.wait_for_connections(0)
    assert server.server.server_state.refused["unread_answer"] == 1
    assert len(read_all(connection)) < LARGE


def test_an_answer_that_is_read_slowly_is_sent_wholly(server: Served) -> None:
    with server.send(b"GET /large HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n") as connection:
        size = 0
        while data := connection.recv(2**18):
            size += len(data)
            time.sleep(0.02)
    assert size > LARGE


def test_a_request_that_has_begun_is_answered_at_the_end() -> None:
    with served(replace(LIMITS, head_s=30)) as server:
        begun, idle = server.send(b"GET /begun HTTP/1.1\r\nho"), server.send(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        read_until(idle, b"/ 0")
        server.server.should_exit = True
        assert read_all(idle) == b""
        begun.sendall(b"st: here\r\n\r\n")
        answer = read_all(begun)
        assert answer.endswith(b"/begun 0")
        assert b"connection: close" in answer
