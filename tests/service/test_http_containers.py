"""Pictures to containers and back over HTTP, and three hundred containers that were tampered with."""

import base64
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from artifact.store import Store
from codec.codes import write_codes
from codec.container import seal
from codec.layout import Layout, LevelLayout
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, form, loaded, npy, picture, png, post, serving
from tests.toys import tokens
from tests.toys.publish import publish
from tests.toys.tokens import ToyTokens

NPY, NPZ, JSON, PNG = "application/x-npy", "application/x-npz", "application/json", "image/png"
CONTAINER = "application/vnd.latentd"
FREE = "/compress?model=toy-tokens"


@pytest.fixture(scope="module")
def client(store_root: Path) -> Iterator[Client]:
    settings = Settings(
        store=store_root, device="cpu", threads=1, max_rows=20, max_pixels=3500, max_request_pixels=30_000
    )
    with serving(settings) as client:
        yield client


@pytest.fixture
def free(toy_tokens: dict[str, ToyTokens]) -> ToyTokens:
    return toy_tokens["toy-tokens"]


def container_items(*files: bytes) -> bytes:
    return json.dumps({"items": [{"container": base64.b64encode(file).decode()} for file in files]}).encode()


def compressed(client: Client, image: np.ndarray, path: str = FREE) -> bytes:
    answer = post(client, path, png(image), PNG)
    assert answer.status_code == 200, answer.text
    return bytes(answer.content)


def test_a_picture_goes_through_a_container_at_its_own_size(client: Client, free: ToyTokens) -> None:
    image = free.images(1, 13, 22)[0]
    answer = post(client, FREE, png(image), PNG)
    assert answer.headers["content-type"] == CONTAINER
    assert answer.headers["x-latentd-bytes"] == str(len(answer.content))
    assert float(answer.headers["x-latentd-bits-per-pixel"]) == pytest.approx(
        8 * len(answer.content) / (13 * 22), abs=1e-4
    )
    # 4 x 6 codes of 3 bits are 9 bytes.
    assert len(answer.content) < 9 + 50
    back = post(client, "/decompress", answer.content, CONTAINER)
    assert back.headers["content-type"] == PNG
    assert back.headers["x-latentd-model"] == "toy-tokens@1"
    through = picture(back.content)
    assert through.shape == (13, 22, 3)
    assert np.array_equal(through, picture(post(client, "/reconstruct?model=toy-tokens", png(image), PNG).content))
    codes = loaded(post(client, "/decompress?output=codes", answer.content, CONTAINER, NPY).content)
    padded = np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")
    assert np.array_equal(codes, free.encode(padded[None]))
    both = loaded(post(client, "/decompress?output=codes,images", answer.content, CONTAINER, NPZ).content)
    assert both.files == ["codes", "images"]
    (item,) = post(client, "/decompress?output=codes", answer.content, CONTAINER).json()["items"]
    assert item["codes"] == codes[0].tolist()


def test_a_picture_that_was_cropped_comes_back_as_the_model_had_it(client: Client, free: ToyTokens) -> None:
    image = free.images(1, 13, 22)[0]
    answer = post(client, f"{FREE}&fit=crop", png(image), PNG)
    assert picture(post(client, "/decompress", answer.content, CONTAINER).content).shape == (12, 20, 3)
    assert float(answer.headers["x-latentd-bits-per-pixel"]) == pytest.approx(
        8 * len(answer.content) / (12 * 20), abs=1e-4
    )


def test_several_pictures_travel_as_json(client: Client, free: ToyTokens) -> None:
    images = free.images(3, 8, 12)
    answer = post(client, FREE, npy(images), NPY)
    assert answer.headers["content-type"] == JSON
    items = answer.json()["items"]
    for item, one in zip(items, images, strict=True):
        assert base64.b64decode(item["container"]) == compressed(client, one)
        assert item["bits_per_pixel"] == pytest.approx(8 * item["bytes"] / 96)
    (alone,) = post(client, FREE, png(images[0]), PNG, JSON).json()["items"]
    assert alone == items[0]
    refused = post(client, FREE, npy(images), NPY, CONTAINER)
    assert refused.status_code == 406
    assert "3 items make as many containers" in refused.json()["detail"]


