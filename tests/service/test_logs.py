"""The log, as people and machines read it."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import logs
from service.settings import Settings
from tests.service.serving import npy, serving
from tests.service.test_security import digest, write

KEY = "secret of alice"
TINY = np.zeros((1, 4), np.float32)


@contextmanager
def logged(settings: Settings) -> Iterator[io.StringIO]:
    """Write the log of this process as the settings say."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logs.formatter(settings))
    handler.addFilter(lambda record: record.name != "httpx")  # the client's own lines
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    try:
        yield handler.stream
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_record_is_a_line_of_json() -> None:
    with logged(Settings(log_format="json")) as log:
        logging.getLogger("somewhere").info("one\ntwo %d", 3, extra={"fields": {"request_id": "abc"}})
    (line,) = lines(log)
    written = datetime.fromisoformat(line.pop("time"))
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert written.utcoffset() == timedelta(0)
    assert line == {"level": "INFO", "logger": "somewhere", "message": "one\ntwo 3", "request_id": "abc"}


def test_an_exception_is_one_member() -> None:
    with logged(Settings(log_format="json")) as log:
        try:
            raise ValueError("nothing\nfits")
        except ValueError:
            logging.getLogger("somewhere").exception("failed")
    (line,) = lines(log)
    assert line["message"] == "failed"
    assert line["exception"].startswith("Traceback")
    assert "nothing\nfits" in line["exception"]


def test_a_record_is_a_line_for_people() -> None:
    with logged(Settings()) as log:
        logging.getLogger("somewhere").warning("beware", extra={"fields": {"rows": 3}})
        logging.getLogger("somewhere").debug("unseen")
    (line,) = log.getvalue().splitlines()
    assert line.endswith("WARNING somewhere: beware rows=3")


def test_every_request_has_a_line_without_its_secrets(settings: Settings, tmp_path: Path) -> None:
    keys = write(tmp_path, f"alice:{digest(KEY)}")
    settings = settings.model_copy(update={"log_format": "json", "api_keys_file": keys})
    headers = {"authorization": f"Bearer {KEY}", "x-request-id": "mine", "content-type": "application/x-npy"}
    z = npy(TINY)
    with logged(settings) as log, serving(settings) as client:
        assert client.post("/decode?model=toy-binary", headers=headers, content=z).status_code == 200
        assert client.get("/a%0Ab", headers={"x-api-key": "another secret"}).status_code == 401
    decoded, refused = (line for line in lines(log) if line["logger"] == "latentd.access")
    assert {name: decoded[name] for name in ("method", "path", "status", "request_id", "key", "model")} == {
        "method": "POST",
        "path": "/decode",
        "status": 200,
        "request_id": "mine",
        "key": "alice",
        "model": "toy-binary@1",
    }
    assert 0 < decoded["duration_ms"] < 60_000
    assert (refused["path"], refused["status"]) == ("/a%0Ab", 401)
    assert "secret" not in log.getvalue()
    assert "model=" not in log.getvalue()


def test_the_line_tells_what_the_app_knows_of_a_request() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"rows": 3, "key": "bob", "request_id": "theirs"}
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def ask() -> None:
        wrapped = logs.wrap(app, Settings(access_log="on"))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(wrapped), base_url="http://test") as client:
            await client.get("/some where?secret")

    with logged(Settings(log_format="json")) as log:
        asyncio.run(ask())
    (line,) = lines(log)
    assert (line["path"], line["rows"], line["key"], line["request_id"]) == ("/some%20where", 3, "bob", "theirs")


def test_a_fault_of_ours_is_logged_with_its_request(settings: Settings) -> None:
    settings = settings.model_copy(update={"log_format": "json"})
    with logged(settings) as log, serving(settings) as client:
        client.app.state.service.engine.model = None
        assert client.post("/sample?n=1", headers={"x-request-id": "unlucky"}).status_code == 500
    (fault,) = (line for line in lines(log) if line["level"] == "ERROR")
    assert fault["request_id"] == "unlucky"
    assert "TypeError" in fault["exception"]
    (access,) = (line for line in lines(log) if line["logger"] == "latentd.access")
    assert (access["request_id"], access["status"]) == ("unlucky", 500)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"access_log": "on"}, True),
        ({"log_format": "json"}, True),
        ({"log_format": "json", "access_log": "off"}, False),
    ],
)
def test_requests_are_logged_where_that_is_asked_for(options: dict[str, Any], expected: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert (logs.wrap(app, Settings(**options)) is not app) is expected
