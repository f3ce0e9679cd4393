"""A prior over grids of any size: likelihood and draws at sizes that its steps were not made for."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artifact.manifest import Windows
from service.settings import Settings
from tests.service.serving import Client, loaded, npy, post, serving
from tests.toys import chains, free, tokens
from tests.toys.publish import publish
from tests.toys.tokens import ToyTokens

NPY, NPZ, JSON = "application/x-npy", "application/x-npz", "application/json"


@pytest.fixture(scope="module")
def model() -> ToyTokens:
    return tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)


@pytest.fixture(scope="module")
def tables(model: ToyTokens) -> dict[str, np.ndarray]:
    return free.tables(model, 3)


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, model: ToyTokens, tables: dict[str, np.ndarray]
) -> Iterator[Client]:
    root: Path = tmp_path_factory.mktemp("free")
    publish(root, "free", free.toy(model, tables))
    publish(root, "tree", chains.toy(chains.make(1, (4, 2), ((5,), (6,)))))
    settings = Settings(
        store=root, device="cpu", threads=1, models=("free", "tree"), buckets=(1, 4), slots=2, max_pixels=3000
    )
    with serving(settings) as client:
        yield client


@pytest.mark.parametrize(("height", "width"), [(8, 8), (12, 28), (20, 4)])
def test_any_picture_has_a_probability(
    client: Client, model: ToyTokens, tables: dict[str, np.ndarray], height: int, width: int
) -> None:
    images = model.images(2, height, width)
    nats = free.surprise(tables, model.encode(images))
    answer = post(client, "/likelihood?surprise=true", npy(images), NPY)
    for row, item in enumerate(answer.json()["items"]):
        assert item["prior"] == "learned"
        assert item["kl_nats"] == pytest.approx(nats[row].sum(), rel=1e-5)
        np.testing.assert_allclose(item["surprise_nats"], nats[row], atol=1e-4)


def test_what_runs_in_pieces_alone_is_not_run_whole(
    tmp_path: Path, model: ToyTokens, tables: dict[str, np.ndarray]
) -> None:
    publish(tmp_path, "free", replace(free.toy(model, tables), windows=Windows(encode_halo=0, decode_halo=0)))
    with serving(Settings(store=tmp_path, device="cpu", threads=1, buckets=(1,))) as client:
        images = model.images(1, 8, 72)
        codes = loaded(post(client, "/encode", npy(images), NPY, NPY).content)
        assert np.array_equal(codes, model.encode(images))
        refused = post(client, "/likelihood", npy(images), NPY)
        assert (refused.status_code, "the prior of free@1 takes at once" in refused.json()["detail"]) == (413, True)
        tensor = {"name": "codes", "datatype": "INT32", "shape": codes.shape, "data": codes.ravel().tolist()}
        for role in ("decode", "prior"):
            refused = client.post(f"/v2/models/free.{role}/infer", json={"inputs": [tensor]})
            assert (refused.status_code, "takes at once, sides up to 64" in refused.json()["error"]) == (413, True)


@pytest.mark.parametrize(
    ("query", "grid"), [("", (2, 2)), ("&height=12&width=28", (3, 7)), ("&width=4", (2, 1)), ("&height=20", (5, 2))]
)
def test_grids_of_any_size_are_drawn(
    client: Client, model: ToyTokens, tables: dict[str, np.ndarray], query: str, grid: tuple[int, int]
) -> None:
    found = loaded(post(client, f"/sample?n=3&seed=6{query}", accept=NPZ).content)
    expected = free.sample(tables, 3, 6, *grid)
    assert np.array_equal(found["codes"], expected)
    assert np.abs(found["images"] - np.clip(model.decode(expected), 0, 255)).max() <= 0.51


def test_more_sizes_than_are_kept_are_drawn_all_the_same(client: Client, tables: dict[str, np.ndarray]) -> None:
    for width in (*range(4, 52, 4), 4):
        codes = loaded(post(client, f"/sample?seed=2&height=4&width={width}&output=codes", accept=NPY).content)
        assert np.array_equal(codes, free.sample(tables, 1, 2, 1, width // 4))


def test_a_larger_picture_grows_around_known_codes(client: Client) -> None:
    known = np.full((1, 3, 4), -1)
    known[0, :, :2] = 5
    body = json.dumps({"known": known.tolist(), "height": 12, "width": 16, "seed": 1, "output": ["codes"]}).encode()
    codes = loaded(post(client, "/sample", body, JSON, NPY).content)
    assert (codes[0, :, :2] == 5).all()
    assert ((codes >= 0) & (codes < 7)).all()


@pytest.mark.parametrize(
    ("status", "query", "told"),
    [
        (422, "height=10", "multiples of 4 up to 64"),
        (422, "height=68", "multiples of 4 up to 64"),
        (413, "height=64&width=64", "at most 3000"),
        (422, "model=tree&height=16", "draws 8 x 8 alone"),
        (422, "height=0", "height"),
    ],
)
def test_other_sizes_are_refused(client: Client, status: int, query: str, told: str) -> None:
    answer = post(client, f"/sample?{query}")
    assert answer.status_code == status, answer.text
    assert told in answer.json()["detail"]
