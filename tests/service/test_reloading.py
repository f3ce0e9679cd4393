"""Models are replaced while others answer, and those that are replaced are freed."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine.engine import Engine
from service.engine.loading import Loader
from service.errors import UnavailableError
from service.metrics import Metrics
from service.sampling import sample_codes
from service.settings import Settings
from service.siblings import Reply, Siblings
from tests.service.serving import PROBLEM, serving
from tests.service.stores import (
    NAME,
    OTHER,
    add,
    damage,
    filled,
    is_answering,
    move,
    reference,
    serve,
    served,
    until,
)
from tests.toys import tokens
from tests.toys.publish import publish


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return filled(tmp_path)


def blocking(monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> list[int]:
    """Let the opening of models wait for a gate; gives how many were opening, whenever one began."""
    opening: list[int] = []
    running = 0
    open_models = Loader.open

    def wait_and_open(*given: Any) -> Any:
        nonlocal running
        running += 1
        opening.append(running)
        gate.wait(20)
        try:
            return open_models(*given)
        finally:
            running -= 1

    monkeypatch.setattr(Loader, "open", wait_and_open)
    return opening


def test_others_are_answered_while_a_model_is_loading(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: Engine) -> None:
        gate = threading.Event()
        opening = blocking(monkeypatch, gate)
        add(store, NAME, 3)
        changes = [asyncio.ensure_future(engine.lifecycle.reload()) for _ in range(3)]
        changes[2].cancel()
        await until(lambda: bool(opening))
        changes[0].cancel()
        await is_answering(engine, NAME, 1)
        assert engine.state == "ready"
        assert opening == [1]
        gate.set()
        # Whoever asked first has left; what was begun for him is there all the same.
        assert (await changes[1]).loaded == ()
        await is_answering(engine, NAME, 3)
        assert max(opening) == 1

    serve(store, body)


def test_requests_under_way_end_on_the_model_that_they_found(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: Engine) -> None:
        old = engine.named(NAME)[0]
        gate = threading.Event()
        run = old.sessions["encode"].run

        def wait_and_run(*given: Any, **options: Any) -> Any:
            gate.wait(20)
            return run(*given, **options)

        monkeypatch.setattr(old.sessions["encode"], "run", wait_and_run)
        images = reference(1).images(9)
        waiting = [asyncio.ensure_future(engine.run(old, "encode", {"x": images[i : i + 1]})) for i in range(9)]
        await asyncio.sleep(0.05)
        add(store, NAME, 3)
        await engine.lifecycle.reload()
        late = asyncio.ensure_future(engine.run(old, "encode", {"x": images}))
        await asyncio.sleep(0)
        gate.set()
        expected = reference(1).encode(images)[0]
        assert np.allclose(np.concatenate([(await one)["mean"] for one in waiting]), expected, atol=1e-4)
        assert np.allclose((await late)["mean"], expected, atol=1e-4)
        await is_answering(engine, NAME, 3)

    serve(store, body)


def test_a_model_that_is_replaced_is_freed_with_its_last_user(store: Path) -> None:
    async def body(engine: Engine) -> None:
        metrics = Metrics(engine)
        model = engine.named(NAME)[0]
        rows = {"x": reference(1).images(3)}
        await engine.run(model, "encode", rows)
        metrics.render()
        traces = [weakref.ref(model), weakref.ref(model.sessions["encode"]), weakref.ref(model.sessions["decode"])]
        add(store, NAME, 3)
        await engine.lifecycle.reload()
        await engine.run(model, "encode", rows)
        await engine.run(model, "decode", {"z": np.zeros((2, 2), np.float32)})
        await is_answering(engine, NAME, 3)
        gc.collect()
        assert all(trace() is not None for trace in traces)
        del model
        gc.collect()
        assert [trace() for trace in traces] == [None] * 3

        other = weakref.ref(engine.named(OTHER)[0])
        await is_answering(engine, OTHER, 2)
        await engine.lifecycle.unload(OTHER)
        gc.collect()
        assert other() is None

    serve(store, body)


def test_a_model_that_has_drawn_codes_is_freed_too(store: Path) -> None:
    patches = tokens.make(5, num_embeddings=6, embedding_dim=3, channels=1, downsampling=2, side=8)
    publish(store, "toy-prior", tokens.toy(tokens.with_prior(patches, 6, ())))

    async def body(engine: Engine) -> None:
        model = engine.named("toy-prior")[0]
        traces = [weakref.ref(model), weakref.ref(model.sessions["prior_pixel"])]
        options: dict[str, Any] = {"n": 3, "seed": 1, "first_index": 0, "temperature": 1.0}
        drawing = asyncio.ensure_future(sample_codes(engine, model, **options))
        await asyncio.sleep(0)
        await engine.lifecycle.unload("toy-prior")
        assert (await drawing)["codes"].shape == (3, 4, 4)
        del model, drawing
        await until(lambda: gc.collect() >= 0 and [trace() for trace in traces] == [None, None])

    serve(store, body)


def test_a_watcher_reloads_once_the_store_is_at_rest(store: Path) -> None:
    async def body(engine: Engine) -> None:
        add(store, NAME, 3)
        await until(lambda: served(engine)[0] == f"{NAME}@2")
        await is_answering(engine, NAME, 3)
        damage(store, NAME, 2)
        await until(lambda: bool(engine.catalog.problems))
        await is_answering(engine, NAME, 3)

    serve(store, body, watch_s=0.02)


def test_callers_reload_where_they_may(store: Path) -> None:
    options: dict[str, Any] = {"store": store, "device": "cpu", "threads": 1, "buckets": (1,)}
    with serving(Settings(**options)) as client:
        answer = client.post("/models/reload")
        assert (answer.status_code, answer.headers["content-type"]) == (403, PROBLEM)
        assert "LATENTD_CONTROL=on" in answer.json()["detail"]

    with serving(Settings(**options, control=True)) as client:
        add(store, NAME, 3)
        add(store, OTHER, 4)
        damage(store, OTHER, 2)
        assert client.get(f"/models/{OTHER}").json()["problems"] == {}
        answer = client.post("/models/reload").json()
        assert answer["loaded"] == [f"{NAME}@2"]
        assert answer["unloaded"] == [f"{NAME}@1"]
        assert answer["models"] == [f"{NAME}@2", f"{OTHER}@1"]
        assert "sha256" in answer["failed"][f"{OTHER}@2"]
        assert client.get("/models").json()["problems"] == answer["failed"]
        assert client.get(f"/models/{OTHER}").json()["problems"] == answer["failed"]
        assert client.get(f"/models/{NAME}").json()["version"] == 2
        assert client.get("/readyz").status_code == 200
        assert client.post("/models/reload?name=toy").status_code == 422
        client.app.state.service.reload()
        move(store, store.with_name("gone"))
        answer = client.post("/models/reload")
        assert (answer.status_code, answer.headers["content-type"]) == (409, PROBLEM)


class Others(Siblings):
    """Sibling processes that answer as they are told."""

    def __init__(self, reply: Reply | UnavailableError) -> None:
        super().__init__()
        object.__setattr__(self, "reply", reply)
        object.__setattr__(self, "asked", [])

    async def broadcast(self, method: str, path: str, body: bytes = b"", *, timeout_s: float = 1.0) -> Any:
        self.asked.append((method, path))
        return {1: self.reply}


def test_what_is_changed_here_is_changed_in_the_other_processes_too(store: Path) -> None:
    settings = Settings(store=store, device="cpu", threads=1, buckets=(1,), control=True)
    with serving(settings) as client:
        others = client.app.state.siblings = Others(Reply(200, "application/json", b"{}"))
        assert client.post("/models/reload").status_code == 200
        assert client.post(f"/v2/repository/models/{NAME}.encode/unload").status_code == 200
        assert client.post(f"/v2/repository/models/{NAME}@1/load").status_code == 200
        assert client.post("/v2/repository/models/nothing/load").status_code == 404
        assert others.asked == [
            ("POST", "/models/reload"),
            ("POST", f"/v2/repository/models/{NAME}/unload"),
            ("POST", f"/v2/repository/models/{NAME}%401/load"),
        ]
        for reply in (Reply(409, "application/json", b"no memory"), UnavailableError("no memory")):
            client.app.state.siblings = Others(reply)
            answer = client.post("/models/reload")
            assert answer.status_code == 409
            assert "not by every process; ask again, or restart them: worker 1: no memory" in answer.json()["detail"]
