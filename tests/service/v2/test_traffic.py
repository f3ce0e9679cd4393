"""Requests under load, together, and where their tensors lie."""

import asyncio
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest

from service.v2.messages import HEADER_LENGTH, read_inputs, split
from service.v2.names import find
from tests.service.serving import Client
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


def held(client: Client, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Keep a graph from running until an event."""
    session = client.app.state.service.engine.named("toy-colour")[0].sessions["encode"]
    gate, run = threading.Event(), session.run

    def wait_and_run(*given: Any, **options: Any) -> Any:
        gate.wait(20)
        return run(*given, **options)

    monkeypatch.setattr(session, "run", wait_and_run)
    return gate


def test_overload_lateness_and_loading_are_told_as_the_protocol_tells_errors(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = held(client, monkeypatch)
    pictures = picture(5, 8, 8)
    path = f"/v2/models/{COLOUR}/infer"

    def content(**parameters: Any) -> tuple[bytes, dict[str, str]]:
        head = json.dumps(message(tensor(pictures), parameters=parameters)).encode()
        return head + pictures.tobytes(), {HEADER_LENGTH: str(len(head))}

    async def main() -> tuple[httpx.Response, httpx.Response, list[httpx.Response]]:
        def post(**parameters: Any) -> "asyncio.Task[httpx.Response]":
            body, headers = content(**parameters)
            return asyncio.ensure_future(client.client.post(path, content=body, headers=headers))

        first, second = post(), post()
        await asyncio.sleep(0.1)
        full = await post()
        gate.set()
        done = [await first, await second]
        gate.clear()
        late = await post(timeout=100_000)
        gate.set()
        return full, late, done

    full, late, done = client.runner.run(main())
    refused(full, 429, "come again in")
    assert int(full.headers["retry-after"]) >= 1
    refused(late, 504, "within 0.1 s")
    assert [answer.status_code for answer in done] == [200, 200]
    monkeypatch.setattr(client.app.state.service.engine, "_phase", "loading")
    answer = send(client, COLOUR, message(tensor(PICTURE)), DATA)
    refused(answer, 503, "loading")
    assert answer.headers["retry-after"] == "2"
    refused(client.get("/v2/health/ready"), 503, "loading")
    assert client.get("/v2/health/live").status_code == 200


def test_requests_run_together_with_those_of_other_endpoints(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = client.app.state.service.engine
    load = engine.loads["toy-colour@1", "encode"]
    gate, runs = held(client, monkeypatch), load.runs
    head = json.dumps(message(tensor(PICTURE))).encode()

    async def main() -> list[httpx.Response]:
        mine = [
            client.client.post(
                f"/v2/models/{COLOUR}/infer", content=head + DATA, headers={HEADER_LENGTH: str(len(head))}
            )
            for _ in range(3)
        ]
        items = json.dumps({"items": [{"z": [0.0, 0.0, 0.0]}]})
        assert (
            await client.client.post("/decode?model=toy-colour", content=items, headers={"content-type": JSON})
        ).status_code == 200
        tasks = [asyncio.ensure_future(one) for one in mine]
        await asyncio.sleep(0.1)
        with_numpy = asyncio.ensure_future(engine.run(engine.named("toy-colour")[0], "encode", {"x": PICTURE}))
        await asyncio.sleep(0.05)
        gate.set()
        await with_numpy
        return [await task for task in tasks]

    assert [answer.status_code for answer in client.runner.run(main())] == [200] * 3
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
