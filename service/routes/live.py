"""Live sound over a WebSocket: raw samples come in, codes go out as soon as they are certain."""

import asyncio
import json
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from media.sounds import PcmStream
from service import problems
from service.engine.lanes import Caller, Lane, as_caller
from service.engine.opening import ServedModel
from service.errors import (
    DeadlineError,
    ForbiddenError,
    MalformedError,
    OverloadedError,
    TooLargeError,
    UnavailableError,
)
from service.levels import Codes, check_codebooks, levels_of
from service.live import LiveEncoder
from service.option_reading import read_options
from service.options import Options
from service.requests import REQUEST_ID_HEADER, Deadline, Service, choose_id
from service.sounds import geometry_of
from service.upgrade import LIVE_PATH

_SWITCHING_PROTOCOLS = 101
_CLOSE_CODES: dict[type[Exception], int] = {
    TooLargeError: 1009,
    OverloadedError: 1013,
    DeadlineError: 1013,
    UnavailableError: 1012,
}
_REFUSED, _FAULT, _DONE = 1008, 1011, 1000

_PART_BYTES = 2**16
"""So much of a message is worked on at a time: at a low rate it becomes many samples of the model's."""


class LiveOptions(Options):
    """What a stream takes."""

    encoding: Literal["s16", "f32"] = Field(
        default="s16", description="of the samples, little-endian: 16-bit integers, or 32-bit floating point in -1 .. 1"
    )
    codebooks: int | None = Field(
        default=None, ge=1, description="use so many codebooks at each place, the first ones; left out: all"
    )


class Live:
    """The endpoint of live sound, as an ASGI application of its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one stream, from its first sample to its last code."""
        websocket, service = WebSocket(scope, receive, send), scope["app"].state.service
        scope.setdefault("state", {})["request_id"] = choose_id(websocket.headers.get(REQUEST_ID_HEADER))
        start_s = time.perf_counter()
        stream = _Stream(websocket, service)
        try:
            await stream.run()
        finally:
            service.metrics.requests.observe(LIVE_PATH, stream.status, time.perf_counter() - start_s)


