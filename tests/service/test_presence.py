"""Callers who leave, and a service that ends, in the midst of a request."""

import asyncio
from typing import Any

import pytest
import uvicorn

from service import cli, continuous, draining
from service.app import create_app
from service.settings import Settings

PATH = {"type": "http", "method": "POST", "path": "/sample", "query_string": b"model=toy-binary", "headers": []}


class Caller:
    """One who sends an empty body and leaves when told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()
        self.messages: list[Any] = []
        self._has_sent = False

    async def receive(self) -> dict[str, Any]:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)


async def in_the_midst(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[Caller, Any, list[str]]:
    """Begin a request whose computation never ends; give the caller, its task and what became of the computation."""
    ends: list[str] = []
    begun = asyncio.Event()

    async def endless(*_: object, **__: object) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    monkeypatch.setattr(continuous, "sample", endless)
    app = create_app(settings)
    await app.state.service.engine.start()
    caller = Caller()
    answering = asyncio.ensure_future(app({**PATH, "app": app}, caller.receive, caller.send))
    await asyncio.wait_for(begun.wait(), 10)
    return caller, answering, ends


def test_work_ends_when_its_caller_leaves(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        caller, answering, ends = await in_the_midst(settings, monkeypatch)
        assert not ends
        caller.leaves.set()
        await asyncio.wait_for(answering, 10)
        assert ends == ["cancelled"]
        assert caller.messages[0]["status"] == 499

    asyncio.run(main())


def test_a_request_that_the_server_cuts_off_is_told_so(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        caller, answering, ends = await in_the_midst(settings, monkeypatch)
        answering.cancel()
        await asyncio.wait_for(answering, 10)
        assert ends == ["cancelled"]
        start, body = caller.messages[:2]
        assert start["status"] == 503
        assert (b"retry-after", b"2") in start["headers"]
        assert b"shutting down" in body["body"]

    asyncio.run(main())


def test_the_grace_at_the_end_outlasts_the_deadline(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    graces = []
    monkeypatch.setattr(draining.Server, "handle_signals", lambda _: None)
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda server, **_: graces.append(server.config.timeout_graceful_shutdown)
    )
    for deadline_s in (60.0, 2.5):
        cli.main(["--store", str(settings.store), "--port", "0", "--deadline-s", str(deadline_s)])
    assert graces == [61, 4]
