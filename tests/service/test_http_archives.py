"""Archives over HTTP: many pictures become one container, and the container those pictures to the bit."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from codec.coded import read_coded, write_coded
from codec.framing import seal
from codec.profile import Profile
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, form, loaded, npy, picture, png, post, serving
from tests.toys import latents

NPY, JSON, PNG, CONTAINER = "application/x-npy", "application/json", "image/png", "application/vnd.latentd"
LOSSLESS = "/compress?model=archiving&mode=lossless"
PICTURES = latents.pictures(60)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("archives")
    latents.publish_archiving(root, "archiving")
    with serving(Settings(store=root, device="cpu", threads=1, buckets=(1, 4), max_rows=100)) as client:
        yield client


@pytest.fixture(scope="module")
def archive(client: Client) -> bytes:
    answer = post(client, f"{LOSSLESS}&verify=full", npy(PICTURES), NPY)
    assert answer.status_code == 200, answer.text
    return bytes(answer.content)


def test_pictures_become_one_archive_and_come_back(client: Client, archive: bytes) -> None:
    coded = read_coded(archive)
    assert coded.profile is Profile.ARCHIVE
    assert coded.overhead_bytes <= 32
    found = post(client, "/decompress", archive, CONTAINER, NPY)
    assert found.status_code == 200, found.text
    np.testing.assert_array_equal(loaded(found.content), PICTURES)


def test_what_an_archive_comes_to_is_told(client: Client, archive: bytes) -> None:
    answer = post(client, LOSSLESS, npy(PICTURES), NPY, JSON)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    assert item["bytes"] == len(archive)
    assert item["pictures"] == len(PICTURES)
    assert 0 < item["pictures_coded_directly"] < 10
    assert item["gross_bits_per_pixel"] == pytest.approx(8 * len(archive) / PICTURES.size)
    assert item["net_bits_per_pixel"] < item["gross_bits_per_pixel"]
    assert item["iwae_bits_per_pixel"] < item["elbo_bits_per_pixel"]
    assert item["elbo_bits_per_pixel"] == pytest.approx(item["net_bits_per_pixel"], rel=0.1)
    assert item["surprise_bits"] == pytest.approx(item["net_bits_per_pixel"] * PICTURES.size)


def test_one_file_is_an_archive_too(client: Client) -> None:
    answer = post(client, LOSSLESS, png(PICTURES[0]), PNG)
    assert answer.status_code == 200, answer.text
    found = post(client, "/decompress", answer.content, CONTAINER, PNG)
    np.testing.assert_array_equal(picture(found.content), PICTURES[0, ..., 0])


def test_a_form_of_smaller_pictures_is_padded_and_cropped_again(client: Client) -> None:
    body, kind = form(*(png(one[:5, :7]) for one in PICTURES[:3]))
    answer = post(client, f"{LOSSLESS}&fit=pad", body, kind)
    assert answer.status_code == 200, answer.text
    found = post(client, "/decompress", answer.content, CONTAINER, NPY)
    np.testing.assert_array_equal(loaded(found.content), PICTURES[:3, :5, :7])


@pytest.mark.parametrize(
    ("query", "images", "told"),
    [
        ("&fit=pad", [PICTURES[0], PICTURES[1, :5]], "expected one size in an archive"),
        ("", [PICTURES[0] // 2, PICTURES[1]], "pixels of 0 or 255 alone"),
        ("&profile=raw", [PICTURES[0]], "mode is lossless"),
        ("&binarize=threshold", [PICTURES[0]], "mode is lossless"),
    ],
)
def test_what_cannot_be_archived_is_refused(client: Client, query: str, images: list[np.ndarray], told: str) -> None:
    body, kind = form(*(png(one) for one in images))
    answer = post(client, LOSSLESS + query, body, kind)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == PROBLEM
    assert told in answer.json()["detail"]


def test_a_damaged_archive_is_refused(client: Client, archive: bytes) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(archive[:-4])
        data[random.integers(18, len(data))] ^= 1 << int(random.integers(8))
        answer = post(client, "/decompress", seal(bytes(data)), CONTAINER, NPY)
        assert 400 <= answer.status_code < 500
        assert answer.headers["content-type"] == PROBLEM


def test_an_archive_that_claims_more_than_the_limit_is_refused_at_once(client: Client, archive: bytes) -> None:
    coded = read_coded(archive)
    (chunk,) = coded.chunks
    forged = type(coded)(**{**vars(coded), "chunks": (type(chunk)(0, b"\xff\xff\xff\xff\x07\x00" + chunk.payload),)})
    answer = post(client, "/decompress", write_coded(forged), CONTAINER, NPY)
    assert answer.status_code == 413
    assert "expected at most 100" in answer.json()["detail"]


def test_a_vae_has_no_codes_to_compress(client: Client) -> None:
    answer = post(client, "/compress?model=archiving", npy(PICTURES[:2]), NPY)
    assert answer.status_code == 409
    assert "mode=lossless" in json.loads(answer.text)["detail"]


def test_exact_latents_that_are_not_reproduced_archive_nothing(tmp_path: Path) -> None:
    latents.publish_archiving(tmp_path, "archiving")
    folder = tmp_path / "archiving" / "1"
    with serving(Settings(store=tmp_path, device="cpu", threads=1, buckets=(1,))) as client:
        (folder / "latents_exact.npz").write_bytes(b"nothing")
        answer = post(client, LOSSLESS, npy(PICTURES[:2]), NPY)
        assert answer.status_code == 409
        assert "archives nothing here" in answer.json()["detail"]
