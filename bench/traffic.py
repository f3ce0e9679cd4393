"""What callers of all kinds send to the shipped models, and what each must be answered."""

import asyncio
import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench.load import NPY, npy, random_images

PNG, WEBP, JSON, NPZ = "image/png", "image/webp", "application/json", "application/x-npz"
CONTAINER, EVENTS, PROBLEM = "application/vnd.latentd", "text/event-stream", "application/problem+json"
HEADER_LENGTH = "Inference-Header-Content-Length"

_ANY = "*/*"
_TEXT = "text/plain"
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Exchange:
    """A request, and what must come back.

    Attributes:
        path: with its query.
        content: the body; None for a GET.
        content_type: of the body; empty for none.
        accept: what is asked for.
        status: that must be answered.
        answer_type: of the answer; a part of its Content-Type.
        holds: bytes that the answer must have in it.
        headers: further ones.
    """

    path: str
    content: bytes | None = None
    content_type: str = JSON
    accept: str = _ANY
    status: int = 200
    answer_type: str = ""
    holds: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    async def fault(self, client: httpx.AsyncClient) -> str | None:
        """Send the request.

        Args:
            client: of the service.

        Returns:
            What is wrong with the answer; None where it is as it must be.
        """
        headers = {"accept": self.accept, **dict(self.headers)}
        if self.content is None:
            answer = await client.get(self.path, headers=headers)
        else:
            headers |= {"content-type": self.content_type} if self.content_type else {}
            answer = await client.post(self.path, content=self.content, headers=headers)
        found_type = answer.headers.get("content-type", "")
        if answer.status_code != self.status:
            return f"{self.path}: {answer.status_code}, expected {self.status}: {answer.text[:200]}"
        if self.answer_type not in found_type:
            return f"{self.path}: {found_type}, expected {self.answer_type}"
        return None if self.holds in answer.content else f"{self.path}: {self.holds!r} is not in the answer"


async def exchanges(client: httpx.AsyncClient) -> list[Exchange]:
    """Prepare every exchange, with codes and containers that the service itself has made.

    Args:
        client: of the service.

    Returns:
        All of them, good and bad ones.

    Raises:
        httpx.HTTPError: the service does not answer.
    """
    photo = _picture(96, 80)
    codes = (await _ask(client, "/encode?model=photo-vq", _file(photo), PNG, NPY)).content
    codes_json = (await _ask(client, "/encode?model=cifar-vq", _file(_picture(32, 32)), PNG, JSON)).content
    container = (await _ask(client, "/compress?model=photo-vq", _file(photo), PNG, _ANY)).content
    digits = npy(random_images((8, 28, 28, 1)) // 128 * 255)
    vectors = (await _ask(client, "/encode?model=digits-vae", digits, NPY, NPY)).content
    latents = _latents(codes, codes_json, vectors, container)
    return [*_pictures(photo), *latents, *_draws(), *_protocol(), *_control(), *_bad()]


def _pictures(photo: NDArray[np.uint8]) -> Iterable[Exchange]:
    """Pictures in, as files, arrays, forms and JSON."""
    png, digits, cifar = _file(photo), _digits(4), _file(_picture(32, 32))
    form = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + png + b"\r\n" for _ in range(2)
    )
    items = json.dumps({"items": [{"image": base64.b64encode(png).decode()}]}).encode()
    yield Exchange("/encode?model=photo-vq", png, PNG, JSON, answer_type=JSON, holds=b'"codes"')
    yield Exchange("/encode?model=photo-vq", npy(photo[None]), NPY, NPY, answer_type=NPY, holds=b"NUMPY")
    yield Exchange("/encode?model=photo-vq", npy(random_images((16, 64, 64, 3))), NPY, NPY, answer_type=NPY)
    yield Exchange("/encode?model=photo-vq", items, JSON, NPZ, answer_type=NPZ, holds=b"PK")
    yield Exchange("/encode?model=photo-vq", form + b"--b--\r\n", "multipart/form-data; boundary=b", JSON)
    yield Exchange("/encode?model=digits-vae", npy(digits), NPY, NPZ, answer_type=NPZ)
    yield Exchange("/reconstruct?model=photo-vq", png, PNG, answer_type=PNG, holds=b"IHDR")
    yield Exchange("/reconstruct?model=photo-vq", _file(_picture(121, 67), "webp"), WEBP, answer_type=PNG)
    yield Exchange("/reconstruct?model=digits-vae", npy(digits), NPY, NPY, answer_type=NPY)
    yield Exchange("/likelihood?model=digits-vae&samples=64&seed=1", npy(digits), NPY, JSON, holds=b'"iwae_nats":-')
    yield Exchange("/likelihood?model=cifar-vq&labels=cat", cifar, PNG, JSON, holds=b"bits_per_token")
    yield Exchange("/likelihood?model=cifar-vq", cifar, PNG, PNG, answer_type=PNG)
    yield Exchange("/compress?model=photo-vq", png, PNG, answer_type=CONTAINER)