def test_several_containers_come_back_in_their_order(client: Client, free: ToyTokens) -> None:
    images = [free.images(1, height, 9, seed=height)[0] for height in (8, 13, 8, 5)]
    files = [compressed(client, image) for image in images]
    expected = [picture(post(client, "/decompress", file, CONTAINER).content).tolist() for file in files]
    for content, content_type in (form(*files), (container_items(*files), JSON)):
        answer = post(client, "/decompress", content, content_type, JSON)
        found = [picture(base64.b64decode(item["image"])).tolist() for item in answer.json()["items"]]
        assert found == expected
    grids = [
        np.array(item["codes"]).shape
        for item in post(client, "/decompress?output=codes", container_items(*files), JSON).json()["items"]
    ]
    assert grids == [(2, 3), (4, 3), (2, 3), (2, 3)]
    assert post(client, "/decompress", container_items(*files), JSON, NPY).status_code == 406
    assert loaded(post(client, "/decompress", container_items(files[0], files[2]), JSON, NPY).content).shape == (
        2, 8, 9, 3,
    )  # fmt: skip


def test_a_model_of_fixed_size_compresses_too(client: Client, toy_tokens: dict[str, ToyTokens]) -> None:
    toy = toy_tokens["toy-tokens-prior"]
    image = toy.images(1)[0]
    file = compressed(client, image, "/compress?model=toy-tokens-prior")
    back = post(client, "/decompress?output=codes", file, CONTAINER, NPY)
    assert back.headers["x-latentd-model"] == "toy-tokens-prior@1"
    assert np.array_equal(loaded(back.content), toy.encode(image[None]))
    mixed = container_items(file, compressed(client, toy_tokens["toy-tokens"].images(1)[0]))
    refused = post(client, "/decompress", mixed, JSON)
    assert refused.status_code == 422
    assert "one model at a time" in refused.json()["detail"]


