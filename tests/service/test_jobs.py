"""Requests that are answered later, over a real connection: what is told of them, and that it is the plain answer."""

import asyncio
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from service import jobs
from service.engine.lanes import Lane, current_caller
from service.engine.runtime import Session
from service.errors import OverloadedError
from service.jobs import prefers_job
from service.routes import discrete
from service.settings import Settings
from service.siblings import Siblings
from tests.service.gate import until
from tests.service.listening import Listening, listening, talk
from tests.service.serving import PROBLEM, loaded, npy

NAME = "toy-tokens-prior"
STEPS = 4 * (1 + 4)
LATER = {"prefer": "respond-async"}
CHANGING = ("date", "server-timing", "x-request-id")
"""Headers that differ from one answer to the same request to the next."""


async def ask(there: Listening, path: str = "/sample", **options: Any) -> httpx.Response:
    """Ask for an answer later."""
    headers = LATER | options.pop("headers", {})
    answer = await there.client.post(path, headers=headers, **options)
    assert answer.status_code == 202, answer.text
    return answer


async def over(there: Listening, accepted: httpx.Response) -> dict[str, Any]:
    """Ask after a job until it is over, as it says."""
    while True:
        answer = await there.client.get(accepted.headers["location"])
        assert answer.status_code == 200
        job: dict[str, Any] = answer.json()
        if "retry-after" not in answer.headers:
            return job
        assert job["state"] in ("queued", "running")
        await asyncio.sleep(0.005)


async def result(there: Listening, accepted: httpx.Response) -> httpx.Response:
    return await there.client.get(f"{accepted.headers['location']}/result")


def lasting(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in CHANGING}


@pytest.mark.parametrize(
    ("header", "is_preferred"),
    [
        ("respond-async", True),
        ("Respond-Async, wait=10", True),
        ('return=minimal; foo="a", respond-async', True),
        ("respond-async; foo", True),
        ("", False),
        ("return=minimal", False),
        ("not-respond-async", False),
        ("respond-async-never", False),
    ],
)
def test_the_preference_is_read(header: str, is_preferred: bool) -> None:
    assert prefers_job(header) is is_preferred


def test_the_result_is_the_plain_answer(settings: Settings, toy_references: Any) -> None:
    images = toy_references["toy-binary"].images(3)
    requests = [
        ("/sample", {"params": {"model": NAME, "n": 20, "seed": 3}}),
        ("/sample", {"params": {"model": NAME, "n": 2, "seed": 3}, "headers": {"accept": "image/png"}}),
        (
            "/likelihood",
            {
                "params": {"model": "toy-binary", "samples": 100, "seed": 5},
                "content": npy(images),
                "headers": {"content-type": "application/x-npy", "accept": "application/x-npz"},
            },
        ),
    ]

    async def body(there: Listening) -> None:
        for path, options in requests:
            plain = await there.client.post(path, **options)
            accepted = await ask(there, path, **options)
            job = await over(there, accepted)
            assert job["state"] == "done"
            for answer in (await result(there, accepted), await result(there, accepted)):
                assert answer.status_code == plain.status_code == 200
                assert answer.content == plain.content
                assert lasting(answer) == lasting(plain)
                assert "server-timing" in answer.headers

    talk(settings, body)


