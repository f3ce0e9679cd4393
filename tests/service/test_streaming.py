"""Partial results over a real connection, read as any reader of server-sent events reads them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from service import streaming
from service.settings import Settings
from tests.service.gate import until
from tests.service.listening import Listening, talk
from tests.service.serving import PROBLEM, picture

NAME = "toy-tokens-prior"
GREY = 128
EVENTS = {"accept": "text/event-stream"}
STEPS = 4 * (1 + 4)
"""Runs of a draw: 4 rows of 4 places."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings for two runners, so that a step that is held up does not hold everything up."""
    return settings.model_copy(update={"runners": 2})


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """Read the events of a stream; a comment has no name."""
    name, data = "", []
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if not line:
            if name:
                yield name, json.loads("\n".join(data))
            name, data = "", []
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        else:
            assert line.startswith(":"), line
            yield "", value


async def stream(there: Listening, **options: Any) -> list[tuple[str, Any]]:
    async with there.client.stream("POST", "/sample", params={"model": NAME} | options, headers=EVENTS) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        return [event async for event in events(response)]


def test_the_picture_fills_in_row_by_row(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_PAUSE_S", 0.0)

    async def body(there: Listening) -> None:
        query = {"model": NAME, "seed": 7, "labels": "bar"}
        plain = await there.client.post("/sample", params=query)
        (item,) = plain.json()["items"]
        whole, codes = picture(base64.b64decode(item["image"])), np.array(item["codes"])
        found = []
        with there.hold(NAME) as held:
            async with there.client.stream("POST", "/sample", params=query, headers=EVENTS) as response:
                coming = events(response)
                assert await anext(coming) == ("", "no news")
                for row in (1, 2, 3):
                    held.let(STEPS // 4)
                    name, event = await anext(coming)
                    assert (name, event["done"], event["of"]) == ("progress", 4 * row, 16)
                    found.append(picture(base64.b64decode(event["image"])))
                held.let(STEPS // 4)
                last = [event async for event in coming]
        # The answer is the plain one's, to the byte of the picture.
        assert last[-1] == ("result", plain.json())
        assert codes.shape == (4, 4)
        for row, image in enumerate(found, start=1):
            assert np.array_equal(image[: 2 * row], whole[: 2 * row])
            assert (image[2 * row :] == GREY).all()

    talk(settings, body)


def test_the_result_is_the_plain_answer_byte_by_byte(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        for name, output in ((NAME, "codes"), (NAME, "images,codes"), ("toy-binary", "images")):
            query = {"model": name, "seed": 3, "n": 3, "output": output}
            plain = await there.client.post("/sample", params=query, headers={"accept": "application/json"})
            streamed = await there.client.post("/sample", params=query, headers=EVENTS)
            assert streamed.text.endswith(f"event: result\ndata: {plain.text}\n\n")

    talk(settings, body)


def test_many_pictures_are_shown_as_a_sheet_of_the_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_PAUSE_S", 0.0)

    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            held.let(3 * STEPS // 4)
            drawing = asyncio.ensure_future(stream(there, n=40))
            await until(lambda: len(held.runs) > 3 * STEPS // 4)
            await asyncio.sleep(0.05)
            held.let(10 * STEPS)
            found = await drawing
        shown = [event for name, event in found if name == "progress"]
        assert shown
        assert shown[0]["of"] == 40 * 16
        query = {"model": NAME, "n": 16}
        sheet = await there.client.post("/sample", params=query, headers={"accept": "image/png"})
        assert picture(base64.b64decode(shown[0]["image"])).shape == picture(sheet.content).shape
        assert len(found[-1][1]["items"]) == 40

    talk(settings, body)


def test_pictures_are_not_sent_more_often_than_anybody_sees(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_PAUSE_S", 60.0)

    async def body(there: Listening) -> None:
        found = await stream(there, n=200)
        assert [name for name, _ in found].count("progress") <= 1
        assert found[-1][0] == "result", "the end does not wait"

    talk(settings, body)


def test_a_comment_tells_that_the_connection_lives(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_HEARTBEAT_S", 0.01)

    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            async with there.client.stream("POST", "/sample", params={"model": NAME}, headers=EVENTS) as response:
                coming = events(response)
                assert [await anext(coming) for _ in range(4)] == [("", "no news")] * 4
                held.let(STEPS)
                assert [name async for name, _ in coming][-1] == "result"

    talk(settings, body)


def test_whoever_leaves_gives_their_slots_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_PAUSE_S", 0.0)

    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            query = {"model": NAME, "n": 40}
            async with there.client.stream("POST", "/sample", params=query, headers=EVENTS) as response:
                held.let(STEPS // 4)
                coming = events(response)
                while (await anext(coming))[0] != "progress":
                    pass
                assert there.engine.queue_rows == 40 - 16
            # The client has closed the connection in the middle of the draw.
            model = there.engine.model(NAME, "sample")
            drawing = there.engine._samplers[model][0]._slots.drawing
            await until(lambda: not any(draw.is_wanted for draw in drawing))
            held.let(1)
            await until(lambda: there.engine.queue_rows == 0)
            assert there.engine._samplers[model][0]._slots.active == 0
            assert len(held.runs) <= STEPS // 4 + 1

    talk(settings, body)


def test_what_goes_wrong_at_once_is_a_plain_problem(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        for query, status in (
            ({"n": 100_000}, 413),
            ({"model": NAME, "labels": "nobody"}, 422),
            ({"model": NAME, "temperature": 11}, 422),
            ({"model": "toy-tokens"}, 409),
            ({"model": "nobody"}, 404),
        ):
            answer = await there.client.post("/sample", params=query, headers=EVENTS)
            assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
        answer = await there.client.post("/encode", headers=EVENTS)
        assert answer.status_code == 406
        assert (await there.client.post("/sample", headers={"accept": "*/*"})).headers["content-type"].endswith("json")

    talk(settings, body)


def test_what_goes_wrong_later_is_an_event_with_the_problem(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_REFUSAL_S", 0.001)

    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            failing = asyncio.ensure_future(stream(there))
            await until(lambda: len(held.runs) == 1)
            await asyncio.sleep(0.02)
            held.error = ValueError("secret")
            held.let(1)
            name, problem = (await failing)[-1]
            assert (name, problem["status"]) == ("error", 500)
            assert "secret" not in problem["detail"]
            assert problem["instance"].startswith("urn:latentd:request:")

    talk(settings, body)


def test_the_deadline_is_told_as_an_event(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        with there.hold(NAME):
            name, problem = (await stream(there))[-1]
            assert (name, problem["status"], problem["title"]) == ("error", 504, "The deadline has passed")

    talk(settings.model_copy(update={"deadline_s": 0.2}), body)


def test_the_end_of_the_service_is_told_as_an_event(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            drawing = asyncio.ensure_future(stream(there))
            await until(lambda: len(held.runs) == 1)
            await asyncio.sleep(0.1)
            stopping = asyncio.ensure_future(there.engine.stop())
            name, problem = (await drawing)[-1]
            assert (name, problem["status"]) == ("error", 503)
            held.let(1)
            await stopping

    talk(settings, body)


def test_the_stream_is_documented(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        paths = (await there.client.get("/openapi.json")).json()["paths"]
        assert "text/event-stream" in paths["/sample"]["post"]["responses"]["200"]["content"]
        assert "text/event-stream" not in paths["/encode"]["post"]["responses"]["200"]["content"]

    talk(settings, body)