def _latents(codes: bytes, codes_json: bytes, vectors: bytes, container: bytes) -> Iterable[Exchange]:
    """Codes, vectors and containers back to pictures."""
    one = np.load(io.BytesIO(vectors), allow_pickle=False)[:1]
    yield Exchange("/decode?model=photo-vq", codes, NPY, PNG, answer_type=PNG)
    yield Exchange("/decode", codes_json, JSON, JSON, answer_type=JSON, holds=b'"image"')
    yield Exchange("/decode?model=digits-vae", vectors, NPY, NPY, answer_type=NPY)
    yield Exchange("/vary?model=digits-vae&n=4&seed=1", npy(one), NPY, PNG, answer_type=PNG)
    yield Exchange("/decompress", container, CONTAINER, PNG, answer_type=PNG)
    yield Exchange("/decompress?output=codes", container, CONTAINER, NPY, answer_type=NPY)


def _draws() -> Iterable[Exchange]:
    """Pictures from nothing."""
    options = json.dumps({"model": "digits-vae", "n": 9, "seed": 3, "temperature": 0.8}).encode()
    yield Exchange("/sample", options, JSON, PNG, answer_type=PNG)
    yield Exchange("/sample?model=cifar-vq&n=1&labels=horse&temperature=0.9&output=codes", b"", "", NPY, holds=b"NUMPY")
    yield Exchange("/sample?model=cifar-vq&n=2", b"", "", EVENTS, answer_type=EVENTS, holds=b"event: result")


def _protocol() -> Iterable[Exchange]:
    """The Open Inference Protocol, in JSON and with binary tensors."""
    codes = {"name": "codes", "datatype": "INT32", "shape": [1, 2, 2], "data": [7, 11, 300, 511]}
    image = random_images((1, 64, 64, 3)).tobytes()
    binary = {"name": "x", "datatype": "UINT8", "shape": [1, 64, 64, 3], "parameters": {"binary_data_size": len(image)}}
    head = json.dumps({"inputs": [binary], "parameters": {"binary_data_output": True}}).encode()
    length = ((HEADER_LENGTH, str(len(head))),)
    yield Exchange("/v2/models/photo-vq.embed/infer", json.dumps({"inputs": [codes]}).encode(), holds=b'"z_q"')
    yield Exchange("/v2/models/photo-vq.encode/infer", head + image, "application/octet-stream", headers=length)
    yield Exchange("/v2/models/digits-vae.encode/ready", answer_type=JSON)
    yield Exchange("/v2/repository/index", b"{}", holds=b"cifar-vq")


def _control() -> Iterable[Exchange]:
    """What probers and curious people ask."""
    yield Exchange("/metrics", answer_type=_TEXT, holds=b"latentd_queue_rows")
    yield Exchange("/livez", holds=b"alive")
    yield Exchange("/readyz", holds=b'"ready"')
    yield Exchange("/models", holds=b"model_hash")
    yield Exchange("/models/photo-vq/codebook", accept=NPY, answer_type=NPY)
    yield Exchange("/openapi.json", holds=b"/likelihood")


