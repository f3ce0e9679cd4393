"""The express way of arrays: it answers what the endpoint answers, and leaves it whatever it does not know."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.endpoint import Endpoint
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, loaded, npy, png, post, serving
from tests.toys.publish import TOYS

NPY = "application/x-npy"


@pytest.fixture(scope="module")
def client(store_root: Path) -> Iterator[Client]:
    with serving(Settings(store=store_root, models=TOYS, device="cpu", threads=1, buckets=(4,))) as client:
        yield client


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests that the endpoints themselves have answered."""
    paths: list[str] = []
    handle = Endpoint.handle

    async def noted(endpoint: Endpoint[Any], request: Any) -> Any:
        paths.append(endpoint.path)
        return await handle(endpoint, request)

    monkeypatch.setattr(Endpoint, "handle", noted)
    return paths


def images(model: str, rows: int = 3) -> np.ndarray:
    grey = model in ("toy-binary",)
    shape = (rows, 8, 8, 1 if grey else 3)
    random = np.random.default_rng(rows)
    return random.choice(np.array([0, 255], np.uint8), shape) if grey else random.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("model", "output"), [("toy-binary", "mean"), ("toy-binary", "log_variance"), ("toy-tokens", "codes")]
)
def test_it_answers_what_the_endpoint_answers(client: Client, handled: list[str], model: str, output: str) -> None:
    path, body = f"/encode?model={model}&output={output}", npy(images(model))
    express = post(client, path, body, NPY, NPY)
    assert handled == []
    plain = client.post(path, content=body, headers={"content-type": f"{NPY};v=1", "accept": NPY})
    assert handled == ["/encode"]
    assert express.status_code == plain.status_code == 200
    assert express.content == plain.content
    changing = {"x-request-id", "server-timing"}
    assert {name: value for name, value in express.headers.items() if name not in changing} == {
        name: value for name, value in plain.headers.items() if name not in changing
    }


@pytest.mark.parametrize("model", ["toy-binary", "toy-tokens"])
def test_it_answers_a_small_picture_as_the_endpoint_does(client: Client, handled: list[str], model: str) -> None:
    path, body = f"/encode?model={model}", png(images(model, 1)[0])
    express = post(client, path, body, "image/png", NPY)
    assert handled == []
    assert express.content == post(client, path, body, "image/png; v=1", NPY).content
    assert handled == ["/encode"]


def test_it_leaves_a_picture_that_has_to_be_fitted_or_is_none_to_the_endpoint(
    client: Client, handled: list[str]
) -> None:
    fitted = post(client, "/encode?model=toy-tokens", png(np.zeros((7, 9, 3), np.uint8)), "image/png", NPY)
    assert fitted.status_code == 200
    damaged = png(images("toy-tokens", 1)[0])[:-30]
    assert post(client, "/encode?model=toy-tokens", damaged, "image/png", NPY).status_code == 400
    assert handled == ["/encode", "/encode"]


def test_an_array_in_another_order_is_read_in_it(client: Client, handled: list[str]) -> None:
    given = images("toy-tokens", 2)
    plain = post(client, "/encode?model=toy-tokens", npy(given), NPY, NPY)
    turned = post(client, "/encode?model=toy-tokens", npy(np.asfortranarray(given)), NPY, NPY)
    assert turned.content == plain.content
    assert handled == ["/encode"]


def test_it_answers_every_batch_of_a_known_kind_and_of_another(
    client: Client, handled: list[str], toy_references: Any
) -> None:
    for rows in (3, 3, 1, 5, 3):
        given = toy_references["toy-binary"].images(rows)
        mean, _ = toy_references["toy-binary"].encode(given)
        np.testing.assert_allclose(
            loaded(post(client, "/encode?model=toy-binary", npy(given), NPY, NPY).content), mean, atol=1e-4
        )
    assert handled == []


@pytest.mark.parametrize(
    ("path", "accept", "status"),
    [
        ("/encode?model=toy-binary", "application/json", 200),
        ("/encode?model=toy-binary", "*/*", 200),
        ("/encode?model=toy-binary&binarize=threshold", NPY, 200),
        ("/encode?model=toy-tokens&output=z_q", NPY, 422),
        ("/encode?model=nothing", NPY, 404),
        ("/encode?modle=toy-binary", NPY, 422),
        ("/encode?model=toy-binary", "image/png", 406),
    ],
)
def test_it_leaves_other_wishes_to_the_endpoint(
    client: Client, handled: list[str], path: str, accept: str, status: int
) -> None:
    answer = post(client, path, npy(images("toy-binary")), NPY, accept)
    assert handled == ["/encode"]
    assert answer.status_code == status
    assert (answer.headers["content-type"] == PROBLEM) == (status >= 400)


def test_a_known_header_does_not_excuse_what_comes_after_it(client: Client) -> None:
    good = npy(images("toy-binary"))
    assert post(client, "/encode?model=toy-binary", good, NPY, NPY).status_code == 200
    grey = bytearray(good)
    grey[-1] = 7
    refused = post(client, "/encode?model=toy-binary", bytes(grey), NPY, NPY)
    assert refused.status_code == 422
    assert "one is 7" in refused.json()["detail"]
    for damaged in (good[:-1], good + b"\0", good[:40]):
        assert post(client, "/encode?model=toy-binary", damaged, NPY, NPY).status_code == 400


def test_a_body_in_pieces_is_answered(client: Client, handled: list[str]) -> None:
    body = npy(images("toy-binary"))

    async def pieces() -> Any:
        for start in range(0, len(body), 50):
            yield body[start : start + 50]

    answer = client.post("/encode?model=toy-binary", content=pieces(), headers={"content-type": NPY, "accept": NPY})
    assert handled == []
    assert answer.content == post(client, "/encode?model=toy-binary", body, NPY, NPY).content
