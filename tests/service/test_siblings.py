"""Processes that ask each other over their private sockets, here two apps on one event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.errors import UnavailableError
from service.merging import merge, merged
from service.settings import Settings
from service.siblings import Reply, Siblings, is_from_sibling, socket_path


def app_of(name: str) -> FastAPI:
    """An app that says who it is, and whether it took the question for a sibling's."""
    app = FastAPI()

    @app.api_route("/who/{path:path}", methods=["GET", "POST"])
    async def who(request: Request) -> dict[str, Any]:
        body = (await request.body()).decode()
        return {"name": name, "path": request.url.path, "body": body, "sibling": is_from_sibling(request.scope)}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(f'x_total{{name="{name}"}} 1\n' if name != "broken" else "", 200 if name != "broken" else 500)

    return app


def with_three(folder: Path, body: Callable[[Siblings], Awaitable[Any]], second: str = "second") -> Any:
    """Run a body as worker 0 of three, of which the third does not live."""

    async def main() -> Any:
        own, other = (Siblings(worker, 3, folder) for worker in (0, 1))
        async with own.answering(app_of("first")), other.answering(app_of(second)):
            return await body(own)

    return asyncio.run(main())


def test_a_sibling_is_asked(tmp_path: Path) -> None:
    async def body(own: Siblings) -> None:
        reply = await own.forward(1, "POST", "/who/is?it=1", b"\xc3\xa4")
        assert reply.status == 200
        assert reply.content_type == "application/json"
        assert reply.body == '{"name":"second","path":"/who/is","body":"ä","sibling":true}'.encode()
        assert (await own.forward(1, "GET", "/nowhere")).status == 404
        with pytest.raises(UnavailableError, match="worker 2 does not answer"):
            await own.forward(2, "GET", "/who/is")

    with_three(tmp_path, body)


def test_all_siblings_are_asked_at_once(tmp_path: Path) -> None:
    async def body(own: Siblings) -> None:
        answers = await own.broadcast("GET", "/who/x")
        assert answers.keys() == {1, 2}
        assert isinstance(answers[1], Reply)
        assert isinstance(answers[2], UnavailableError)

    with_three(tmp_path, body)


def test_a_socket_that_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    async def body(own: Siblings) -> None:
        reply = await own.forward(0, "GET", "/who/x")
        assert reply.status == 200

    for _ in range(2):
        with_three(tmp_path, body)
        assert socket_path(tmp_path, 0).name == "0.sock"


def test_nobody_outside_passes_for_a_sibling() -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app_of("only"))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get("/who/x", headers={"is-from-sibling": "true", "state": "is_from_sibling"})
            assert answer.json()["sibling"] is False

    asyncio.run(main())


def test_one_process_has_no_siblings() -> None:
    async def main() -> None:
        alone = Siblings()
        assert alone.others == ()
        assert await alone.broadcast("GET", "/") == {}
        with pytest.raises(UnavailableError, match="alone"):
            await alone.forward(0, "GET", "/")
        async with alone.answering(app_of("only")):
            assert await merged(alone, b"as it is", "/metrics") == b"as it is"

    asyncio.run(main())


def test_identifiers_name_their_process() -> None:
    siblings = Siblings(worker=2, workers=12)
    assert siblings.owner(siblings.stamp("abc-1")) == 2
    assert siblings.owner("w11-x") == 11
    for foreign in ("w12-x", "x", "w-x", "w1-", "w1x", "w00000-x", ""):
        assert siblings.owner(foreign) is None
    assert Siblings().owner(Siblings().stamp("x")) == 0


def test_the_metrics_of_processes_join_under_a_label() -> None:
    """Checked by reading the joined text with Prometheus' own parser."""
    texts = {}
    for worker in (0, 1):
        registry = CollectorRegistry()
        counter = Counter("asked", "Asked for.", ("path",), registry=registry)
        counter.labels('a "quoted" \\ path\n').inc(3 + worker)
        Gauge("depth", "How deep.", registry=registry).set(-1.5 * worker)
        Histogram("took", "Took so long.", registry=registry, buckets=(1.0, 2.0)).observe(1.5)
        texts[worker] = generate_latest(registry).decode()
    text = merge(texts).decode()
    assert text.count("# TYPE took histogram") == 1
    assert text.count("# HELP asked_total Asked for.") == 1
    samples = {
        (sample.name, sample.labels["worker"], sample.labels.get("le")): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["asked_total", "1", None].value == 4.0
    assert samples["asked_total", "0", None].labels["path"] == 'a "quoted" \\ path\n'
    assert samples["depth", "1", None].value == -1.5
    assert samples["took_bucket", "0", "2.0"].value == 1.0
    before = sum(len(family.samples) for each in texts.values() for family in text_string_to_metric_families(each))
    assert len(samples) == before, "nothing is lost"


@pytest.mark.parametrize(("second", "workers"), [("second", {"0", "1"}), ("broken", {"0"})])
def test_metrics_are_gathered_from_those_that_answer(tmp_path: Path, second: str, workers: set[str]) -> None:
    async def body(own: Siblings) -> bytes:
        return await merged(own, b"x_total 2\n", "/metrics")

    families = text_string_to_metric_families(with_three(tmp_path, body, second).decode())
    assert {sample.labels["worker"] for family in families for sample in family.samples} == workers


def test_a_sibling_needs_no_key(settings: Settings, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{'0' * 64}\n")
    siblings = Siblings(0, 2, tmp_path)
    app = create_app(settings.model_copy(update={"api_keys_file": keys}), siblings=siblings)

    async def main() -> None:
        async with siblings.answering(app):
            reply = await Siblings(1, 2, tmp_path).forward(0, "GET", "/models")
            assert reply.status == 503, "the models are not loaded"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/models")).status_code == 401

    asyncio.run(main())
