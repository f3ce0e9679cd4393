"""Requests under load, together, and where their tensors lie."""

import asyncio
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from service.bodies import NPY
from service.v2.messages import HEADER_LENGTH, read_inputs, split
from service.v2.names import find
from tests.service.serving import Client, npy
from tests.service.stores import until
from tests.service.v2.asking import COLOUR, DATA, JSON, PICTURE, message, picture, refused, send, tensor


def test_tensors_are_read_where_they_lie(client: Client) -> None:
    engine = client.app.state.service.engine
    pictures = np.arange(384, dtype=np.uint8).reshape(2, 8, 8, 3)
    head = json.dumps(message(tensor(pictures))).encode()
    body = head + pictures.tobytes()
    request, binary = split(body, str(len(head)), 1000)
    inputs = read_inputs(request, binary, find(engine, COLOUR))
    assert np.shares_memory(inputs["x"], np.frombuffer(body, np.uint8))
    assert np.array_equal(inputs["x"], pictures)
    z = np.arange(6, dtype=np.float32).reshape(2, 3)
    for shift in range(4):
        head = json.dumps(message(tensor(z, "z"))).encode() + b" " * shift
        request, binary = split(head + z.tobytes(), str(len(head)), 1000)
        found = read_inputs(request, binary, find(engine, "toy-colour.decode"))["z"]
        assert found.flags.aligned
        assert np.array_equal(found, z)


class Held:
    """Keeps a graph from running until its gate opens."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        session = client.app.state.service.engine.named("toy-colour")[0].sessions["encode"]
        self.gate, self.entered = threading.Event(), threading.Event()
        run = session.run

        def wait_and_run(*given: Any, **options: Any) -> Any:
            self.entered.set()
            self.gate.wait(60)
            return run(*given, **options)

        monkeypatch.setattr(session, "run", wait_and_run)


def post(client: Client, rows: int, **parameters: Any) -> "asyncio.Task[httpx.Response]":
    """Begin to send pictures; on the client's event loop."""
    pictures = picture(rows, 8, 8)
    head = json.dumps(message(tensor(pictures), parameters=parameters)).encode()
    headers = {HEADER_LENGTH: str(len(head))}
    path = f"/v2/models/{COLOUR}/infer"
    return asyncio.ensure_future(client.client.post(path, content=head + pictures.tobytes(), headers=headers))


def test_overload_lateness_and_loading_are_told_as_the_protocol_tells_errors(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, held = client.app.state.service.engine, Held(client, monkeypatch)

    async def main() -> tuple[httpx.Response, httpx.Response, list[httpx.Response]]:
        first = post(client, 1)
        await until(held.entered.is_set)
        waiting = post(client, 8)
        await until(lambda: engine.queue_rows == 8)
        full = await post(client, 1)
        held.gate.set()
        done = [await first, await waiting]
        held.gate.clear()
        late = await post(client, 1, timeout=100_000)
        held.gate.set()
        return full, late, done

    full, late, done = client.runner.run(main())
    refused(full, 429, "come again in")
    assert int(full.headers["retry-after"]) >= 1
    refused(late, 504, "within 0.1 s")
    assert [answer.status_code for answer in done] == [200, 200]
    monkeypatch.setattr(engine, "_phase", "loading")
    answer = send(client, COLOUR, message(tensor(PICTURE)), DATA)
    refused(answer, 503, "loading")
    assert answer.headers["retry-after"] == "2"
    refused(client.get("/v2/health/ready"), 503, "loading")
    assert client.get("/v2/health/live").status_code == 200


def test_requests_run_together_with_those_of_other_endpoints(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, held = client.app.state.service.engine, Held(client, monkeypatch)
    load = engine.loads["toy-colour@1", "encode"]
    runs = load.runs

    async def main() -> list[httpx.Response]:
        tasks = [post(client, 1)]
        await until(held.entered.is_set)
        encode = client.client.post("/encode?model=toy-colour", content=npy(PICTURE), headers={"content-type": NPY})
        tasks += [post(client, 1), post(client, 1, priority=2), asyncio.ensure_future(encode)]
        await until(lambda: engine.queue_rows == 3)
        held.gate.set()
        return [await task for task in tasks]

    assert [answer.status_code for answer in client.runner.run(main())] == [200] * 4
    assert load.runs - runs == 2


def test_openapi_tells_of_the_protocol(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    mine = {path: operations for path, operations in paths.items() if path.startswith("/v2")}
    assert len(mine) == 17
    infer = mine["/v2/models/{model}/versions/{version}/infer"]["post"]
    assert [one["name"] for one in infer["parameters"]] == ["model", "version", "Inference-Header-Content-Length"]
    assert {"400", "404", "413", "415", "422", "429", "503", "504"} <= set(infer["responses"])
    assert "$ref" not in json.dumps(mine)
    for operations in mine.values():
        for operation in operations.values():
            assert all(
                set(answer["content"]) <= {JSON, "application/octet-stream"}
                for answer in operation["responses"].values()
            )
