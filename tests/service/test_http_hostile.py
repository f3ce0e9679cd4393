"""Two thousand mutated and random requests: whatever comes in, the service answers and is not at fault."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.app import create_app
from service.settings import Settings
from tests.toys.publish import TOYS

PATHS = ("/encode", "/decode", "/reconstruct", "/sample", "/likelihood", "/compress", "/decompress")
TYPES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "application/x-npy",
    "application/x-npz",
    "application/json",
    "application/vnd.latentd",
    "multipart/form-data; boundary=x",
    "audio/wav",
    "text/plain",
    "",
)
ACCEPTS = ("*/*", "application/json", "application/x-npy", "application/x-npz", "image/png", "text/html;q=0.1", "junk")


NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"9999")


def _seeds() -> list[tuple[bytes, str]]:
    """Bodies that are right for some endpoint, each with its type, to be mutated."""
    image = np.zeros((8, 8), dtype=np.uint8)
    image[2:5] = 255
    found = []
    for kind in ("png", "jpeg", "webp"):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, kind)
        found.append((buffer.getvalue(), f"image/{kind}"))
    for array in (image[None, ..., None], np.zeros((2, 4), dtype=np.float32), np.ones((2, 4, 4), dtype=np.int32)):
        buffer = io.BytesIO()
        np.save(buffer, array)
        found.append((buffer.getvalue(), "application/x-npy"))
    buffer = io.BytesIO()
    np.savez(buffer, mean=np.zeros((1, 4), dtype=np.float32))
    found.append((buffer.getvalue(), "application/x-npz"))
    png = found[0][0]
    for content in (
        {"items": [{"image": base64.b64encode(png).decode()}], "seed": 3},
        {"items": [{"z": [0.5, 1, -1e30, 4]}]},
        {"n": 2, "seed": 1, "temperature": 0.5},
        {"n": 2, "labels": ["dot", 1], "top_k": 2},
        {"items": [{"codes": [[1, 2], [3, 4]]}]},
    ):
        found.append((json.dumps(content).encode(), "application/json"))
    form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + png + b"\r\n--x--\r\n"
    found.append((form, "multipart/form-data; boundary=x"))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> tuple[bytes, str]:
    """Flip, cut, repeat and splice a right body, and mostly leave it its type."""
    content, right_type = draw(st.sampled_from(_seeds()))
    data = bytearray(content)
    for _ in range(draw(st.sampled_from((0, 1, 2, 4)))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(("flip", "cut", "insert", "number")))
        if kind == "flip" and data:
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 40))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=20))
        else:
            data[place : place + 4] = draw(st.sampled_from(NUMBERS))
    return bytes(data), draw(st.one_of(st.just(right_type), st.just(right_type), st.sampled_from(TYPES)))


RUBBISH = st.tuples(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode)), st.sampled_from(TYPES))
NAMES = st.sampled_from(
    (
        "model",
        "seed",
        "first_index",
        "n",
        "temperature",
        "samples",
        "bounds",
        "fit",
        "binarize",
        "nonsense",
        "Seed",
        "top_k",
        "labels",
        "output",
        "surprise",
        "profile",
    )
)
VALUES = st.one_of(
    st.sampled_from(
        ("0", "1", "-1", "7", "1e9", "nan", "inf", "pad", "crop", "resize", "error", "threshold", "elbo,iwae", "exact",
         "toy-colour", "toy-encoder@1", "codes", "images,codes", "z_q", "none", "true", "../x", "",
         "9223372036854775807", "4611686018427387904", "0.5")
    ),
    st.text(max_size=8),
)  # fmt: skip
REQUESTS = st.tuples(
    st.sampled_from(PATHS),
    st.sampled_from(((), (), (("model", "toy-tokens"),), (("model", "toy-tokens-prior"),))),
    st.lists(st.tuples(NAMES, VALUES), max_size=2),
    st.one_of(mutated(), mutated(), mutated(), RUBBISH),
    st.sampled_from(ACCEPTS),
)

ATTACK = settings(
    max_examples=2000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_two_thousand_hostile_requests_are_answered_without_a_fault(store_root: Any) -> None:
    limits = {"max_importance_samples": 64, "max_rows": 16, "max_body_bytes": 4096, "max_pixels": 4096}
    app = create_app(Settings(store=store_root, models=TOYS, device="cpu", threads=1, buckets=(1, 4), **limits))
    seen: dict[int, int] = {}

    async def send(client: httpx.AsyncClient, request: tuple[Any, ...]) -> None:
        path, model, query, (content, content_type), accept = request
        headers = {"accept": accept} | ({"content-type": content_type} if content_type else {})
        answer = await client.post(path, params=[*model, *query], content=content, headers=headers)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (request, answer.text)
        if answer.status_code != 200:
            assert answer.headers["content-type"] == "application/problem+json", request
            assert answer.json()["detail"], request

    with asyncio.Runner() as runner:
        engine = app.state.service.engine
        runner.run(engine.start())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")

        @ATTACK
        @given(REQUESTS)
        def attack(request: tuple[Any, ...]) -> None:
            runner.run(send(client, request))

        attack()
        runner.run(client.aclose())
        runner.run(engine.stop())
    assert sum(seen.values()) >= 2000
    assert seen[200] >= 20, "some requests must get through, or nothing was tried"
    assert len(seen) >= 5
