"""The HTTP contract: every endpoint, body type, answer type and error status, against numpy and a foreign client."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service import continuous
from service.errors import OverloadedError
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, loaded, npy, picture, png, post, serving
from tests.toys.publish import TOYS


@pytest.fixture(scope="module")
def client(store_root: Any) -> Iterator[Client]:
    settings = Settings(store=store_root, models=TOYS, device="cpu", threads=1, max_body_bytes=200_000, max_rows=32)
    with serving(settings) as client:
        yield client


@pytest.fixture
def images(toy_references: Any) -> np.ndarray:
    return toy_references["toy-binary"].images(3)


def bodies(images: np.ndarray) -> dict[str, tuple[bytes, str]]:
    """The same three pictures in every form that holds several."""
    items = [{"image": base64.b64encode(png(image)).decode()} for image in images]
    form = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
        + png(image)
        + b"\r\n"
        for image in images
    )
    return {
        "npy": (npy(images), "application/x-npy"),
        "json": (json.dumps({"items": items}).encode(), "application/json; charset=utf-8"),
        "form": (form + b"--xyz--\r\n", "multipart/form-data; boundary=xyz"),
    }


@pytest.mark.parametrize("form", ["npy", "json", "form"])
def test_encode_gives_numpys_posterior_for_every_body(
    client: Client, toy_references: Any, images: np.ndarray, form: str
) -> None:
    mean, log_variance = toy_references["toy-binary"].encode(images)
    answer = post(client, "/encode?model=toy-binary", *bodies(images)[form])
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-latentd-model"] == "toy-binary@1"
    assert answer.json()["model"] == "toy-binary@1"
    np.testing.assert_allclose([item["mean"] for item in answer.json()["items"]], mean, atol=1e-4)
    np.testing.assert_allclose([item["log_variance"] for item in answer.json()["items"]], log_variance, atol=1e-4)
    array = loaded(post(client, "/encode", *bodies(images)[form], "application/x-npy").content)
    np.testing.assert_allclose(array, mean, atol=1e-4)
    archive = loaded(post(client, "/encode", *bodies(images)[form], "application/x-npz").content)
    assert sorted(archive) == ["log_variance", "mean"]


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_picture_goes_in_and_a_picture_comes_out(client: Client, images: np.ndarray, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(images[0, ..., 0]).save(buffer, kind, lossless=True)
    answer = post(client, "/reconstruct", buffer.getvalue(), f"image/{kind}")
    assert answer.headers["content-type"] == "image/png"
    through = picture(answer.content)
    assert through.shape == (8, 8)
    error = ((through.astype(float) - images[0, ..., 0]) ** 2).mean()
    assert float(answer.headers["x-latentd-mse"]) == pytest.approx(error, abs=1e-3)
    assert float(answer.headers["x-latentd-psnr-db"]) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-2)
    (item,) = post(client, "/reconstruct", buffer.getvalue(), f"image/{kind}", "application/json").json()["items"]
    assert picture(base64.b64decode(item["image"])).tolist() == through.tolist()
    assert item["mse"] == pytest.approx(error)


def test_what_encode_answers_decode_takes(client: Client, toy_references: Any, images: np.ndarray) -> None:
    encoded = {
        kind: post(client, "/encode", npy(images), "application/x-npy", kind)
        for kind in ("application/json", "application/x-npy", "application/x-npz")
    }
    toy = toy_references["toy-binary"]
    expected = toy.decode(toy.encode(images)[0])
    for kind, answer in encoded.items():
        content = answer.content
        if kind == "application/json":
            content = json.dumps({"items": answer.json()["items"]}).encode()
        decoded = loaded(post(client, "/decode", content, kind, "application/x-npy").content)
        assert np.abs(decoded - expected).max() <= 0.51
    items = json.dumps({"items": [{"z": [0, 1, 2, 3]}]}).encode()
    assert picture(post(client, "/decode", items, "application/json", "image/png").content).shape == (8, 8)


def test_samples_repeat_with_their_seed_and_rows_stand_alone(client: Client) -> None:
    whole = post(client, "/sample?n=5&seed=7", accept="application/x-npy")
    assert whole.headers["x-latentd-seed"] == "7"
    rows = loaded(whole.content)
    assert rows.shape == (5, 8, 8, 1)
    body = json.dumps({"n": 1, "seed": 7, "first_index": 3}).encode()
    alone = loaded(post(client, "/sample", body, "application/json", "application/x-npy").content)
    assert np.abs(alone[0].astype(int) - rows[3]).max() <= 1
    sheet = picture(post(client, "/sample?n=5&seed=7", accept="image/png").content)
    assert sheet.shape[0] > 16
    drawn = post(client, "/sample", accept="application/json").json()
    again = post(client, f"/sample?seed={drawn['seed']}", accept="application/json").json()
    assert drawn == again
    cold = loaded(post(client, "/sample?n=4&temperature=0", accept="application/x-npy").content)
    assert (cold == cold[0]).all()


def test_likelihood_has_every_figure(client: Client, images: np.ndarray) -> None:
    answer = post(client, "/likelihood?samples=50&seed=1", npy(images), "application/x-npy").json()
    assert answer["seed"] == 1
    for item in answer["items"]:
        assert item["iwae_nats"] >= item["elbo_nats"]
        assert item["elbo_nats"] == pytest.approx(item["reconstruction_nats"] - item["kl_nats"])
        assert item["bits_per_dim"] == pytest.approx(-item["iwae_nats"] / np.log(2) / 64)
        assert item["bits_per_dim_bound"] == "iwae"
        assert item["exact_nats"] is None
        assert 1 <= item["effective_sample_size"] <= 50
        assert item["iwae_standard_error_nats"] >= 0
    one = post(client, "/likelihood?samples=1&bounds=elbo", npy(images), "application/x-npy").json()["items"][0]
    assert one["iwae_standard_error_nats"] is None
    assert one["bits_per_dim_bound"] == "elbo"
    assert one["iwae_nats"] is None
    body = json.loads(bodies(images)["json"][0]) | {"bounds": ["iwae", "elbo"], "samples": 5, "seed": 2}
    assert post(client, "/likelihood", json.dumps(body).encode(), "application/json").status_code == 200
    array = loaded(
        post(client, "/likelihood?seed=1&samples=50", npy(images), "application/x-npy", "application/x-npy").content
    )
    assert array.tolist() == pytest.approx([item["iwae_nats"] for item in answer["items"]])


def test_fit_brings_pictures_to_the_model_and_back(client: Client) -> None:
    small = np.full((6, 5, 1), 255, dtype=np.uint8)
    refused = post(client, "/reconstruct", png(small), "image/png")
    assert refused.status_code == 422
    assert "fit=" in refused.json()["detail"]
    padded = post(client, "/reconstruct?fit=pad", png(small), "image/png")
    assert picture(padded.content).shape == (6, 5)
    resized = post(client, "/reconstruct?fit=resize&binarize=threshold", png(small), "image/png")
    assert picture(resized.content).shape == (8, 8)


def test_colour_pictures_reach_the_colour_model(client: Client, toy_references: Any) -> None:
    toy = toy_references["toy-colour"]
    images = toy.images(2)
    answer = post(client, "/encode?model=toy-colour@1", png(images[0]), "image/png").json()
    np.testing.assert_allclose(answer["items"][0]["mean"], toy.encode(images[:1])[0][0], atol=1e-3)


GOOD = np.zeros((1, 8, 8, 1), dtype=np.uint8)


@pytest.mark.parametrize(
    ("status", "path", "data", "content_type", "accept", "told"),
    [
        (400, "/encode", b"{", "application/json", "*/*", "not JSON"),
        (400, "/encode", b'{"items": [{"image": "*"}]}', "application/json", "*/*", "base64"),
        (400, "/encode", png(GOOD[0])[:40], "image/png", "*/*", ""),
        (400, "/encode", b"no form", "multipart/form-data; boundary=x", "*/*", "multipart"),
        (400, "/encode", npy(GOOD)[:-3], "application/x-npy", "*/*", ""),
        (400, "/sample", b'{"n": NaN}', "application/json", "*/*", "NaN"),
        (404, "/encode?model=nobody", npy(GOOD), "application/x-npy", "*/*", "toy-binary@1"),
        (404, "/encod", b"", "", "*/*", "/docs"),
        (406, "/encode", npy(GOOD), "application/x-npy", "image/png", "application/json"),
        (406, "/sample", b"", "", "text/html", "image/png"),
        (409, "/sample?model=toy-encoder", b"", "", "*/*", "models that can"),
        (409, "/likelihood?bounds=exact", npy(GOOD), "application/x-npy", "*/*", "bounds=elbo,iwae"),
        (413, "/encode", b"0" * 200_001, "image/png", "*/*", "larger than"),
        (413, "/encode", npy(np.repeat(GOOD, 33, 0)), "application/x-npy", "*/*", "at most 32"),
        (413, "/sample?n=33", b"", "", "*/*", "at most 32"),
        (413, "/likelihood?samples=5001", npy(GOOD), "application/x-npy", "*/*", "at most 5000"),
        (415, "/encode", b"RIFF", "audio/wav", "*/*", "no audio model"),
        (415, "/encode", b"abc", "", "*/*", "no content type"),
        (415, "/encode", b"abc", "application/octet-stream", "*/*", "image/png"),
        (415, "/decode", b"abc", "image/png", "*/*", "application/x-npy"),
        (422, "/encode", npy(GOOD[:, :7]), "application/x-npy", "*/*", ""),
        (422, "/encode", npy(GOOD + 1), "application/x-npy", "*/*", "binarize=threshold"),
        (422, "/encode", b"", "", "*/*", "no picture"),
        (422, "/encode?fitt=pad", npy(GOOD), "application/x-npy", "*/*", "did you mean 'fit'"),
        (422, "/encode?fit=stretch", npy(GOOD), "application/x-npy", "*/*", "fit"),
        (422, "/encode", b'{"items": [{"imag": ""}]}', "application/json", "*/*", "did you mean 'image'"),
        (422, "/encode", b'{"items": 3}', "application/json", "*/*", "list of objects"),
        (422, "/encode", b'{"items": [{"image": 3}]}', "application/json", "*/*", "string"),
        (422, "/sample?n=0", b"", "", "*/*", "n is"),
        (422, "/sample?n=2", b'{"n": 3}', "application/json", "*/*", "give one"),
        (422, "/sample?seed=1&seed=2", b"", "", "*/*", "twice"),
        (422, "/sample", b'{"items": [{}]}', "application/json", "*/*", "no items"),
        (422, "/sample?seed=-1", b"", "", "*/*", "seed"),
        (422, "/decode", b'{"items": [{"z": [1, 2]}]}', "application/json", "*/*", "[B, 4]"),
        (422, "/decode", b'{"items": [{"z": [1, "2"]}]}', "application/json", "*/*", "numbers"),
        (422, "/decode", b'{"items": [{"z": [1]}, {"z": [1, 2]}]}', "application/json", "*/*", ""),
        (422, "/decode", b'{"items": []}', "application/json", "*/*", "no latents"),
        (422, "/decode", npy(np.full((1, 4), np.inf)), "application/x-npy", "*/*", "finite"),
        (422, "/decode", npy(np.full((1, 4), 1e300)), "application/x-npy", "*/*", "finite"),
        (422, "/decode", npy(np.zeros(4)), "application/x-npy", "*/*", "[B, D]"),
    ],
)
def test_every_mistake_is_told_with_its_cure(
    client: Client, status: int, path: str, data: bytes, content_type: str, accept: str, told: str
) -> None:
    answer = post(client, path, data, content_type, accept)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = answer.json()
    assert problem["status"] == status
    assert told in problem["detail"]
    assert {"type", "title", "detail", "instance"} <= set(problem)
    assert problem["instance"].endswith(answer.headers["x-request-id"])


def test_a_method_that_is_not_allowed_is_told(client: Client) -> None:
    answer = client.get("/encode")
    assert answer.status_code == 405
    assert "POST" in answer.json()["detail"]


def test_request_ids_are_echoed_where_they_are_harmless(client: Client) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.get("/livez", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"


def test_server_timing_names_the_phases(client: Client, images: np.ndarray) -> None:
    timing = post(client, "/encode", npy(images), "application/x-npy").headers["server-timing"]
    assert [part.split(";")[0] for part in timing.split(", ")] == ["media", "compute", "encode", "queue"]


def test_control_routes(client: Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz").json()
    assert ready["device"] == "cpu"
    assert ready["models"] == [
        f"{name}@1" for name in ("toy-binary", "toy-colour", "toy-encoder", "toy-tokens", "toy-tokens-prior")
    ]
    assert [model["reference"] for model in client.get("/models").json()["models"]] == ready["models"]
    described = client.get("/models/toy-colour").json()
    assert described["capabilities"] == ["encode", "decode", "reconstruct", "sample", "likelihood"]
    assert client.get("/models/toy-colour@1").json() == described
    assert client.get("/models/nobody").status_code == 404
    assert client.get("/models?x=1").status_code == 422
    assert client.get("/docs").status_code == 200
    assert client.get("/docs/nothing").status_code == 404
    text = client.get("/metrics").text
    assert 'latentd_requests_total{endpoint="/docs",status="200"} 1.0' in text
    assert "/docs/nothing" not in text
    assert 'latentd_device_info{provider="cpu",requested="cpu"} 1.0' in text
    client.post("/sample?model=toy-colour")
    assert 'latentd_graph_rows_total{graph="decode",model="toy-colour@1"} ' in client.get("/metrics").text
    assert 'latentd_requests_total{endpoint="/livez",status="200"}' in text


def test_openapi_names_every_endpoint_option_and_status(client: Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/encode", "/decode", "/reconstruct", "/sample", "/likelihood", "/compress", "/decompress"):
        operation = document["paths"][path]["post"]
        assert {"200", "400", "404", "406", "409", "413", "415", "422", "429", "503", "504"} <= set(
            operation["responses"]
        )
        assert "model" in {parameter["name"] for parameter in operation["parameters"]}
    assert "application/x-npy" in document["paths"]["/encode"]["post"]["requestBody"]["content"]
    assert "Problem" in document["components"]["schemas"]
    control = {"/livez", "/readyz", "/metrics", "/models", "/models/{name}", "/models/{name}/codebook"}
    assert control <= set(document["paths"])


def test_overload_and_deadline_and_faults_are_answered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def overloaded(*_: object, **__: object) -> None:
        raise OverloadedError("the queue is full", retry_after_s=3)

    async def slow(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    with serving(settings.model_copy(update={"deadline_s": 0.05})) as client:
        monkeypatch.setattr(continuous, "sample", overloaded)
        answer = client.post("/sample")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
        monkeypatch.setattr(continuous, "sample", slow)
        answer = client.post("/sample")
        assert answer.status_code == 504
        assert "0.05 s" in answer.json()["detail"]
        monkeypatch.setattr(continuous, "sample", broken)
        answer = client.post("/sample")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"] in caplog.text
        assert "secret detail" in caplog.text
        client.app.state.service.engine._phase = "loading"
        answer = client.post("/sample")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert client.get("/readyz").status_code == 503
        assert client.get("/livez").status_code == 200
        client.app.state.service.engine._phase = "ready"
