"""The HTTP contract for models of several grids of codes, against the toys' mathematics in numpy."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codec.container import read_container
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, loaded, npy, picture, png, post, serving
from tests.toys import chains
from tests.toys.chains import ToyChain
from tests.toys.publish import publish

NPY, NPZ, JSON, PNG = "application/x-npy", "application/x-npz", "application/json", "image/png"
CONTAINER, EVENTS = "application/vnd.latentd", "text/event-stream"
TREE, STACK = "toy-tree", "toy-stack"
NOBODY = len(chains.CLASSES)


@pytest.fixture(scope="module")
def toys() -> dict[str, ToyChain]:
    """Two levels, and one level of three codebooks."""
    return {TREE: chains.make(1, (4, 2), ((5,), (6,))), STACK: chains.make(2, (2,), ((5, 5, 5),))}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, toys: dict[str, ToyChain]) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("chains")
    for name, toy in toys.items():
        publish(root, name, chains.toy(toy))
    settings = Settings(store=root, device="cpu", threads=1, models=tuple(toys), buckets=(1, 4), slots=3, max_rows=20)
    with serving(settings) as client:
        yield client


@pytest.fixture(params=[TREE, STACK])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def archive(answer: object) -> dict[str, np.ndarray]:
    assert answer.status_code == 200, answer.text  # type: ignore[attr-defined]
    return dict(loaded(answer.content))  # type: ignore[attr-defined]


def is_close(images: np.ndarray, mean: np.ndarray) -> bool:
    return bool(np.abs(images - np.clip(mean, 0, 255)).max() <= 0.51)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(found[name], array) for name, array in expected.items())


def test_what_encode_answers_decode_takes(client: Client, toys: dict[str, ToyChain], name: str) -> None:
    toy, path = toys[name], f"/encode?model={name}&output=codes,z_q"
    images = toy.images(3)
    codes = toy.encode(images)
    found = archive(post(client, path, npy(images), NPY, NPZ))
    assert list(found) == [*toy.names, *(one.replace("codes", "z_q") for one in toy.names)]
    assert same(found, codes)
    for one in toy.names:
        assert np.allclose(found[one.replace("codes", "z_q")][..., 0], toy.vectors(codes, one), atol=1e-6)
    answer = post(client, path, npy(images), NPY)
    items = answer.json()["items"]
    assert [{one: item[one] for one in toy.names} for item in items] == [
        {one: codes[one][row].tolist() for one in toy.names} for row in range(3)
    ]
    for content, kind in ((npz(found), NPZ), (json.dumps({"items": items}).encode(), JSON)):
        decoded = loaded(post(client, f"/decode?model={name}", content, kind, NPY).content)
        assert is_close(decoded, toy.decode(codes))


def test_one_array_is_asked_for_where_one_fits(client: Client, toys: dict[str, ToyChain]) -> None:
    tree, stack = toys[TREE], toys[STACK]
    images = stack.images(2)
    grids = loaded(post(client, f"/encode?model={STACK}", npy(images), NPY, NPY).content)
    assert np.array_equal(grids, stack.encode(images)["codes"])
    assert is_close(
        loaded(post(client, f"/decode?model={STACK}", npy(grids), NPY, NPY).content), stack.decode({"codes": grids})
    )
    refused = post(client, f"/encode?model={TREE}", npy(images), NPY, NPY)
    assert refused.status_code == 406
    assert "output=codes_0" in refused.json()["detail"]
    alone = loaded(post(client, f"/encode?model={TREE}&output=codes_1", npy(images), NPY, NPY).content)
    assert np.array_equal(alone, tree.encode(images)["codes_1"])


@pytest.mark.parametrize("codebooks", [1, 2, 3])
def test_fewer_codebooks_are_a_lower_rate(client: Client, toys: dict[str, ToyChain], codebooks: int) -> None:
    toy = toys[STACK]
    images = toy.images(1)
    codes = toy.encode(images)["codes"].copy()
    codes[:, codebooks:] = -1
    query = f"model={STACK}&codebooks={codebooks}"
    assert np.array_equal(loaded(post(client, f"/encode?{query}", npy(images), NPY, NPY).content), codes)
    decoded = loaded(post(client, f"/decode?model={STACK}", npy(codes), NPY, NPY).content)
    assert is_close(decoded, toy.decode({"codes": codes}))
    through = loaded(post(client, f"/reconstruct?{query}", npy(images), NPY, NPY).content)
    assert np.array_equal(through, decoded)
    file = post(client, f"/compress?{query}", png(images[0]), PNG).content
    container = read_container(file)
    # 16 places of three bits a codebook are 6 bytes.
    assert (container.grids[0].num_codebooks, len(container.payload)) == (codebooks, 6 * codebooks)
    back = archive(post(client, "/decompress?output=codes,images", file, CONTAINER, NPZ))
    assert np.array_equal(back["codes"], codes)
    assert np.array_equal(back["images"], decoded)


def test_levels_go_through_a_container(client: Client, toys: dict[str, ToyChain]) -> None:
    toy = toys[TREE]
    images = toy.images(1)
    file = post(client, f"/compress?model={TREE}", png(images[0]), PNG).content
    back = archive(post(client, "/decompress?output=codes,images", file, CONTAINER, NPZ))
    assert list(back) == ["codes_0", "codes_1", "images"]
    assert same(back, toy.encode(images))
    assert is_close(back["images"], toy.decode(toy.encode(images)))
    assert post(client, "/decompress?output=codes", file, CONTAINER, NPY).status_code == 406
    assert picture(post(client, "/decompress", file, CONTAINER).content).shape == (8, 8)


@pytest.mark.parametrize(("query", "top_p"), [("", 1.0), ("&top_p=0.6", 0.6)])
def test_samples_are_those_of_full_passes_link_by_link(
    client: Client, toys: dict[str, ToyChain], name: str, query: str, top_p: float
) -> None:
    toy = toys[name]
    found = archive(post(client, f"/sample?model={name}&n=5&seed=3&label=bar{query}", accept=NPZ))
    expected = toy.joined(toy.sample(5, 3, np.full(5, 1), top_p=top_p))
    assert same(found, expected)
    assert is_close(found["images"], toy.decode(expected))
    alone = archive(post(client, f"/sample?model={name}&seed=3&first_index=4&label=bar{query}", accept=NPZ))
    assert all(np.array_equal(alone[one][0], found[one][4]) for one in toy.names)


def test_known_codes_stay_and_the_others_are_drawn_given_them(client: Client, toys: dict[str, ToyChain]) -> None:
    toy = toys[STACK]
    codes = toy.encode(toy.images(2))["codes"]
    codes[:, :, 2:] = -1
    codes[1, 2] = -1
    expected = toy.joined(toy.sample(2, 7, np.full(2, NOBODY), known=[codes[:, book] for book in range(3)]))["codes"]
    assert np.array_equal(expected[codes >= 0], codes[codes >= 0])
    for content, kind in (
        (npy(codes), NPY),
        (npz({"codes": codes}), NPZ),
        (json.dumps({"known": codes.tolist()}).encode(), JSON),
    ):
        found = archive(post(client, f"/sample?model={STACK}&seed=7", content, kind, NPZ))
        assert np.array_equal(found["codes"], expected)
    one = json.dumps({"known": codes[0].tolist(), "n": 2, "seed": 7}).encode()
    rows = archive(post(client, f"/sample?model={STACK}", one, JSON, NPZ))["codes"]
    assert np.array_equal(rows[0], expected[0])
    assert np.array_equal(rows[1][codes[0] >= 0], codes[0][codes[0] >= 0])


def test_the_top_level_alone_may_be_known(client: Client, toys: dict[str, ToyChain]) -> None:
    toy = toys[TREE]
    top = toy.encode(toy.images(3))["codes_0"]
    expected = toy.joined(toy.sample(3, 5, np.full(3, NOBODY), known=[top, None]))
    body = json.dumps({"known": {"codes_0": top.tolist()}, "seed": 5}).encode()
    assert same(archive(post(client, f"/sample?model={TREE}", body, JSON, NPZ)), expected)


def test_likelihood_sums_over_the_links(client: Client, toys: dict[str, ToyChain], name: str) -> None:
    toy = toys[name]
    images = toy.images(3)
    codes, condition = toy.encode(images), np.array([0, 1, NOBODY])
    nats = toy.joined(toy.surprise(codes, condition))
    answer = post(client, f"/likelihood?model={name}&labels=ring,bar,none&surprise=true", npy(images), NPY)
    assert answer.status_code == 200, answer.text
    rates = sum(one.sum(axis=tuple(range(1, one.ndim))) for one in nats.values())
    tokens = sum(one[0].size for one in nats.values())
    for row, item in enumerate(answer.json()["items"]):
        assert item["prior"] == "learned"
        assert item["kl_nats"] == pytest.approx(rates[row], rel=1e-5)
        assert item["reconstruction_nats"] == pytest.approx(toy.log_likelihood(images, codes)[row].sum(), rel=1e-5)
        assert item["bits_per_token"] == pytest.approx(rates[row] / tokens / np.log(2), rel=1e-5)
        for level, one in enumerate(nats.values()):
            end = f"_{level}" if len(nats) > 1 else ""
            np.testing.assert_allclose(item[f"surprise_nats{end}"], one[row], atol=1e-4)
            assert item[f"bits_per_token{end}"] == pytest.approx(one[row].mean() / np.log(2), rel=1e-5)
    shown = post(client, f"/likelihood?model={name}", npy(images[:1]), NPY, PNG)
    low, high = (float(part) for part in shown.headers["x-latentd-surprise-nats"].split(","))
    none = toy.surprise(toy.encode(images[:1]), np.array([NOBODY]))
    places = sum(chains._enlarge(one, 4 // one.shape[1]) for one in none)
    assert (low, high) == (pytest.approx(places.min(), abs=1e-3), pytest.approx(places.max(), abs=1e-3))
    assert picture(shown.content).shape == (8, 8, 3)


def test_every_codebook_is_told(client: Client, toys: dict[str, ToyChain], name: str) -> None:
    toy = toys[name]
    for level, books in enumerate(toy.books):
        for index, book in enumerate(books):
            path = f"/models/{name}/codebook?level={level}&codebook={index}"
            assert np.array_equal(loaded(client.get(path, headers={"accept": NPY}).content)[:, 0], book)
    for query in (f"level={len(toy.books)}", "codebook=3", "level=-1"):
        assert client.get(f"/models/{name}/codebook?{query}").status_code == 422


def test_a_chain_is_shown_as_it_grows(client: Client, toys: dict[str, ToyChain], name: str) -> None:
    answer = post(client, f"/sample?model={name}&n=2&seed=3", accept=EVENTS)
    assert answer.status_code == 200, answer.text
    events = [
        (event.split("\n")[0].removeprefix("event: "), json.loads(event.split("\n")[1].removeprefix("data: ")))
        for event in answer.text.split("\n\n")
        if event.startswith("event")
    ]
    kinds = [kind for kind, _ in events]
    assert kinds[-1] == "result"
    toy = toys[name]
    places = 2 * sum(toy.grid(link) ** 2 for link in range(len(toy.links)))
    shares = [(event["done"], event["of"]) for kind, event in events if kind == "progress"]
    assert all(of == places and 0 < done <= places for done, of in shares)
    assert shares == sorted(shares)
    expected = toy.joined(toy.sample(2, 3, np.full(2, NOBODY)))
    for row, item in enumerate(events[-1][1]["items"]):
        assert all(item[one] == expected[one][row].tolist() for one in toy.names)


def test_a_job_draws_a_chain(client: Client, toys: dict[str, ToyChain]) -> None:
    answer = client.post(f"/sample?model={TREE}&n=2&seed=3", headers={"prefer": "respond-async"})
    assert answer.status_code == 202
    path = answer.headers["location"]
    while (job := client.get(path).json())["state"] in ("queued", "running"):
        assert job["progress"] is None or 0 <= job["progress"] <= 1
    assert job["state"] == "done"


GREY = np.zeros((1, 8, 8, 1), dtype=np.uint8)


def codes_of(shape: tuple[int, ...], value: int = 0) -> np.ndarray:
    return np.full(shape, value, dtype=np.int32)


@pytest.mark.parametrize(
    ("status", "path", "data", "content_type", "accept", "told"),
    [
        (422, f"/encode?model={TREE}&codebooks=1", npy(GREY), NPY, "*/*", "one codebook a level"),
        (422, f"/encode?model={STACK}&codebooks=4", npy(GREY), NPY, "*/*", "expected 1 .. 3"),
        (422, f"/encode?model={TREE}&output=codes_2", npy(GREY), NPY, "*/*", "codes_0, codes_1, z_q"),
        (422, f"/decode?model={TREE}", npy(codes_of((1, 2, 2))), NPY, "*/*", "holds one array"),
        (422, f"/decode?model={TREE}", npz({"codes_0": codes_of((1, 2, 2))}), NPZ, "*/*", "named 'codes_1'"),
        (422, f"/decode?model={TREE}", b'{"items": [{"codes_0": [[1]]}]}', JSON, "*/*", "no 'codes_1'"),
        (
            422,
            f"/decode?model={TREE}",
            npz({"codes_0": codes_of((2, 2, 2)), "codes_1": codes_of((1, 4, 4))}),
            NPZ,
            "*/*",
            "codes_1 is [1, 4, 4], expected [2, 4, 4]",
        ),
        (
            422,
            f"/decode?model={TREE}",
            npz({"codes_0": codes_of((1, 2, 2)), "codes_1": codes_of((1, 4, 4), 6)}),
            NPZ,
            "*/*",
            "codes_1[0, 0, 0] is 6, expected 0 .. 5",
        ),
        (422, f"/decode?model={STACK}", npy(codes_of((1, 3, 4, 4), -1)), NPY, "*/*", "codes[0, 0, 0, 0] is -1"),
        (422, f"/decode?model={STACK}", npy(codes_of((1, 3, 4, 4), -2)), NPY, "*/*", "is -2"),
        (422, f"/decode?model={STACK}", npy(codes_of((1, 2, 4, 4))), NPY, "*/*", "expected [1, 3, 4, 4]"),
        (422, f"/decode?model={STACK}", npy(codes_of((1, 4, 4))), NPY, "*/*", "int32 [B, 3, h, w]"),
        (422, f"/decode?model={STACK}", b'{"items": [{"codes": [[1]]}]}', JSON, "*/*", "3 deep"),
        (406, f"/sample?model={TREE}&output=codes", b"", "", NPY, "accept application/json or"),
        (422, f"/sample?model={STACK}", npy(codes_of((1, 3, 4, 5))), NPY, "*/*", "expected [1, 3, 4, 4]"),
        (422, f"/sample?model={STACK}", npy(codes_of((1, 3, 4, 4), 5)), NPY, "*/*", "is 5, expected -1 .. 4"),
        (422, f"/sample?model={STACK}&n=3", npy(codes_of((2, 3, 4, 4))), NPY, "*/*", "one row for all"),
        (422, f"/sample?model={STACK}", npy(np.zeros((1, 3, 4, 4))), NPY, "*/*", "the array is float64"),
        (422, f"/sample?model={TREE}", npy(codes_of((1, 2, 2))), NPY, "*/*", "holds one array"),
        (422, f"/sample?model={TREE}", npz({"codes": codes_of((1, 2, 2))}), NPZ, "*/*", "['codes']"),
        (422, f"/sample?model={TREE}", b'{"known": [[0]]}', JSON, "*/*", "an object with 'codes_0' and 'codes_1'"),
        (422, f"/sample?model={TREE}", b'{"known": {"codes_0": [[0.5]]}}', JSON, "*/*", "whole numbers"),
        (422, f"/sample?model={TREE}", b'{"known": {"codes_0": 7}}', JSON, "*/*", "whole numbers"),
        (422, f"/sample?model={TREE}", b'{"known": {}}', JSON, "*/*", "codes_0, int32"),
        (422, f"/sample?model={TREE}&top_p=0", b"", "", "*/*", "top_p"),
        (422, f"/sample?model={TREE}&top_k=7", b"", "", "*/*", "expected 1 .. 6"),
        (422, f"/sample?model={TREE}&label=ring&labels=bar", b"", "", "*/*", "give one"),
        (422, f"/sample?model={TREE}&speaker=anna", b"", "", "*/*", "knows no speakers"),
        (422, f"/sample?model={TREE}&height=16", b"", "", "*/*", "height"),
        (422, f"/decode?model={STACK}&speaker=anna", npy(codes_of((1, 3, 4, 4))), NPY, "*/*", "leave speaker out"),
    ],
)  # fmt: skip
def test_every_mistake_is_told_with_its_cure(
    client: Client, status: int, path: str, data: bytes, content_type: str, accept: str, told: str
) -> None:
    answer = post(client, path, data, content_type, accept)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert told in answer.json()["detail"]


def test_items_hold_pictures_and_codes(client: Client, toys: dict[str, ToyChain]) -> None:
    (item,) = post(client, f"/sample?model={TREE}&seed=3", accept=JSON).json()["items"]
    assert set(item) == {"image", "codes_0", "codes_1"}
    assert picture(base64.b64decode(item["image"])).shape == (8, 8)


def test_v2_tells_of_every_graph_and_runs_it(client: Client, toys: dict[str, ToyChain]) -> None:
    toy = toys[TREE]
    told = client.get(f"/v2/models/{TREE}.decode").json()
    assert [(one["name"], one["shape"]) for one in told["inputs"]] == [("codes_0", [-1, 2, 2]), ("codes_1", [-1, 4, 4])]
    codes = toy.encode(toy.images(2))

    def infer(role: str, inputs: dict[str, np.ndarray]) -> object:
        tensors = [
            {
                "name": one,
                "datatype": "INT32" if array.dtype == np.int32 else "FP32",
                "shape": array.shape,
                "data": array.ravel().tolist(),
            }
            for one, array in inputs.items()
        ]
        return client.post(f"/v2/models/{TREE}.{role}/infer", json={"inputs": tensors})

    (mean,) = infer("decode", codes).json()["outputs"]  # type: ignore[attr-defined]
    assert np.allclose(np.reshape(mean["data"], mean["shape"]), toy.decode(codes), atol=1e-3)
    (given,) = infer("prior_1_given", {"codes_0": codes["codes_0"]}).json()["outputs"]  # type: ignore[attr-defined]
    expected = chains._enlarge(toy.tables["G1x0"][codes["codes_0"]], 2)
    assert np.allclose(np.reshape(given["data"], given["shape"]), expected, atol=1e-5)
    refused = infer("decode", codes | {"codes_1": codes["codes_1"] + 6})
    assert refused.status_code == 422  # type: ignore[attr-defined]
    assert "codes_1[0, 0, 0]" in refused.json()["error"]  # type: ignore[attr-defined]


def test_the_shipped_prior_draws_what_it_always_drew() -> None:
    """The codes of a seed, as they were before there were chains of links."""
    settings = Settings(store=Path("pretrained"), models=("cifar-vq",), device="cpu", threads=1, slots=2, buckets=(1,))
    with serving(settings) as client:
        path = "/sample?n=2&seed=11&labels=cat,none&temperature=0.9&top_k=100&output=codes"
        codes = loaded(post(client, path, accept=NPY).content)
    assert codes.shape == (2, 8, 8)
    assert codes[0, 0].tolist() == [85, 85, 360, 48, 235, 347, 327, 162]
    assert codes[1, 7].tolist() == [227, 238, 210, 210, 210, 95, 95, 344]
    assert int(codes.sum()) == 28560
