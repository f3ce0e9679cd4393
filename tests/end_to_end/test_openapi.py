"""The service is held against its own OpenAPI document, by requests that Schemathesis makes of it."""

import io
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import requests
import schemathesis
import soundfile
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis import Case, Config, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import CacheConfig
from schemathesis.specs.openapi import checks

from service.settings import Settings
from tests.service.serving import Client, npy, png, serving
from tests.toys import shaped, sounds
from tests.toys.publish import TOYS, publish


def wav(samples: np.ndarray, kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 8000, format=kind, subtype="PCM_16")
    return buffer.getvalue()


SPEECH, SHAPED = "toy-speech", "toy-shaped"
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
BINARY = np.uint8(255) * np.eye(8, dtype=np.uint8)[None, ..., None]
COLOUR = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(1, 8, 8, 3)
SOUND = np.linspace(-0.5, 0.5, 200, dtype=np.float32)
PAIR = BINARY.repeat(2, axis=0)
ARRAYS = (BINARY, PAIR, COLOUR, SOUND[None], np.zeros((2, 4), np.float32), np.ones((1, 4, 4), np.int32))
BODIES = {
    "application/x-npy": tuple(map(npy, ARRAYS)),
    "image/png": (png(BINARY[0]), png(COLOUR[0])),
    "image/jpeg": (png(COLOUR[0], "jpeg"),),
    "image/webp": (png(COLOUR[0], "webp"),),
    "audio/wav": (wav(SOUND),),
    "audio/flac": (wav(SOUND, "FLAC"),),
    "application/x-npz": (b"PK",),
    "application/vnd.latentd": (b"latentd",),
    "application/octet-stream": (b'{"inputs": []}',),
}
"""What the schema cannot say of a body: which bytes make a picture or a sound."""
ACCEPTS = (
    "*/*",
    "application/json",
    "application/x-npy",
    "application/x-npz",
    "image/png",
    "audio/wav",
    "text/event-stream",
    "junk",
)
CONFIG = Config(seed=0, cache=CacheConfig(enabled=False))
FUZZ = hypothesis.settings(
    max_examples=20, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


for media_type, good in BODIES.items():
    schemathesis.openapi.media_type(media_type, st.one_of(st.sampled_from(good), st.binary(max_size=40)))


@schemathesis.serializer(*BODIES)
def as_it_is(_: Any, body: Any) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode(errors="surrogatepass")


class Judge:
    """Sends cases, and holds each answer against the document."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.seen: Counter[int] = Counter()
        self.answered: set[str] = set()
        self.document = schemathesis.openapi.from_dict(client.app.openapi(), config=CONFIG)

    @property
    def operations(self) -> list[Any]:
        """Every operation, those that change what is served at the end."""
        found = [result.ok() for result in self.document.get_all_operations()]
        return sorted(found, key=lambda operation: "/repository/models/" in operation.path)

    def send(self, case: Case[Any]) -> None:
        given = requests.Request(**case.as_transport_kwargs(base_url="http://test")).prepare()
        answer = self.client.runner.run(
            self.client.client.request(given.method or "", given.url or "", headers=given.headers, content=given.body)
        )
        self.seen[answer.status_code] += 1
        if answer.status_code == 200:
            self.answered.add(case.operation.label)
        case.validate_response(answer, checks=CHECKS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
def test_whatever_is_asked_is_answered_as_documented(
    store_root: Path, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    store = shutil.copytree(store_root, tmp_path / "store")
    publish(store, SPEECH, sounds.toy(sounds.make(1)))
    publish(store, SHAPED, shaped.toy(shaped.make_shaped(1)))
    limits = {"max_rows": 16, "max_importance_samples": 64, "max_pixels": 4096, "control": True}
    settings = Settings(store=store, models=(*TOYS, SPEECH, SHAPED), device="cpu", threads=1, buckets=(1, 4), **limits)
    with serving(settings) as client:
        judge = Judge(client)
        for operation in judge.operations:
            with subtests.test(operation.label):
                probe(judge, operation)
            for mode in GenerationMode if operation.body or operation.query else [GenerationMode.POSITIVE]:
                with subtests.test(operation.label, mode=mode.name):
                    attack(judge, operation, mode)
            if operation.path == "/interpolate":
                # Two pictures of one size for one model are too much to hope for.
                judge.send(operation.Case(body=npy(PAIR), media_type="application/x-npy"))
    assert {200, 202, 400, 404, 405, 406, 409, 415, 422} <= set(judge.seen)
    answered = ("encode", "reconstruct", "sample", "likelihood", "compress", "interpolate", "traverse", "vary")
    assert {f"POST /{path}" for path in answered} <= judge.answered


def probe(judge: Judge, operation: Any) -> None:
    """Ask an operation at the borders of what the document says: the least, the most, one beyond, and other methods."""
    for case in judge.document.iter_coverage_cases(
        operation, generation_modes=list(GenerationMode), generation_config=judge.document.config.generation
    ):
        judge.send(case)


def attack(judge: Judge, operation: Any, mode: GenerationMode) -> None:
    """Ask one operation as the document says, or as it does not; every other time for things that there are."""
    posts = 4 if "{identifier}" in operation.path else 0
    jobs = [judge.client.post("/sample", headers={"prefer": "respond-async"}).json()["id"] for _ in range(posts)]
    things = st.fixed_dictionaries(
        {
            "name": st.sampled_from([*TOYS, SPEECH, SHAPED, "toy-binary@1"]),
            "model": st.sampled_from(["toy-binary.encode", "toy-tokens.decode", "toy-shaped.draw_prior", "toy-binary"]),
            "version": st.just("1"),
            "identifier": st.sampled_from(jobs or [""]),
        }
    )
    headers = {"Accept": st.sampled_from(ACCEPTS), "Prefer": st.sampled_from(["wait=1", "respond-async"])}

    @FUZZ
    @given(operation.as_strategy(generation_mode=mode), things | st.just({}), st.fixed_dictionaries(headers))
    def send(case: Case[Any], there: dict[str, str], headers: dict[str, str]) -> None:
        case.path_parameters.update({name: there[name] for name in case.path_parameters.keys() & there.keys()})
        case.headers.update(headers)
        judge.send(case)

    send()
