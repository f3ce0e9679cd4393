"""Live sound through a foreign WebSocket client, against the codes of the whole."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.signal import resample_poly
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.settings import Settings
from tests.service.gate import until
from tests.service.listening import Listening, listening
from tests.service.serving import loaded, npy
from tests.toys import sounds, tokens
from tests.toys.publish import publish
from tests.toys.sounds import DOWNSAMPLING, ToySounds

NPY = "application/x-npy"
SPEECH, WHOLE, PICTURES = "toy-speech", "toy-whole", "toy-pictures"
HALO_CELLS = 1
STEP_SAMPLES = 256

Body = Callable[[Listening, Callable[..., connect]], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def speech() -> ToySounds:
    return sounds.make(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, speech: ToySounds) -> Path:
    folder = tmp_path_factory.mktemp("store")
    publish(folder, SPEECH, sounds.toy(speech))
    publish(folder, WHOLE, sounds.toy(speech, windows=None))
    publish(folder, PICTURES, tokens.toy(tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)))
    return folder


def talk(root: Path, body: Body, models: tuple[str, ...] = (SPEECH,), **options: Any) -> None:
    """Run a body with a service that listens, and what opens streams to it."""
    settings = Settings(
        store=root,
        models=models,
        device="cpu",
        threads=1,
        buckets=(1, 4),
        live_samples=STEP_SAMPLES,
        **options,
    )

    async def main() -> None:
        async with listening(settings) as there:
            address = str(there.client.base_url).replace("http://", "ws://").rstrip("/")

            def opened(query: str = "", **wishes: Any) -> connect:
                return connect(f"{address}/encode/live{query}", proxy=None, **wishes)

            await body(there, opened)

    asyncio.run(main())


def s16(sound: np.ndarray) -> bytes:
    return (sound * 32768).round().clip(-32768, 32767).astype("<i2").tobytes()


def cut(data: bytes, sizes: Iterable[int]) -> Iterable[bytes]:
    """Cut bytes into messages of sizes that come round again."""
    start, found = 0, list(sizes)
    while start < len(data):
        size = found[0]
        found.append(found.pop(0))
        yield data[start : start + size]
        start += size


async def collect(stream: ClientConnection) -> tuple[np.ndarray, dict[str, Any]]:
    """Take codes until the stream says that it ends; their first places must follow one another."""
    parts: list[int] = []
    async for text in stream:
        message = json.loads(text)
        if "codes" not in message:
            return np.array(parts), message
        assert message["first"] == {"codes": len(parts)}
        parts += message["codes"]
    raise AssertionError("the stream broke off")


async def told(stream: ClientConnection, status: int, code: int, *texts: str) -> None:
    """Await a problem as the last message, and the end of the stream."""
    _, problem = await collect(stream)
    assert problem["status"] == status, problem
    for text in texts:
        assert text in problem["detail"]
    with pytest.raises(ConnectionClosed):
        await stream.recv()
    assert stream.close_code == code


def test_codes_are_those_of_the_whole_however_it_is_cut(root: Path, speech: ToySounds) -> None:
    sound = speech.sound(4000 + 13)

    async def streamed(opened: Callable[..., connect], sizes: tuple[int, ...]) -> np.ndarray:
        async with opened() as stream:
            hello = json.loads(await stream.recv())
            assert (hello["model"], hello["sample_rate"]) == (f"{SPEECH}@1", 8000)
            assert hello["delay_s"] == (STEP_SAMPLES + HALO_CELLS * DOWNSAMPLING) / 8000
            assert hello["codes"]["codes"] == {"num_embeddings": 32, "num_codebooks": 1, "places_per_s": 125.0}
            for message in cut(s16(sound), sizes):
                await stream.send(message)
            await stream.send('{"end": true}')
            codes, end = await collect(stream)
        assert end == {"end": True, "samples": len(sound), "places": {"codes": len(codes)}}
        assert stream.close_code == 1000
        return codes

    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        whole = await encoded(there, sound)
        assert (whole == speech.encode(np.pad(sound, (0, -len(sound) % DOWNSAMPLING))[None])[0]).all()
        for sizes in ((10,), (51, 3), (1000, 7), (2**18,)):
            assert (await streamed(opened, sizes) == whole).all()

    talk(root, body)


async def encoded(there: Listening, sound: np.ndarray, query: str = "") -> np.ndarray:
    """Give the codes of a whole sound."""
    headers = {"content-type": NPY, "accept": NPY}
    answer = await there.client.post(f"/encode{query}", content=npy(sound[None]), headers=headers)
    codes: np.ndarray = loaded(answer.content)[0]
    return codes


def test_codes_come_as_soon_as_their_halo_is_there(root: Path, speech: ToySounds) -> None:
    sound = speech.sound(STEP_SAMPLES * 3)

    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del there
        async with opened() as stream:
            await stream.recv()
            delay = STEP_SAMPLES + HALO_CELLS * DOWNSAMPLING
            await stream.send(s16(sound[: delay - 1]))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.recv(), 0.2)
            await stream.send(s16(sound[delay - 1 : delay]))
            message = json.loads(await asyncio.wait_for(stream.recv(), 20))
            expected = speech.encode(sound[None])[0, : STEP_SAMPLES // DOWNSAMPLING]
            assert message == {"first": {"codes": 0}, "codes": expected.tolist()}

    talk(root, body)


def test_other_rates_and_floats_are_taken(root: Path, speech: ToySounds) -> None:
    low = speech.sound(8000)
    high = resample_poly(low, 2, 1).astype(np.float32).clip(-1, 1)

    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        async with opened("?sample_rate=16000&encoding=f32") as stream:
            await stream.recv()
            for message in cut(high.tobytes(), (997,)):
                await stream.send(message)
            await stream.send('{"end": true}')
            codes, end = await collect(stream)
        assert end["samples"] == len(high)
        whole = await encoded(there, high, "?sample_rate=16000")
        assert (codes == whole).mean() > 0.99

    talk(root, body)


def test_streams_side_by_side_have_codes_of_their_own(root: Path, speech: ToySounds) -> None:
    async def one(opened: Callable[..., connect], seed: int) -> None:
        sound = speech.sound(DOWNSAMPLING * 60, seed)
        async with opened() as stream:
            await stream.recv()
            for message in cut(s16(sound), (700,)):
                await stream.send(message)
            await stream.send('{"end": true}')
            codes, _ = await collect(stream)
        assert (codes == speech.encode(sound[None])[0]).all()

    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        await asyncio.gather(*(one(opened, seed) for seed in range(6)))
        load = there.engine.loads[f"{SPEECH}@1", "encode"]
        assert load.rows == 6 * 60 * DOWNSAMPLING / STEP_SAMPLES
        text = (await there.client.get("/metrics")).text
        assert "latentd_live_streams 0.0" in text
        assert f"latentd_live_seconds_total {6 * 60 * DOWNSAMPLING / 8000}" in text
        assert 'latentd_requests_total{endpoint="/encode/live",status="101"} 6.0' in text

    talk(root, body)


def test_a_stream_that_cannot_be_is_refused_by_a_problem(root: Path) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        for query, status, text in (
            ("?model=nobody", 404, "no model 'nobody'"),
            (f"?model={PICTURES}", 422, "a model of pictures"),
            (f"?model={WHOLE}", 409, "whole sounds alone"),
            ("?encoding=mp3", 422, "encoding is 'mp3'"),
            ("?sample_rate=7", 422, "sample_rate is '7'"),
            ("?codebooks=2", 422, "one codebook"),
            ("?rate=8000", 422, "unknown name 'rate'"),
        ):
            with pytest.raises(InvalidStatus) as refusal:
                await opened(query)
            response = refusal.value.response
            assert response.status_code == status
            assert response.headers["content-type"] == "application/problem+json"
            assert text in json.loads(response.body)["detail"]
        text = (await there.client.get("/metrics")).text
        assert 'latentd_requests_total{endpoint="/encode/live",status="409"} 1.0' in text
        assert 'latentd_requests_total{endpoint="/encode/live",status="422"} 5.0' in text

    talk(root, body, (SPEECH, WHOLE, PICTURES))


def test_what_goes_wrong_in_a_stream_is_its_last_message(root: Path, speech: ToySounds) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del there
        for message, status, text in (
            ("stop", 400, '{"end": true}'),
            (b"", 422, "without a sample"),
            (b"123", 422, "1 bytes into a sample of 2"),
            (s16(speech.sound(8001)), 413, "longer than 1 s"),
        ):
            async with opened() as stream:
                await stream.recv()
                await stream.send(message)
                if status == 422:
                    await stream.send('{"end": true}')
                await told(stream, status, 1009 if status == 413 else 1008, text)
        async with opened("?encoding=f32") as stream:
            await stream.recv()
            await stream.send(np.array([0.1, np.nan], "<f4").tobytes())
            await told(stream, 422, 1008, "not numbers")
        async with opened() as stream:
            await stream.recv()
            await stream.send(bytes(2**20 + 2))
            with pytest.raises(ConnectionClosed):
                await stream.recv()
            assert stream.close_code == 1009

    talk(root, body, max_live_s=1)


def test_silence_on_the_line_ends_a_stream(root: Path) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del there
        async with opened() as stream:
            await stream.recv()
            await told(stream, 504, 1013, "nothing has come for 0.1 s")

    talk(root, body, live_idle_s=0.1)


def test_a_trickle_of_sound_does_not_hold_a_stream_for_ever(root: Path) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del there
        async with opened() as stream:
            await stream.recv()

            async def trickle() -> None:
                while True:
                    await stream.send(bytes(2))
                    await asyncio.sleep(0.05)

            trickling = asyncio.create_task(trickle())
            await told(stream, 413, 1009, "longer than 0.5 s")
            with pytest.raises(ConnectionClosed):
                await trickling

    talk(root, body, max_live_s=0.5, live_idle_s=0.5)


def test_a_large_message_is_worked_on_in_parts(root: Path, speech: ToySounds) -> None:
    sound = speech.sound(80_000)

    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del there
        async with opened() as stream:
            await stream.recv()
            await stream.send(s16(sound))
            await stream.send('{"end": true}')
            messages = [json.loads(text) async for text in stream]
        assert len(messages) > 3
        assert [code for message in messages[:-1] for code in message["codes"]] == speech.encode(sound[None])[
            0
        ].tolist()

    talk(root, body)


def test_there_are_so_many_streams_and_one_that_hangs_up_makes_room(root: Path, speech: ToySounds) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        first = await opened()
        await first.recv()
        with pytest.raises(InvalidStatus) as refusal:
            await opened()
        assert refusal.value.response.status_code == 429
        assert int(refusal.value.response.headers["retry-after"]) > 0
        await first.send(s16(speech.sound(STEP_SAMPLES * 40)))
        first.transport.abort()
        await until(lambda: '"/encode/live",status="499"' in there.app.state.service.metrics.render().decode())
        async with opened() as second:
            assert json.loads(await second.recv())["model"] == f"{SPEECH}@1"

    talk(root, body, max_live=1)


def test_a_service_that_ends_says_so(root: Path, speech: ToySounds) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        async with opened() as stream:
            await stream.recv()
            await stream.send(s16(speech.sound(STEP_SAMPLES * 2)))
            await stream.recv()
            there.app.state.service.live.close()
            await told(stream, 503, 1012, "shutting down")
        with pytest.raises(InvalidStatus) as refusal:
            await opened()
        assert refusal.value.response.status_code == 503

    talk(root, body)


def test_a_stream_is_cut_off_with_its_server(root: Path) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        stream = await opened()
        await stream.recv()
        there.server.should_exit = True
        with pytest.raises(ConnectionClosed):
            await stream.recv()
        assert stream.close_code == 1012

    talk(root, body)


def test_keys_and_origins_count_for_streams(root: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{hashlib.sha256(b'secret').hexdigest()}\n")

    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        host = httpx.URL(there.client.base_url).netloc.decode()
        with pytest.raises(InvalidStatus) as refusal:
            await opened()
        assert refusal.value.response.status_code == 401
        assert json.loads(refusal.value.response.body)["type"] == "urn:latentd:problem:unauthorized"
        bearer = {"authorization": "Bearer secret"}
        with pytest.raises(InvalidStatus) as refusal:
            await opened(additional_headers=bearer, origin="https://evil.example")
        assert refusal.value.response.status_code == 403
        for origin in (None, f"http://{host}", "https://good.example"):
            async with opened(additional_headers=bearer, origin=origin) as stream:
                assert "model" in json.loads(await stream.recv())

    talk(root, body, api_keys_file=keys, cors_origins=("https://good.example",))


def test_a_stream_has_a_line_in_the_log(root: Path, speech: ToySounds, caplog: pytest.LogCaptureFixture) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del there
        async with opened("?sample_rate=8000", additional_headers={"x-request-id": "mine"}) as stream:
            await stream.recv()
            await stream.send(s16(speech.sound(100)))
            await stream.send('{"end": true}')
            assert len((await collect(stream))[0]) == 2
            assert stream.response is not None
            assert stream.response.headers["x-request-id"] == "mine"
        with pytest.raises(InvalidStatus):
            await opened("?model=nobody")

    with caplog.at_level("INFO"):
        talk(root, body, access_log="on")
    lines = [record.fields for record in caplog.records if record.message == "request"]
    lines = [line for line in lines if line["path"] == "/encode/live"]
    assert [line["status"] for line in lines] == [101, 404]
    assert (lines[0]["model"], lines[0]["request_id"]) == (f"{SPEECH}@1", "mine")
    assert "sample_rate=" not in caplog.text


def test_a_plain_request_and_other_paths_are_answered_as_ever(root: Path) -> None:
    async def body(there: Listening, opened: Callable[..., connect]) -> None:
        del opened
        answer = await there.client.get("/encode/live")
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
        asking = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        asking["sec-websocket-key"] = "AAAAAAAAAAAAAAAAAAAAAA=="
        assert (await there.client.get("/livez", headers=asking)).status_code == 200

    talk(root, body)