def test_the_container_chooses_among_all_served_versions(settings: Settings, tmp_path: Path, free: ToyTokens) -> None:
    changed = tokens.make(11, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    for toy in (free, changed):
        publish(tmp_path, "toy-tokens", tokens.toy(toy))
    # The same weights under another name: either may answer, and the caller's word decides.
    publish(tmp_path, "twin", tokens.toy(free))
    models = ("toy-tokens@2", "toy-tokens@1", "twin")
    image = free.images(1)[0]
    with serving(settings.model_copy(update={"store": tmp_path, "models": models})) as client:
        first, second = (compressed(client, image, f"/compress?model=toy-tokens@{version}") for version in (1, 2))
        for path, file, reference in (
            ("/decompress", first, "toy-tokens@1"),
            ("/decompress", second, "toy-tokens@2"),
            ("/decompress?model=toy-tokens", first, "toy-tokens@1"),
            ("/decompress?model=twin", first, "twin@1"),
        ):
            answer = post(client, path, file, CONTAINER)
            assert answer.headers["x-latentd-model"] == reference
        for path, status, told in (
            ("/decompress?model=toy-tokens@2", 422, "written with toy-tokens@1; leave model out"),
            ("/decompress?model=nobody", 404, "there are: toy-tokens@2, toy-tokens@1, twin@1"),
        ):
            answer = post(client, path, first, CONTAINER)
            assert answer.status_code == status
            assert told in answer.json()["detail"]


@pytest.fixture(scope="module")
def right(client: Client, store_root: Path) -> bytes:
    """A container of a fixed picture, for what is done to containers below."""
    toy = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    return compressed(client, toy.images(1, 13, 22)[0])


def test_every_mistake_is_told_with_its_cure(client: Client, right: bytes, store_root: Path) -> None:
    model_hash = Store(store_root).open("toy-tokens").manifest.model_hash
    layout = Layout((LevelLayout(7, 1, 4),), (None, None), multiple_of=4, maximum=4096)

    def of_size(side: int, model_hash: str = model_hash) -> bytes:
        grid = np.zeros((side // 4, side // 4), dtype=np.int32)
        return write_codes([grid], layout=layout, model_hash=model_hash, extent=(side, side))

    body = bytearray(right[:-4])
    profile, version, code = body.copy(), body.copy(), body.copy()
    version[4], profile[6], code[-1] = 9, 7, 0xFF
    cases: list[tuple[int, str, bytes, str, str, str]] = [
        (400, "/decompress", b"junk", CONTAINER, "*/*", "send a container"),
        (400, "/decompress", right[:-1], CONTAINER, "*/*", "damaged, cut short"),
        (415, "/decompress", seal(bytes(version)), CONTAINER, "*/*", "version 9"),
        (415, "/decompress", seal(bytes(profile)), CONTAINER, "*/*", "profile 7"),
        (422, "/decompress", seal(bytes(code)), CONTAINER, "*/*", "the model has 0 .. 6"),
        (422, "/decompress", of_size(68), CONTAINER, "*/*", "68 x 68"),
        (413, "/decompress", of_size(60), CONTAINER, "*/*", "at most 3500"),
        (413, "/decompress", container_items(*[of_size(56)] * 10), JSON, "*/*", "at most 30000"),
        (413, "/decompress", container_items(*[right] * 21), JSON, "*/*", "at most 20"),
        (404, "/decompress", of_size(16, "ab" * 32), CONTAINER, "*/*", f"begins with {'ab' * 16}"),
        (404, "/decompress", of_size(16, "ab" * 32), CONTAINER, "*/*", f"toy-tokens@1 ({model_hash[:32]})"),
        (422, "/decompress?model=toy-tokens-prior", right, CONTAINER, "*/*", "written with toy-tokens@1"),
        (422, "/decompress", b"", "", "*/*", "no container"),
        (422, "/decompress", b'{"items": []}', JSON, "*/*", "no container"),
        (422, "/decompress", b'{"items": [{"image": ""}]}', JSON, "*/*", "bits_per_second, bytes, chunks, container"),
        (400, "/decompress", b'{"items": [{"container": "*"}]}', JSON, "*/*", "base64"),
        (406, "/decompress?output=codes", right, CONTAINER, PNG, JSON),
        (422, "/decompress?output=z", right, CONTAINER, "*/*", "known: codes, images"),
        (415, "/decompress", right, PNG, "*/*", CONTAINER),
        (406, "/decompress", right, CONTAINER, CONTAINER, PNG),
        (422, "/compress?profile=best", npy(np.zeros((1, 8, 8, 3), np.uint8)), NPY, "*/*", "raw"),
        (406, "/compress", png(np.zeros((8, 8, 3), np.uint8)), PNG, PNG, CONTAINER),
    ]  # fmt: skip
    for status, path, data, content_type, accept, told in cases:
        answer = post(client, path, data, content_type, accept)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == PROBLEM
        assert told in answer.json()["detail"]


def tampered(right: bytes, generator: random.Random) -> bytes:
    """Flip, cut, insert or overwrite bytes, and mostly mend the checksum, so that what lies behind it is reached."""
    data = bytearray(right[:-4])
    for _ in range(generator.choice((1, 1, 2, 4))):
        place = generator.randrange(len(data))
        kind = generator.choice(("flip", "flip", "set", "cut", "insert"))
        if kind == "flip":
            data[place] ^= 1 << generator.randrange(8)
        elif kind == "set":
            data[place] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == "cut":
            del data[place : place + generator.randrange(1, 9)]
        else:
            data[place:place] = generator.randbytes(generator.randrange(1, 9))
        if not data:
            break
    return seal(bytes(data)) if generator.random() < 0.8 else bytes(data) + right[-4:]


def test_three_hundred_tampered_containers_are_refused_or_right(client: Client, right: bytes) -> None:
    generator = random.Random(3)
    expected = post(client, "/decompress?output=codes,images", right, CONTAINER, JSON).json()
    seen: dict[int, int] = {}
    for _ in range(300):
        data = tampered(right, generator)
        answer = post(client, "/decompress?output=codes,images", data, CONTAINER, JSON)
        seen[answer.status_code] = seen.get(answer.status_code, 0) + 1
        if answer.status_code == 200:
            # Nothing but the extent can change and be right still: fewer pixels of the same tokens.
            assert answer.json()["items"][0]["codes"] == expected["items"][0]["codes"]
        else:
            assert answer.status_code in (400, 404, 413, 415, 422), (data, answer.text)
            assert answer.headers["content-type"] == PROBLEM
            assert answer.json()["detail"]
    assert {400, 404, 415, 422} <= set(seen)
    assert seen[400] < 250, "most must get past the checksum"
