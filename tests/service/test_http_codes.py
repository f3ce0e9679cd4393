"""The HTTP contract for models of integer codes, against the toys' mathematics in numpy."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from artifact.noise import CODES_STREAM, batch_uniform
from media.heatmap import heatmap
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, loaded, npy, picture, png, post, serving
from tests.toys import tokens
from tests.toys.publish import publish
from tests.toys.tokens import ToyTokens

NPY, NPZ, JSON, PNG = "application/x-npy", "application/x-npz", "application/json", "image/png"


@pytest.fixture(scope="module")
def client(store_root: Path) -> Iterator[Client]:
    settings = Settings(
        store=store_root,
        device="cpu",
        threads=1,
        models=("toy-tokens-prior", "toy-tokens", "toy-binary"),
        max_rows=40,
        max_pixels=4000,
        max_request_pixels=40_000,
    )
    with serving(settings) as client:
        yield client


@pytest.fixture
def free(toy_tokens: dict[str, ToyTokens]) -> ToyTokens:
    return toy_tokens["toy-tokens"]


@pytest.fixture
def fixed(toy_tokens: dict[str, ToyTokens]) -> ToyTokens:
    return toy_tokens["toy-tokens-prior"]


def padded(image: np.ndarray, multiple_of: int) -> np.ndarray:
    """Repeat the last row and column up to a multiple."""
    margins = [(0, -size % multiple_of) for size in image.shape[:2]]
    return np.pad(image, [*margins, (0, 0)], mode="edge")


def test_encode_gives_numpys_codes_of_any_size(client: Client, free: ToyTokens) -> None:
    images = free.images(3, 20, 36)
    codes = free.encode(images)
    assert len(np.unique(codes)) > 3
    found = loaded(post(client, "/encode?model=toy-tokens", npy(images), NPY, NPY).content)
    assert found.dtype == np.int32
    assert np.array_equal(found, codes)
    items = post(client, "/encode?model=toy-tokens", npy(images), NPY).json()["items"]
    assert [item.keys() for item in items] == [{"codes"}] * 3
    assert np.array_equal([item["codes"] for item in items], codes)
    odd = free.images(1, 13, 6)[0]
    (item,) = post(client, "/encode?model=toy-tokens", png(odd), PNG).json()["items"]
    assert np.array_equal(item["codes"], free.encode(padded(odd, 4)[None])[0])


def test_output_says_what_is_answered_and_what_comes_first(client: Client, free: ToyTokens) -> None:
    images = free.images(2)
    codes, path = free.encode(images), "/encode?model=toy-tokens&output="
    vectors = loaded(post(client, f"{path}z_q,codes", npy(images), NPY, NPY).content)
    np.testing.assert_array_equal(vectors, free.weights["E"][codes])
    archive = loaded(post(client, f"{path}codes,z_q", npy(images), NPY, NPZ).content)
    assert archive.files == ["codes", "z_q"]
    body = json.dumps({"items": [{"image": base64.b64encode(png(images[0])).decode()}], "output": ["z_q"]}).encode()
    (item,) = post(client, "/encode?model=toy-tokens", body, JSON).json()["items"]
    assert list(item) == ["z_q"]
    black = np.zeros((1, 8, 8, 1), dtype=np.uint8)
    (item,) = post(client, "/encode?model=toy-binary&output=log_variance", npy(black), NPY).json()["items"]
    assert list(item) == ["log_variance"]


def test_what_encode_answers_decode_takes(client: Client, free: ToyTokens) -> None:
    images = free.images(2, 8, 12)
    expected = np.clip(free.decode(free.encode(images)), 0, 255)
    for kind in (JSON, NPY, NPZ):
        content = post(client, "/encode?model=toy-tokens&output=codes,z_q", npy(images), NPY, kind).content
        if kind == JSON:
            content = json.dumps({"items": json.loads(content)["items"]}).encode()
        decoded = loaded(post(client, "/decode?model=toy-tokens", content, kind, NPY).content)
        assert decoded.shape == (2, 8, 12, 3)
        assert np.abs(decoded - expected).max() <= 0.51
    for dtype in (np.uint8, np.int64, np.uint64, ">i2"):
        content = npy(free.encode(images).astype(dtype))
        assert np.array_equal(loaded(post(client, "/decode?model=toy-tokens", content, NPY, NPY).content), decoded), (
            dtype
        )


def test_reconstruct_crops_back_and_measures_the_original_alone(client: Client, free: ToyTokens) -> None:
    image = free.images(1, 13, 6)[0]
    answer = post(client, "/reconstruct?model=toy-tokens", png(image), PNG)
    through = picture(answer.content)
    expected = np.clip(free.decode(free.encode(padded(image, 4)[None]))[0, :13, :6], 0, 255)
    assert np.abs(through - expected).max() <= 0.51
    error = ((through.astype(float) - image) ** 2).mean()
    assert float(answer.headers["x-latentd-mse"]) == pytest.approx(error, abs=1e-3)


@pytest.mark.parametrize("options", ["", "&temperature=0.5&top_k=2", "&temperature=0", "&top_k=6&temperature=1.7"])
def test_samples_are_those_of_full_passes(client: Client, fixed: ToyTokens, options: str) -> None:
    answer = post(client, f"/sample?n=35&seed=9&first_index=5{options}", accept=NPZ)
    assert answer.headers["x-latentd-seed"] == "9"
    archive = loaded(answer.content)
    given = dict(part.split("=") for part in options.split("&") if part)
    uniform = batch_uniform(9, 5, 35, 16, stream=CODES_STREAM)
    expected = fixed.sample(
        uniform,
        np.full(35, len(fixed.classes)),
        temperature=float(given.get("temperature", 1.0)),
        top_k=int(given["top_k"]) if "top_k" in given else None,
    )
    assert np.array_equal(archive["codes"], expected)
    assert np.abs(archive["images"] - np.clip(fixed.decode(expected), 0, 255)).max() <= 0.51


def test_labels_condition_every_row_or_each_its_own(client: Client, fixed: ToyTokens) -> None:
    uniform = batch_uniform(1, 0, 4, 16, stream=CODES_STREAM)

    def codes(labels: object) -> np.ndarray:
        body = json.dumps({"n": 4, "seed": 1, "labels": labels}).encode()
        answer = post(client, "/sample", body, JSON)
        assert answer.status_code == 200, answer.text
        return np.array([item["codes"] for item in answer.json()["items"]])

    each = fixed.sample(uniform, np.array([2, 0, 3, 1]))
    assert np.array_equal(codes(["dot", 0, "none", "1"]), each)
    assert np.array_equal(codes(["bar"]), fixed.sample(uniform, np.full(4, 1)))
    query = loaded(post(client, "/sample?n=4&seed=1&labels=dot,ring,none,1&output=codes", accept=NPY).content)
    assert np.array_equal(query, each)


def test_a_sampled_row_stands_alone_and_output_chooses(client: Client) -> None:
    whole = loaded(post(client, "/sample?n=36&seed=3&output=codes", accept=NPY).content)
    assert whole.shape == (36, 4, 4)
    alone = loaded(post(client, "/sample?seed=3&first_index=33&output=codes,images", accept=NPY).content)
    assert np.array_equal(alone[0], whole[33])
    images = loaded(post(client, "/sample?seed=3&first_index=33&output=images", accept=NPZ).content)
    assert images.files == ["images"]
    (item,) = post(client, "/sample?seed=3&first_index=33", accept=JSON).json()["items"]
    assert picture(base64.b64decode(item["image"])).tolist() == images["images"][0, ..., 0].tolist()
    assert picture(post(client, "/sample?n=4&seed=3", accept=PNG).content).shape == (18, 18)


def test_likelihood_is_numpys_on_the_original_extent(client: Client, free: ToyTokens) -> None:
    image = free.images(1, 13, 6)[0]
    whole = padded(image, 4)[None]
    codes = free.encode(whole)
    pixels = free.log_likelihood(whole, codes)[0, :13, :6].sum()
    rate = codes.size * np.log(7)
    answer = post(client, "/likelihood?model=toy-tokens", png(image), PNG).json()
    assert "seed" not in answer
    (item,) = answer["items"]
    assert item["reconstruction_nats"] == pytest.approx(pixels, rel=1e-6)
    assert item["kl_nats"] == pytest.approx(rate)
    assert item["elbo_nats"] == item["reconstruction_nats"] - item["kl_nats"]
    assert item["bits_per_dim"] == pytest.approx(-(pixels - rate) / np.log(2) / (13 * 6 * 3), rel=1e-6)
    assert item["bits_per_token"] == pytest.approx(np.log2(7))
    assert (item["prior"], item["bits_per_dim_bound"]) == ("uniform", "elbo")
    for name in ("iwae_nats", "exact_nats", "iwae_standard_error_nats", "effective_sample_size"):
        assert item[name] is None


@pytest.mark.parametrize(
    ("labels", "condition"), [("", [3, 3, 3]), ("labels=bar", [1, 1, 1]), ("labels=2,none,0", [2, 3, 0])]
)
def test_likelihood_counts_the_codes_under_the_learned_prior(
    client: Client, fixed: ToyTokens, labels: str, condition: list[int]
) -> None:
    images = fixed.images(3)
    codes = fixed.encode(images)
    surprise = fixed.surprise(codes, np.array(condition))
    answer = post(client, f"/likelihood?surprise=true&{labels}", npy(images), NPY)
    for item, pixels, nats in zip(answer.json()["items"], fixed.log_likelihood(images, codes), surprise, strict=True):
        assert item["prior"] == "learned"
        assert item["reconstruction_nats"] == pytest.approx(pixels.sum(), rel=1e-6)
        assert item["kl_nats"] == pytest.approx(nats.sum(), rel=1e-5)
        assert item["bits_per_token"] == pytest.approx(nats.mean() / np.log(2), rel=1e-5)
        np.testing.assert_allclose(item["surprise_nats"], nats, atol=1e-4)
    archive = loaded(post(client, f"/likelihood?surprise=true&{labels}", npy(images), NPY, NPZ).content)
    assert archive["surprise_nats"].shape == (3, 4, 4)
    plain = loaded(post(client, f"/likelihood?bounds=elbo,elbo&{labels}", npy(images), NPY, NPY).content)
    assert plain.tolist() == pytest.approx([item["elbo_nats"] for item in answer.json()["items"]])


def test_labels_are_refused_where_the_prior_does_not_reach(settings: Settings, tmp_path: Path) -> None:
    """A model that takes any size, with a prior over one."""
    make = partial(tokens.make, 4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    free, fixed = tokens.toy(make()), tokens.toy(tokens.with_prior(make(side=16), 6, tokens.CLASSES))
    prior = {role: program for role, program in fixed.programs.items() if role.startswith("prior")}
    both = {"programs": free.programs | prior, "prior": fixed.prior, "prior_weights": fixed.prior_weights}
    publish(tmp_path, "free-prior", replace(free, capabilities=fixed.capabilities, **both))
    with serving(settings.model_copy(update={"store": tmp_path, "models": ()})) as client:
        covered, other = (npy(make().images(2, side, side)) for side in (16, 8))
        for body, query, status in ((covered, "labels=bar", 200), (other, "", 200), (other, "labels=bar", 422)):
            answer = post(client, f"/likelihood?{query}", body, NPY)
            assert answer.status_code == status, answer.text
        assert "over another size of pictures; leave labels out" in answer.json()["detail"]
        answer = post(client, "/likelihood", other, NPY, PNG)
        assert answer.status_code == 409


def test_surprise_is_shown_where_it_is(client: Client, fixed: ToyTokens) -> None:
    image = fixed.images(1, 7, 5)[0]
    answer = post(client, "/likelihood?fit=pad", png(image), PNG, PNG)
    surprise = fixed.surprise(fixed.encode(np.pad(image, ((0, 1), (0, 3), (0, 0)), mode="edge")[None]), np.array([3]))
    low, high = (float(part) for part in answer.headers["x-latentd-surprise-nats"].split(","))
    assert (low, high) == (pytest.approx(surprise.min(), abs=1e-4), pytest.approx(surprise.max(), abs=1e-4))
    expected = heatmap(surprise, low=surprise.min(), high=surprise.max(), scale=2)[0, :7, :5]
    shown = picture(answer.content)
    assert shown.shape == (7, 5, 3)
    assert np.abs(shown.astype(int) - expected).max() <= 1
    sheet = post(client, "/likelihood", npy(fixed.images(4)), NPY, PNG)
    assert picture(sheet.content).shape == (18, 18, 3)


def test_the_codebook_is_told(client: Client, free: ToyTokens, fixed: ToyTokens) -> None:
    for name, toy in (("toy-tokens", free), ("toy-tokens-prior@1", fixed)):
        answer = client.get(f"/models/{name}/codebook", headers={"accept": NPY})
        assert answer.headers["x-latentd-model"] == f"{name.removesuffix('@1')}@1"
        assert answer.headers["server-timing"].startswith("compute;dur=")
        found = loaded(answer.content)
        assert found.dtype == np.float32
        assert np.array_equal(found, toy.weights["E"])
        listed = client.get(f"/models/{name}/codebook").json()
        np.testing.assert_array_equal(np.array(listed["codebook"], dtype=np.float32), toy.weights["E"])
    for path, status in (
        ("/models/toy-binary/codebook", 409),
        ("/models/nobody/codebook", 404),
        ("/models/toy-tokens/codebook?x=1", 422),
    ):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["content-type"]) == (status, PROBLEM)
    assert client.get("/models/toy-tokens/codebook", headers={"accept": PNG}).status_code == 406


@pytest.mark.parametrize("n", [10**9, 10**15, 10**23])
@pytest.mark.parametrize("query", ["", "&labels=ring", "&model=toy-binary"])
def test_a_number_beyond_all_measure_takes_no_memory(client: Client, n: int, query: str) -> None:
    answer = post(client, f"/sample?n={n}{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)


GREY = np.zeros((1, 8, 8, 1), dtype=np.uint8)
COLOUR = np.zeros((1, 8, 8, 3), dtype=np.uint8)
FREE = "model=toy-tokens"


def codes_of(*shape: int, value: int = 0, dtype: str = "int32") -> bytes:
    return npy(np.full(shape, value, dtype=dtype))


def items(*rows: object) -> bytes:
    return json.dumps({"items": list(rows)}).encode()


@pytest.mark.parametrize(
    ("status", "path", "data", "content_type", "accept", "told"),
    [
        (422, "/encode?output=codes,mean", npy(GREY), NPY, "*/*", "unknown name 'mean'; known: codes, z_q"),
        (422, "/encode?output=z", npy(GREY), NPY, "*/*", "did you mean 'z_q'"),
        (422, "/encode?model=toy-binary&output=codes", npy(GREY), NPY, "*/*", "known: log_variance, mean"),
        (413, f"/encode?{FREE}", npy(np.zeros((1, 64, 64, 3), np.uint8)), NPY, "*/*", "at most 4000"),
        (413, f"/encode?{FREE}", npy(np.zeros((11, 60, 64, 3), np.uint8)), NPY, "*/*", "at most 40000"),
        (422, f"/encode?{FREE}", npy(np.zeros((1, 68, 8, 3), np.uint8)), NPY, "*/*", "up to 64"),
        (422, "/decode", codes_of(1, 4, 4, value=6), NPY, "*/*", "codes[0, 0, 0] is 6, expected 0 .. 5"),
        (422, "/decode", codes_of(1, 4, 4, value=-1), NPY, "*/*", "a codebook of 6"),
        (422, "/decode", codes_of(1, 4, 4, value=2**64 - 1, dtype="uint64"), NPY, "*/*", "is 18446744073709551615"),
        (422, "/decode", codes_of(1, 4, 5), NPY, "*/*", "takes [B, 4, 4]"),
        (422, "/decode", codes_of(0, 4, 4), NPY, "*/*", "B at least 1"),
        (422, f"/decode?{FREE}", codes_of(1, 2, 17), NPY, "*/*", "h and w from 1 up to 16"),
        (422, f"/decode?{FREE}", codes_of(1, 0, 2), NPY, "*/*", "takes [B, h, w]"),
        (413, f"/decode?{FREE}", codes_of(1, 16, 16), NPY, "*/*", "at most 4000"),
        (413, f"/decode?{FREE}", codes_of(11, 15, 16), NPY, "*/*", "at most 40000"),
        (413, "/decode", codes_of(41, 4, 4), NPY, "*/*", "at most 40 are taken"),
        (422, "/decode", npy(np.zeros((2, 4), np.float32)), NPY, "*/*", "takes codes, int32 [B, h, w]"),
        (422, "/decode", items({"z": [1, 2]}), JSON, "*/*", "holds 'z'; toy-tokens-prior@1 takes codes"),
        (422, "/decode", items({"z_q": [[[1.0]]]}), JSON, "*/*", "no 'codes'"),
        (422, "/decode", items({"codes": [[1, True]]}), JSON, "*/*", "whole numbers"),
        (422, "/decode", items({"codes": [[1, 2.0]]}), JSON, "*/*", "whole numbers"),
        (422, "/decode", items({"codes": [1, 2]}), JSON, "*/*", "a list of rows"),
        (422, "/decode", items({"codes": [[1], [1, 2]]}), JSON, "*/*", "must be of one size"),
        (422, "/decode", items({"codes": [[10**30]]}), JSON, "*/*", "out of range"),
        (422, "/decode", b'{"items": []}', JSON, "*/*", 'send an array or {"items": [{"codes"'),
        (422, "/decode?model=toy-binary", codes_of(1, 4, 4), NPY, "*/*", "takes real-valued latents"),
        (422, "/decode?model=toy-binary", items({"codes": [[1]]}), JSON, "*/*", "send 'z'"),
        (406, "/sample?output=codes", b"", "", PNG, JSON),
        (409, f"/sample?{FREE}", b"", "", "*/*", "models that can: toy-tokens-prior@1"),
        (422, "/sample?top_k=7", b"", "", "*/*", "top_k is 7, expected 1 .. 6"),
        (422, "/sample?top_k=0", b"", "", "*/*", "top_k"),
        (422, "/sample?labels=rings", b"", "", "*/*", "did you mean 'ring'"),
        (422, "/sample?labels=3", b"", "", "*/*", "expected 0 .. 2, none or one of: ring, bar, dot"),
        (422, "/sample?labels=ring,dot&n=3", b"", "", "*/*", "2 classes for 3 rows"),
        (422, "/sample", b'{"labels": [true]}', JSON, "*/*", "labels"),
        (422, "/sample?output=images,code", b"", "", "*/*", "did you mean 'codes'"),
        (413, "/sample?n=41", b"", "", "*/*", "at most 40"),
        (422, "/sample?model=toy-binary&top_k=2", b"", "", "*/*", "top_k is given"),
        (422, "/sample?model=toy-binary&labels=1", b"", "", "*/*", "leave labels out"),
        (422, "/sample?model=toy-binary&output=codes", b"", "", "*/*", "known: images"),
        (422, "/likelihood?samples=1", npy(GREY), NPY, "*/*", "deterministic"),
        (422, "/likelihood?seed=0", npy(GREY), NPY, "*/*", "leave seed out"),
        (422, "/likelihood?labels=1,2", npy(GREY), NPY, "*/*", "2 classes for 1 rows"),
        (422, f"/likelihood?{FREE}&labels=1", npy(COLOUR), NPY, "*/*", "knows no classes"),
        (409, "/likelihood?bounds=iwae,elbo", npy(GREY), NPY, "*/*", "elbo is the only bound"),
        (409, "/likelihood?bounds=exact", npy(GREY), NPY, "*/*", "deterministic"),
        (409, "/likelihood?model=toy-binary", npy(GREY), NPY, PNG, "no codes whose surprise"),
        (422, "/likelihood?model=toy-binary&surprise=true", npy(GREY), NPY, "*/*", "has no codes"),
        (409, "/compress?model=toy-binary", npy(GREY), NPY, "*/*", "models that can: toy-tokens-prior@1, toy-tokens@1"),
    ],
)
def test_every_mistake_is_told_with_its_cure(
    client: Client, status: int, path: str, data: bytes, content_type: str, accept: str, told: str
) -> None:
    answer = post(client, path, data, content_type, accept)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert told in answer.json()["detail"]