def _bad() -> Iterable[Exchange]:
    """Requests that are wrong, each in its own way."""
    png = _file(_picture(64, 64))
    for status, path, content, content_type, accept in (
        (400, "/encode?model=photo-vq", png[:100], PNG, _ANY),
        (400, "/decompress", b"no container", CONTAINER, _ANY),
        (400, "/sample", b'{"n": ', JSON, _ANY),
        (404, "/encode?model=nobody", png, PNG, _ANY),
        (406, "/encode", png, PNG, "audio/wav"),
        (409, "/compress?model=digits-vae", png, PNG, _ANY),
        (413, "/sample?model=digits-vae&n=100000", b"", "", _ANY),
        (415, "/encode", b"text", _TEXT, _ANY),
        (422, "/encode?model=photo-vq&fit=wide", png, PNG, _ANY),
        (422, "/decode?model=digits-vae", npy(np.full((1, 7), np.nan, np.float32)), NPY, _ANY),
    ):
        yield Exchange(path, content, content_type, accept, status, PROBLEM, b'"detail"')
    yield Exchange("/nowhere", status=404, answer_type=PROBLEM)
    yield Exchange("/encode", status=405, answer_type=PROBLEM)


async def job(client: httpx.AsyncClient) -> str | None:
    """Let the service answer later, ask until it has, and forget the result.

    Args:
        client: of the service.

    Returns:
        What is wrong; None where all is as it must be.
    """
    headers = {"prefer": "respond-async", "accept": NPY}
    answer = await client.post("/sample?model=cifar-vq&n=2&output=codes", headers=headers)
    if answer.status_code != 202:
        return f"a job: {answer.status_code}, expected 202: {answer.text[:200]}"
    path = answer.headers["location"]
    async with asyncio.timeout(_PATIENCE_S):
        while (told := (await client.get(path)).json())["state"] in ("queued", "running"):  # noqa: ASYNC110 - as callers ask
            await asyncio.sleep(0.2)
    result, deleted = await client.get(f"{path}/result"), await client.delete(path)
    found = told["state"], result.status_code, deleted.status_code
    return None if found == ("done", 200, 204) else f"a job: state, result and end are {found}"


async def hang_up(address: str, after: int) -> None:
    """Leave in the middle of a request, of its work, or of its answer.

    Args:
        address: of the service.
        after: which of these, by the remainder of a division by three.

    Raises:
        OSError: nobody listens there.
    """
    url = httpx.URL(address)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    body = npy(random_images((8, 128, 128, 3)))
    head = f"POST /reconstruct?model=photo-vq HTTP/1.1\r\nHost: soak\r\nContent-Type: {NPY}\r\nAccept: {NPY}\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body if after % 3 else body[: len(body) // 2])
    await writer.drain()
    await (asyncio.sleep(0.05) if after % 3 < 2 else reader.read(1000))
    writer.transport.abort()


async def _ask(client: httpx.AsyncClient, path: str, content: bytes, kind: str, accept: str) -> httpx.Response:
    headers = {"content-type": kind, "accept": accept}
    return (await client.post(path, content=content, headers=headers)).raise_for_status()


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    """Paint a picture `[H, W, 3]` that is neither flat nor noise."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + phase) * np.cos(y / 7 - phase) for phase in (0.0, 1.0, 2.0)]
    return (127.5 + 127.0 * np.stack(waves, -1)).astype(np.uint8)


def _digits(count: int) -> NDArray[np.uint8]:
    """Make binary pictures `[B, 28, 28, 1]`."""
    return (np.random.default_rng(0).random((count, 28, 28, 1)) > 0.8).astype(np.uint8) * np.uint8(255)


def _file(picture: NDArray[np.uint8], kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()
