"""What is refused for its size, and what is told in which type, before anything is computed."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.settings import Settings
from tests.service.serving import PROBLEM, Client, form, loaded, npy, picture, png, post, serving
from tests.toys.tokens import ToyTokens

NPY, JSON, PNG, CONTAINER = "application/x-npy", "application/json", "image/png", "application/vnd.latentd"
FREE = "model=toy-tokens"


@pytest.fixture(scope="module")
def client(store_root: Path) -> Iterator[Client]:
    models = ("toy-tokens-prior", "toy-tokens", "toy-binary")
    settings = Settings(
        store=store_root, models=models, device="cpu", threads=1, max_json_body_bytes=2000, max_json_values=15
    )
    with serving(settings) as client:
        yield client


@pytest.fixture
def free(toy_tokens: dict[str, ToyTokens]) -> ToyTokens:
    return toy_tokens["toy-tokens"]


def images_of(answer: Any) -> list[np.ndarray]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JSON
    return [picture(base64.b64decode(item["image"])) for item in answer.json()["items"]]


def refused(answer: Any, status: int, *told: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    for text in told:
        assert text in answer.json()["detail"]


def test_json_answers_hold_so_many_numbers_and_any_number_of_pictures(client: Client) -> None:
    refused(post(client, "/sample?seed=1", accept=JSON), 413, "16 numbers, at most 15", "application/x-npz")
    assert loaded(post(client, "/sample?seed=1&output=codes", accept=NPY).content).shape == (1, 4, 4)
    assert len(images_of(post(client, "/sample?seed=1&n=30&output=images", accept=JSON))) == 30
    refused(client.get("/models/toy-tokens-prior/codebook"), 413, "18 numbers")
    assert client.get("/models/toy-tokens/codebook").status_code == 200


def test_a_form_of_sound_is_told_what_the_endpoint_takes(client: Client) -> None:
    data, content_type = form(b"RIFF")
    data = data.replace(b'"a"', b'"a"\r\nContent-Type: audio/wav')
    refused(post(client, "/encode", data, content_type), 415, "audio/wav", "send one of: image/png")
    refused(post(client, "/decompress", data, content_type), 415, f"send one of: {CONTAINER}")


def test_json_bodies_have_a_limit_of_their_own(client: Client, free: ToyTokens) -> None:
    long = json.dumps({"items": [], "fit": "p" * 2000}).encode()
    refused(post(client, "/encode", long, JSON), 413, "larger than 2000 bytes of JSON; send image/png or", NPY)
    refused(post(client, "/sample", long, JSON), 413, "split it")
    many = npy(free.images(5, 16, 16))
    assert len(many) > 2000
    assert post(client, f"/reconstruct?{FREE}", many, NPY).status_code == 200


def test_pictures_of_differing_size_are_answered_as_json_to_whoever_takes_it(client: Client, free: ToyTokens) -> None:
    pictures = [free.images(1, height, 8)[0] for height in (6, 7)]
    body = form(*map(png, pictures))
    through = images_of(post(client, f"/reconstruct?{FREE}", *body))
    assert [image.shape for image in through] == [(6, 8, 3), (7, 8, 3)]
    for accept in (PNG, NPY):
        refused(post(client, f"/reconstruct?{FREE}", *body, accept), 406, "only application/json can hold")
    files = [post(client, f"/compress?{FREE}", png(image), PNG).content for image in pictures]
    back = images_of(post(client, "/decompress", *form(*files)))
    assert all(np.array_equal(one, other) for one, other in zip(back, through, strict=True))


def test_what_one_endpoint_answers_another_takes(client: Client, free: ToyTokens) -> None:
    compressed = post(client, f"/compress?{FREE}", npy(free.images(2)), NPY, JSON)
    assert len(images_of(post(client, "/decompress", compressed.content, JSON, JSON))) == 2


def test_what_sample_answers_decode_takes(store_root: Path) -> None:
    with serving(Settings(store=store_root, models=("toy-tokens-prior",), device="cpu", threads=1)) as client:
        drawn = post(client, "/sample?n=2&seed=3", accept=JSON)
        decoded = images_of(post(client, "/decode", drawn.content, JSON, JSON))
        for one, other in zip(decoded, images_of(drawn), strict=True):
            assert np.array_equal(one, other)


def test_a_fault_names_its_item(client: Client, free: ToyTokens) -> None:
    good = png(free.images(1)[0])
    refused(post(client, f"/encode?{FREE}", *form(good, good[:40])), 400, "item 1: ")
    refused(
        post(client, f"/encode?{FREE}&fit=error", *form(png(free.images(1, 9, 8)[0]), good)), 422, "item 0: found 9"
    )
    alone = post(client, f"/encode?{FREE}", *form(good[:40]))
    refused(alone, 400)
    assert "item" not in alone.json()["detail"]
    container = post(client, f"/compress?{FREE}", good, PNG).content
    refused(post(client, "/decompress", *form(container, container[:-1])), 400, "item 1: ", "damaged")
    refused(post(client, "/decompress", *form(container[:-1], container)), 400, "item 0: ")
    items = json.dumps({"items": [{"container": base64.b64encode(container).decode()}, {"container": "*"}]}).encode()
    refused(post(client, "/decompress", items, JSON), 400, "item 1: ", "base64")


def test_a_map_runs_nothing_but_what_it_shows(
    client: Client, toy_tokens: dict[str, ToyTokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = client.app.state.service.engine
    asked, run = [], engine.run

    async def watched(model: Any, graph: str, *given: Any, **options: Any) -> Any:
        asked.append(graph)
        return await run(model, graph, *given, **options)

    monkeypatch.setattr(engine, "run", watched)
    image = toy_tokens["toy-tokens-prior"].images(1)[0]
    assert post(client, "/likelihood", png(image), PNG, PNG).status_code == 200
    assert asked == ["encode", "prior"]
    refused(post(client, f"/likelihood?{FREE}", png(image.repeat(3, 2)), PNG, PNG), 409, "nothing to show")


def test_the_models_are_not_told_before_they_are_loaded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.service.engine, "_phase", "loading")
    for path in ("/models", "/models/toy-tokens"):
        answer = client.get(path)
        refused(answer, 503, "loading")
        assert answer.headers["retry-after"] == "2"


def test_openapi_tells_lists_and_what_is_special(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, name in (("/sample", "output"), ("/likelihood", "bounds")):
        parameters = paths[path]["post"]["parameters"]
        lists = {one["name"] for one in parameters if one.get("style") == "form" and one["explode"] is False}
        assert lists == {"label", "labels", "speaker", name}
    told = paths["/sample"]["post"]["requestBody"]["content"][JSON]["schema"]["properties"]
    assert ("items" in told, "known" in told) == (False, True)
    assert "items" in paths["/encode"]["post"]["requestBody"]["content"][JSON]["schema"]["properties"]
    codebook = paths["/models/{name}/codebook"]["get"]["responses"]["200"]["content"][JSON]["schema"]
    assert set(codebook["properties"]) == {"model", "codebook"}
    asked = paths["/models/{name}/codebook"]["get"]["parameters"]
    assert {one["name"] for one in asked} == {"name", "level", "codebook"}
    assert set(paths["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}
    assert "503" in paths["/readyz"]["get"]["responses"]
    described = paths["/models/{name}"]["get"]["responses"]
    assert {"404", "422", "503"} <= set(described)
    assert all(set(described[status]["content"]) == {PROBLEM} for status in ("404", "422"))
