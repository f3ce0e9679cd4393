"""The short way of requests like ones before: on raw connections, held against what the long way answers."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.endpoint import Endpoint
from service.express import Express
from service.protocol import Connection
from service.settings import Settings
from tests.service.gate import until
from tests.service.listening import Listening, talk
from tests.service.serving import npy, png
from tests.toys.publish import TOYS

NPY = "application/x-npy"
CHANGING = (b"x-request-id", b"server-timing", b"date")


class Line:
    """One connection, from which answers are read as they travel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        async with asyncio.timeout(20):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
            headers = dict(line.split(b": ", 1) for line in lines[1:])
            return int(lines[0].split()[1]), headers, await self.reader.readexactly(int(headers[b"content-length"]))

    async def ask(self, *parts: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        self.send(*parts)
        return await self.answer()


@asynccontextmanager
async def line(there: Listening) -> AsyncIterator[Line]:
    port = there.client.base_url.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def head(body: bytes, model: str, kind: str = NPY, *more: str) -> bytes:
    lines = (f"POST /encode?model={model} HTTP/1.1", "Host: test", f"Accept: {NPY}", f"Content-Type: {kind}")
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", *more, "", "")).encode()


def pictures(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, 256, (rows, 8, 8, 3), np.uint8)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has gone the long way: heads that were parsed and handed to the app."""
    seen: list[str] = []
    express, endpoint = Express.handle, Endpoint.handle

    async def noted(self: Express, scope: Any, receive: Any) -> Any:
        seen.append("outcome" if "outcome" in scope else "express")
        return await express(self, scope, receive)

    async def noted_too(self: Any, request: Any) -> Any:
        seen.append("endpoint")
        return await endpoint(self, request)

    monkeypatch.setattr(Express, "handle", noted)
    monkeypatch.setattr(Endpoint, "handle", noted_too)
    return seen


Body = Callable[[Listening], Coroutine[Any, Any, None]]


@pytest.fixture
def run(store_root: Path) -> Callable[..., None]:
    def with_settings(body: Body, **options: Any) -> None:
        basic: dict[str, Any] = {"models": TOYS, "device": "cpu", "threads": 1, "buckets": (4,)}
        talk(Settings(store=store_root, **basic | options), body)

    return with_settings


class Door:
    """The encoder of a model, whose runs wait until the door is open."""

    def __init__(self, there: Listening, model: str) -> None:
        self.is_open = threading.Event()
        self.runs = 0
        self._session = there.engine.model(model, "encode").sessions["encode"]
        self._run = self._session.run

    def __enter__(self) -> "Door":
        self._session.run = self._wait  # type: ignore[method-assign]  # put back at the end
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open.set()
        self._session.run = self._run  # type: ignore[method-assign]  # as it was

    def _wait(self, *values: Any, **options: Any) -> Any:
        self.runs += 1
        assert self.is_open.wait(20)
        return self._run(*values, **options)


@pytest.mark.parametrize("kind", [NPY, "image/png"])
def test_it_answers_byte_for_byte_what_the_long_way_answers(
    run: Callable[..., None], long: list[str], kind: str
) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures()) if kind == NPY else png(pictures(1)[0])
        async with line(there) as first, line(there) as second:
            answers = [await first.ask(head(body, "toy-tokens", kind), body) for _ in range(3)]
            answers += [await second.ask(head(body, "toy-tokens", kind), body)]
            assert long == ["express"]
            answers += [await second.ask(head(body, "toy-tokens", kind + ";v=1"), body)]
            assert long == ["express", "express", "endpoint"]
        for status, headers, content in answers:
            assert (status, content) == (200, answers[-1][2])
            assert list(headers) == list(answers[-1][1])
            for name in headers.keys() - CHANGING:
                assert headers[name] == answers[-1][1][name]
            assert b"compute;dur=" in headers[b"server-timing"]
        assert len({headers[b"x-request-id"] for _, headers, _ in answers}) == len(answers)
        metrics = (await there.client.get("/metrics")).text
        assert 'latentd_requests_total{endpoint="/encode",status="200"} 5.0' in metrics
        assert f'latentd_rows_total{{endpoint="/encode"}} {5.0 * (3 if kind == NPY else 1)}' in metrics

    run(main)


def test_requests_in_pieces_and_several_at_once(run: Callable[..., None], long: list[str]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures(200))
        message = head(body, "toy-tokens") + body
        async with line(there) as one:
            _, _, content = await one.ask(message)
            for cut in (20, len(message) - len(body), len(message) - 1000, len(message) - 1):
                one.send(message[:cut])
                await asyncio.sleep(0.02)
                assert (await one.ask(message[cut:]))[2] == content
            assert long == ["express", "express"]  # a head that came in two pieces is parsed
            for start in range(0, len(message), 10_000):
                one.send(message[start : start + 10_000])
                await asyncio.sleep(0)
            assert (await one.answer())[2] == content
            one.send(message, message, b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n", message)
            assert [(await one.answer())[2] for _ in range(2)] == [content] * 2
            assert (await one.answer())[0] == 200
            assert (await one.answer())[2] == content

    run(main)


@pytest.mark.parametrize("more", ["X-Request-Id: mine", "Prefer: respond-async", "Connection: close"])
def test_a_head_that_asks_for_more_is_parsed_each_time(run: Callable[..., None], long: list[str], more: str) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        for _ in range(2):
            async with line(there) as one:
                status, headers, _ = await one.ask(head(body, "toy-tokens", NPY, more), body)
                assert status == (202 if "Prefer" in more else 200)
                assert "X-Request" not in more or headers[b"x-request-id"] == b"mine"
        assert len([way for way in long if way == "express"]) == 2

    run(main)


def test_a_known_head_does_not_excuse_its_body(run: Callable[..., None]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        damaged = b"\0" * len(body)
        async with line(there) as one:
            for sent, status in ((body, 200), (damaged, 400), (body, 200), (damaged, 400)):
                assert (await one.ask(head(body, "toy-tokens"), sent))[0] == status

    run(main)


def test_what_is_late_is_told_so_and_the_connection_goes_on(run: Callable[..., None], long: list[str]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        async with line(there) as one:
            assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
            with Door(there, "toy-tokens"):
                status, _, content = await one.ask(head(body, "toy-tokens"), body)
            assert (status, json.loads(content)["title"]) == (504, "The deadline has passed")
            assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
        assert long == ["express", "outcome"]
        assert 'status="504"} 1.0' in (await there.client.get("/metrics")).text

    run(main, deadline_s=0.5)


def test_a_full_queue_refuses_and_says_when_to_come_again(run: Callable[..., None]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures(4))
        async with line(there) as one, line(there) as two, line(there) as three:
            assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
            with Door(there, "toy-tokens") as door:
                one.send(head(body, "toy-tokens"), body)
                await until(lambda: door.runs == 1)
                two.send(head(body, "toy-tokens"), body)
                await until(lambda: there.engine.queue_rows == 4)
                status, headers, _ = await three.ask(head(body, "toy-tokens"), body)
                assert (status, b"retry-after" in headers) == (429, True)
            assert [(await each.answer())[0] for each in (one, two)] == [200, 200]

    run(main, max_queue_rows=5, max_rows=4)


def test_nobody_computes_for_a_caller_who_has_left(run: Callable[..., None]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures(4))
        async with line(there) as one, line(there) as two:
            for each in (one, two):
                assert (await each.ask(head(body, "toy-tokens"), body))[0] == 200
            with Door(there, "toy-tokens") as door:
                one.send(head(body, "toy-tokens"), body)
                await until(lambda: door.runs == 1)
                two.send(head(body, "toy-tokens"), body)
                await until(lambda: there.engine.queue_rows == 4)
                two.writer.transport.abort()
                service = there.app.state.service
                await until(lambda: b'status="499"} 1.0' in service.metrics.render())
            assert (await one.answer())[0] == 200
            await until(lambda: there.engine.queue_rows == 0)
            assert door.runs == 1

    run(main)


def test_a_graph_that_fails_is_a_fault_of_the_service(run: Callable[..., None], monkeypatch: Any) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        async with line(there) as one:
            assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
            session = there.engine.model("toy-tokens", "encode").sessions["encode"]

            def fail(*_: object, **__: object) -> None:
                raise RuntimeError("no")

            monkeypatch.setattr(session, "run", fail)
            status, headers, content = await one.ask(head(body, "toy-tokens"), body)
            assert status == 500
            assert headers[b"x-request-id"].decode() in json.loads(content)["instance"]

    run(main)


def test_a_server_that_ends_answers_what_it_has_accepted(run: Callable[..., None]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        async with line(there) as one:
            assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
            with Door(there, "toy-tokens") as door:
                one.send(head(body, "toy-tokens"), body)
                await until(lambda: door.runs == 1)
                there.server.should_exit = True
                await until(lambda: there.server.server_state.draining)
                await asyncio.sleep(0.05)
            status, headers, _ = await one.answer()
            assert (status, headers[b"connection"]) == (200, b"close")
            assert await one.reader.read() == b""

    run(main)


def test_an_answer_waits_for_a_line_that_is_not_read(run: Callable[..., None], long: list[str]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        async with line(there) as one:
            _, _, content = await one.ask(head(body, "toy-tokens"), body)
            flows = [each.flow for each in there.server.server_state.connections if isinstance(each, Connection)]
            for flow in flows:
                flow.pause_writing()
            one.send(head(body, "toy-tokens"), body)
            await until(lambda: long == ["express", "outcome"])
            for flow in flows:
                flow.resume_writing()
            assert (await one.answer())[2] == content

    run(main)


def test_a_body_that_does_not_come_ends_the_connection(run: Callable[..., None]) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        state = there.server.server_state
        async with line(there) as one:
            assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
            one.send(head(body, "toy-tokens"), body[:50])
            await asyncio.sleep(0.05)
            state.sweep(0.0)
            state.sweep(state.limits.body_s + 1.0)
            assert (await one.answer())[0] == 408
        assert state.refused["slow_body"] == 1

    run(main)


@pytest.mark.parametrize("setting", [{"client_rate_per_s": 1000.0}, {"access_log": "on"}])
def test_with_layers_around_it_the_app_has_no_short_way(
    run: Callable[..., None], long: list[str], setting: dict[str, Any]
) -> None:
    async def main(there: Listening) -> None:
        body = npy(pictures())
        async with line(there) as one:
            for _ in range(2):
                assert (await one.ask(head(body, "toy-tokens"), body))[0] == 200
        assert long == ["express", "express"]

    run(main, **setting)