class _Stream:
    """One stream.

    Args:
        websocket: not yet accepted.
        service: what all requests share.

    Attributes:
        status: what it has come to, as a status of HTTP: 101 where it went well.
    """

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self.status = _SWITCHING_PROTOCOLS
        self._websocket, self._service = websocket, service
        self._is_accepted = False
        self._places: dict[str, int] = {}

    async def run(self) -> None:
        """Serve it, and say what is wrong where something is."""
        try:
            with self._service.live:
                await self._serve()
        except WebSocketDisconnect:
            self.status = problems.CLIENT_CLOSED_REQUEST
        except problems.KNOWN as error:
            await self._fail(error)
        except asyncio.CancelledError:
            await self._fail(UnavailableError("the service is shutting down; open the stream again"))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a problem and the log the traceback
            await self._fail(error)

    async def _serve(self) -> None:
        """Accept it and take all of it in."""
        service, websocket = self._service, self._websocket
        service.engine.check_ready()
        _check_origin(websocket, service.settings.cors_origins)
        options = read_options(LiveOptions, websocket.query_params.multi_items(), {})
        model = service.engine.model(options.model, "encode", "audio" if options.model is None else None)
        encoder = LiveEncoder(service.engine, model, options.codebooks)
        check_codebooks(model, options.codebooks)
        target_hz = geometry_of(model).sample_rate_hz
        source_hz = options.sample_rate or target_hz
        pcm = PcmStream(options.encoding, source_hz=source_hz, target_hz=target_hz)
        await self._accept(model)
        await self._send(_described(model, source_hz, encoder))
        start_s = time.monotonic()
        while (data := await self._next()) is not None:
            for start in range(0, len(data) or 1, _PART_BYTES):
                before = pcm.received
                samples = pcm.push(data[start : start + _PART_BYTES])
                service.live.count((pcm.received - before) / source_hz)
                self._check_length(pcm.received / source_hz, time.monotonic() - start_s)
                await self._tell(await self._in_time(encoder.push(samples)))
        await self._tell(await self._in_time(encoder.push(pcm.finish())))
        await self._tell(await self._in_time(encoder.finish()))
        await self._send({"end": True, "samples": pcm.received, "places": self._places})
        await self._websocket.close(_DONE)

    def _check_length(self, sound_s: float, open_s: float) -> None:
        """Refuse to go on with a stream that has too much sound, or takes much longer than such sound lasts."""
        settings = self._service.settings
        if sound_s > settings.max_live_s or open_s > settings.max_live_s + settings.live_idle_s:
            raise TooLargeError(f"the stream lasts longer than {settings.max_live_s:g} s; end it and open another")

    async def _accept(self, model: ServedModel) -> None:
        headers = [
            (b"x-latentd-model", model.reference.encode()),
            (REQUEST_ID_HEADER.encode(), self._websocket.scope["state"]["request_id"].encode()),
        ]
        await self._websocket.accept(headers=headers)
        self._is_accepted = True

    async def _next(self) -> bytes | None:
        """Await the next samples; None at the end that the caller sets.

        Raises:
            WebSocketDisconnect: the caller has left.
            DeadlineError: nothing has come for too long.
            UnavailableError: the service is about to end.
            MalformedError: a text is not the one that there is.
        """
        idle_s, ending = self._service.settings.live_idle_s, self._service.live.ending
        receiving, closing = asyncio.create_task(self._websocket.receive()), asyncio.create_task(ending.wait())
        try:
            await asyncio.wait((receiving, closing), timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
            if ending.is_set():
                raise UnavailableError("the service is shutting down; open the stream again")
            if not receiving.done():
                raise DeadlineError(f'nothing has come for {idle_s:g} s; send sound, or {{"end": true}} at its end')
            message = receiving.result()
        finally:
            receiving.cancel()
            closing.cancel()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if (data := message.get("bytes")) is not None:
            return bytes(data)
        if _is_end(message.get("text") or ""):
            return None
        raise MalformedError('a text message can only be {"end": true}; send samples as binary messages')

    async def _in_time(self, work: Awaitable[Codes]) -> Codes:
        """Encode within the deadline of a request."""
        deadline = Deadline(self._service.settings.deadline_s)
        with as_caller(Caller(Lane.INTERACTIVE, deadline.end_s)):
            return await work

    async def _tell(self, codes: Codes) -> None:
        """Send codes, with the number of the first place of each."""
        if not codes:
            return
        found = {name: self._places.get(name, 0) for name in codes}
        for name, grid in codes.items():
            self._places[name] = found[name] + grid.shape[-1]
        await self._send({"first": found, **{name: grid.tolist() for name, grid in codes.items()}})

    async def _send(self, message: dict[str, Any]) -> None:
        """Send a message to a caller who reads.

        Raises:
            WebSocketDisconnect: the caller has left, or does not read.
        """
        try:
            async with asyncio.timeout(self._service.settings.write_timeout_s):
                await self._websocket.send_text(json.dumps(message, separators=(",", ":")))
        except TimeoutError as error:
            raise WebSocketDisconnect(1006) from error

    async def _fail(self, error: BaseException) -> None:
        """Tell the caller what is wrong: as an answer of HTTP before the stream, as its last message in it."""
        response = problems.answer(Request({**self._websocket.scope, "type": "http", "method": "GET"}), error)
        self.status = response.status_code
        with suppress(WebSocketDisconnect, RuntimeError):  # nobody is left to be told
            if not self._is_accepted:
                await self._websocket.send_denial_response(response)
                return
            await self._send(json.loads(bytes(response.body)))
            await self._websocket.close(_close_code(error))


def _close_code(error: BaseException) -> int:
    """Give the code that a WebSocket is closed with (RFC 6455, section 7.4.1)."""
    known = next((code for kind, code in _CLOSE_CODES.items() if isinstance(error, kind)), None)
    return known or (_REFUSED if isinstance(error, problems.KNOWN) else _FAULT)


def _is_end(text: str) -> bool:
    try:
        message = json.loads(text)
    except ValueError:
        return False
    return isinstance(message, dict) and message == {"end": True}


def _described(model: ServedModel, sample_rate_hz: int, encoder: LiveEncoder) -> dict[str, Any]:
    """Say what the stream will be."""
    levels = levels_of(model)
    model_hz = geometry_of(model).sample_rate_hz
    return {
        "model": model.reference,
        "sample_rate": sample_rate_hz,
        "delay_s": encoder.delay / model_hz,
        "codes": {
            name: {
                "num_embeddings": level.num_embeddings,
                "num_codebooks": level.num_codebooks,
                "places_per_s": model_hz / level.downsampling,
            }
            for name, level in levels.items()
        },
    }


def _check_origin(websocket: WebSocket, allowed: tuple[str, ...]) -> None:
    """Refuse a page of another origin than the settings allow: browsers let any page open a WebSocket.

    Raises:
        ForbiddenError: it is one.
    """
    origin = websocket.headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise ForbiddenError(f"pages of {origin[:80]} may not open streams; LATENTD_CORS_ORIGINS names those that may")


async def explain(request: Request) -> Response:
    """Say to a plain request that this is a WebSocket."""
    kind = problems.Kind(426, "upgrade", "A WebSocket is needed")
    detail = f"{LIVE_PATH} is a WebSocket: open ws://HOST{LIVE_PATH} and send samples, or send a whole sound to /encode"
    return problems.problem(request, kind, detail, {"upgrade": "websocket", "connection": "upgrade"})