def test_what_is_told_of_a_job(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            accepted = await ask(there, json={"model": NAME, "n": 2})
            assert accepted.headers["preference-applied"] == "respond-async"
            assert int(accepted.headers["retry-after"]) >= 1
            told = accepted.json()
            assert accepted.headers["location"] == f"/jobs/{told['id']}"
            assert abs(datetime.fromisoformat(told["created"]).timestamp() - time.time()) < 60
            assert {name: told[name] for name in ("endpoint", "model", "progress", "state")} == {
                "endpoint": "/sample",
                "model": f"{NAME}@1",
                "progress": None,
                "state": "queued",
            }
            held.let(STEPS // 2)
            await until(lambda: len(held.runs) > STEPS // 2)
            job = (await there.client.get(accepted.headers["location"])).json()
            assert (job["state"], job["progress"]) == ("running", 0.5)
            pending = await result(there, accepted)
            assert (pending.status_code, pending.headers["content-type"]) == (409, PROBLEM)
            assert int(pending.headers["retry-after"]) >= 1
            assert "no result yet" in pending.json()["detail"]
            held.let(STEPS)
            job = await over(there, accepted)
        assert (job["state"], job["progress"], job["id"]) == ("done", 1.0, told["id"])

    talk(settings, body)


def test_a_bound_tells_its_slices(settings: Settings, toy_references: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []

    async def body(there: Listening) -> None:
        run, kept = Session.run, there.app.state.service.jobs

        def watched(session: Session, feeds: Any, **options: Any) -> Any:
            if "noise" in feeds:
                seen.extend(job.progress.fraction for job in kept.unfinished)
            return run(session, feeds, **options)

        monkeypatch.setattr(Session, "run", watched)
        accepted = await ask(
            there,
            "/likelihood",
            params={"model": "toy-binary", "samples": 128},
            content=npy(toy_references["toy-binary"].images(1)),
            headers={"content-type": "application/x-npy"},
        )
        await over(there, accepted)

    talk(settings, body)
    assert seen == [None, 0.25, 0.5, 0.75]


def test_a_job_is_bulk_with_a_deadline_of_its_own(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    callers, sample_codes = [], discrete.sample_codes

    async def watched(*given: Any, **options: Any) -> Any:
        callers.append(current_caller())
        return await sample_codes(*given, **options)

    monkeypatch.setattr(discrete, "sample_codes", watched)

    async def body(there: Listening) -> None:
        await over(there, await ask(there, params={"model": NAME}))
        await there.client.post("/sample", params={"model": NAME})

    talk(settings, body)
    assert [caller.lane for caller in callers] == [Lane.BULK, Lane.INTERACTIVE]
    later, now = (caller.expires_s for caller in callers)
    assert later is not None
    assert now is not None
    assert later - now > settings.job_deadline_s - settings.deadline_s - 30


def test_what_fails_has_the_plain_problem_as_its_result(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        query = {"model": NAME, "n": 100_000}
        plain = await there.client.post("/sample", params=query)
        accepted = await ask(there, params=query)
        assert (await over(there, accepted))["state"] == "failed"
        answer = await result(there, accepted)
        assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)
        assert {**answer.json(), "instance": ""} == {**plain.json(), "instance": ""}
        assert answer.json()["instance"].endswith(accepted.headers["x-request-id"])
        with there.hold(NAME) as held:
            held.error = ValueError("secret")
            held.let(1)
            accepted = await ask(there, params={"model": NAME})
            assert (await over(there, accepted))["state"] == "failed"
            answer = await result(there, accepted)
            assert answer.status_code == 500
            assert "secret" not in answer.text

    talk(settings, body)


def test_what_is_wrong_with_a_request_is_told_at_once(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        for path, query, status in (
            ("/sample", {"temperature": 11}, 422),
            ("/sample", {"model": "nobody"}, 404),
            ("/sample", {"model": "toy-tokens"}, 409),
        ):
            answer = await there.client.post(path, params=query, headers=LATER)
            assert answer.status_code == status
            assert "preference-applied" not in answer.headers
        answer = await there.client.post("/encode", content=b"?", headers=LATER | {"content-type": "text/plain"})
        assert answer.status_code == 415
        for method, path, status in (
            ("GET", "/jobs/w0-nobody", 404),
            ("GET", "/jobs/nobody/result", 404),
            ("DELETE", "/jobs/w0-nobody", 404),
            ("GET", "/jobs/w7-nobody", 404),
            ("POST", "/jobs/w0-nobody", 405),
            ("GET", "/jobs/w0-nobody?x=1", 422),
        ):
            answer = await there.client.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), path

    talk(settings, body)


def test_a_cancelled_job_gives_its_slots_back(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            accepted = await ask(there, params={"model": NAME, "n": 40})
            await until(lambda: len(held.runs) == 1)
            address = accepted.headers["location"]
            assert (await there.client.delete(address)).status_code == 204
            job = await over(there, accepted)
            assert (job["state"], job["progress"]) == ("cancelled", None)
            answer = await result(there, accepted)
            assert answer.status_code == 409
            assert "retry-after" not in answer.headers
            assert "cancelled" in answer.json()["detail"]
            held.let(1)
            await until(lambda: there.engine.queue_rows == 0)
            assert len(held.runs) == 1
        assert (await there.client.delete(address)).status_code == 204
        assert (await there.client.get(address)).status_code == 404

    talk(settings, body)


def test_jobs_wait_their_turn_and_there_are_not_too_many(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_AT_ONCE", 1)

    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            first = await ask(there, params={"model": NAME})
            await until(lambda: len(held.runs) == 1)
            second = await ask(there, params={"model": NAME})
            states = [(await there.client.get(one.headers["location"])).json()["state"] for one in (first, second)]
            assert states == ["running", "queued"]
            full = await there.client.post("/sample", params={"model": NAME}, headers=LATER)
            assert (full.status_code, full.headers["content-type"]) == (429, PROBLEM)
            assert int(full.headers["retry-after"]) >= 1
            assert "at most 2 are kept" in full.json()["detail"]
            assert (await there.client.delete(second.headers["location"])).status_code == 204
            assert (await there.client.delete(second.headers["location"])).status_code == 204
            third = await ask(there, params={"model": NAME})
            held.let(2 * STEPS)
            assert [(await over(there, one))["state"] for one in (first, third)] == ["done", "done"]

    talk(settings.model_copy(update={"max_jobs": 2}), body)


def test_results_end_after_a_while(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        accepted = await ask(there, params={"model": NAME})
        await until(lambda: not there.app.state.service.jobs._jobs)
        for answer in (await result(there, accepted), await there.client.get(accepted.headers["location"])):
            assert answer.status_code == 404
            assert "kept for 0.2 s" in answer.json()["detail"]

    talk(settings.model_copy(update={"job_ttl_s": 0.2}), body)


def test_requests_and_results_are_bounded_in_bytes(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        query = {"params": {"model": NAME, "n": 4}, "headers": {"accept": "application/x-npy"}}
        first = await ask(there, **query)
        assert (await over(there, first))["state"] == "done"
        assert loaded((await result(there, first)).content).shape == (4, 8, 8, 1)
        second = await ask(there, **query)
        assert (await over(there, second))["state"] == "failed"
        answer = await result(there, second)
        assert (answer.status_code, "DELETE jobs" in answer.json()["detail"]) == (413, True)
        codes = npy(np.zeros((1, 64, 64), dtype=np.int32))
        headers = LATER | {"content-type": "application/x-npy"}
        refused = await there.client.post("/decode", params={"model": "toy-tokens"}, content=codes, headers=headers)
        assert (refused.status_code, "bytes already" in refused.json()["detail"]) == (429, True)

    # Four pictures of 8 x 8 and the head of an array.
    talk(settings.model_copy(update={"max_job_bytes": 256 + 128 + 100}), body)


def test_the_deadline_of_a_job(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        with there.hold(NAME):
            accepted = await ask(there, params={"model": NAME})
            assert (await over(there, accepted))["state"] == "failed"
            answer = await result(there, accepted)
            assert (answer.status_code, answer.json()["title"]) == (504, "The deadline has passed")

    talk(settings.model_copy(update={"job_deadline_s": 0.1}), body)


def test_a_job_waits_for_room_in_the_queue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals, sample_codes = [], discrete.sample_codes

    async def full(*given: Any, **options: Any) -> Any:
        if len(refusals) < 2:
            refusals.append(1)
            raise OverloadedError("full", 0)
        return await sample_codes(*given, **options)

    monkeypatch.setattr(discrete, "sample_codes", full)

    async def body(there: Listening) -> None:
        assert (await over(there, await ask(there, params={"model": NAME})))["state"] == "done"

    talk(settings, body)
    assert len(refusals) == 2


def test_what_is_not_done_at_the_end_says_so(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        with there.hold(NAME) as held:
            accepted = await ask(there, params={"model": NAME})
            await until(lambda: len(held.runs) == 1)
            await there.app.state.service.jobs.stop()
            assert (await over(there, accepted))["state"] == "failed"
            answer = await result(there, accepted)
            assert (answer.status_code, "shut down" in answer.json()["detail"]) == (503, True)
            assert (await there.client.post("/sample", params={"model": NAME}, headers=LATER)).status_code == 503
            assert there.engine.state == "ready"

    talk(settings, body)


def test_any_process_behind_the_port_knows_of_a_job(settings: Settings, tmp_path: Path) -> None:
    async def main() -> None:
        small = settings.model_copy(update={"models": (NAME,)})
        async with (
            listening(small, Siblings(0, 2, tmp_path)) as there,
            listening(small, Siblings(1, 2, tmp_path)) as other,
        ):
            query = {"params": {"model": NAME, "seed": 1}, "headers": {"accept": "image/png"}}
            accepted = await ask(there, **query)
            assert accepted.json()["id"].startswith("w0-")
            assert (await over(other, accepted))["state"] == "done"
            own, elsewhere = await result(there, accepted), await result(other, accepted)
            assert own.content == elsewhere.content
            assert lasting(own) == lasting(elsewhere)
            failed = await ask(there, params={"model": NAME, "n": 5000})
            await over(other, failed)
            assert (await result(other, failed)).status_code == 413
            with other.hold(NAME):
                waiting = await ask(other, params={"model": NAME})
                pending = await result(there, waiting)
                assert (pending.status_code, pending.headers["retry-after"]) == (409, "1")
                assert (await there.client.delete(waiting.headers["location"])).status_code == 204
            strange = await there.client.get("/jobs/w1-%20%C3%A4%2F..%0A?x=%20")
            assert strange.status_code in (404, 422)

    asyncio.run(main())


def test_jobs_are_documented(settings: Settings) -> None:
    async def body(there: Listening) -> None:
        paths = (await there.client.get("/openapi.json")).json()["paths"]
        for path in ("/encode", "/decode", "/reconstruct", "/sample", "/likelihood", "/compress", "/decompress"):
            operation = paths[path]["post"]
            assert "application/json" in operation["responses"]["202"]["content"]
            assert {"location", "preference-applied", "retry-after"} <= operation["responses"]["202"]["headers"].keys()
            assert "Prefer" in [parameter["name"] for parameter in operation["parameters"]]
        assert {"200", "404", "422", "503"} <= paths["/jobs/{identifier}"]["get"]["responses"].keys()
        assert {"204", "404"} <= paths["/jobs/{identifier}"]["delete"]["responses"].keys()
        statuses = {"200", "400", "404", "406", "409", "413", "415", "422", "429", "503", "504"}
        assert statuses <= paths["/jobs/{identifier}/result"]["get"]["responses"].keys()

    talk(settings, body)
