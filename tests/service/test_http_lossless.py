"""Pictures stored to the bit by a model of codes: over HTTP, and every pixel back."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codec.coded import Chunk, Coded, read_coded, write_coded
from codec.framing import crc32c
from codec.lossless import read_lossless
from codec.residual_payload import read_residual
from service import residuals
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, npy, picture, png, post, serving
from tests.toys import exact, free, tokens
from tests.toys.exact_decoder import add_exact_decoder, means
from tests.toys.publish import publish

CONTAINER, JSON, NPY, PNG = "application/vnd.latentd", "application/json", "application/x-npy", "image/png"
MODEL = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)


def fitted() -> dict[str, np.ndarray]:
    """Fit the toy's prior to its pictures: log p of a code given the one to its left, and nothing of the one above."""
    counts, codes = np.ones((7, 7)), MODEL.encode(MODEL.images(20, 64, 64, seed=9))
    np.add.at(counts, (codes[:, :, :-1], codes[:, :, 1:]), 1)
    left = np.log(counts / counts.sum(1, keepdims=True)).astype(np.float32)
    return {"Ta": np.zeros_like(left), "Tl": left}


TABLES = fitted()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lossless")
    publish(root, "free", exact.with_exact(free.toy(MODEL, TABLES)))
    add_exact_decoder(root / "free" / "1", MODEL)
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[Client]:
    with serving(Settings(store=root, models=("free",), device="cpu", threads=1, buckets=(1,))) as client:
        yield client


@pytest.fixture(scope="module")
def stored(client: Client) -> tuple[np.ndarray, bytes]:
    """A picture and its container."""
    image = MODEL.images(1, 45, 46)[0]
    return image, post(client, "/compress?mode=lossless", png(image), PNG).content


def resealed(container: bytes, payload: bytes, content: np.ndarray) -> bytes:
    """Give a container with another payload, every checksum mended."""
    coded = read_coded(container)
    return write_coded(replace(coded, chunks=(Chunk(crc32c(content.tobytes()), payload),)))


def test_every_pixel_comes_back(client: Client) -> None:
    for height, width in ((61, 50), (4, 4), (1, 1)):
        image = MODEL.images(1, height, width)[0]
        answer = post(client, "/compress?mode=lossless&verify=full", png(image), PNG)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-latentd-profile"] == "lossless-vq"
        back = post(client, "/decompress", answer.content, CONTAINER, PNG)
        assert back.status_code == 200, back.text
        assert np.array_equal(picture(back.content), image)


def test_the_figures_are_those_of_the_container(client: Client) -> None:
    images = MODEL.images(2, 40, 48)
    items = post(client, "/compress?mode=lossless", npy(images), NPY, JSON).json()["items"]
    for item, image in zip(items, images, strict=True):
        codes = MODEL.encode(image[None])
        token_bits = -exact.log2_p(free.logits(exact.exact_tables(TABLES), codes), codes)
        assert item["token_bits"] == pytest.approx(token_bits, rel=1e-4)
        assert item["surprise_bits"] == pytest.approx(item["token_bits"] + item["residual_bits"])
        assert item["net_bits_per_dim"] == pytest.approx(item["surprise_bits"] / image.size)
        assert item["bits_per_dim"] == pytest.approx(8 * item["bytes"] / image.size)
        # what the file takes beyond: a header, two ends of a range coder, a picture's parameters where they pay
        assert 0 < 8 * item["bytes"] - item["surprise_bits"] < 8 * (32 + 8 + 234)


def test_a_container_holds_the_tokens_and_what_the_means_leave_out(stored: tuple[np.ndarray, bytes]) -> None:
    image, container = stored
    coded = read_coded(container)
    held = read_lossless(coded.chunks[0].payload, 1)
    assert held.prior_prefix is not None
    codes = MODEL.encode(np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")[None])
    assert np.array_equal(read_residual(held.residual, means(MODEL, codes)[0, :45, :46]), image)
    assert coded.overhead_bytes <= 32


def test_the_codes_are_read_without_the_picture_and_with_it(client: Client, stored: tuple[np.ndarray, bytes]) -> None:
    image, container = stored
    codes = MODEL.encode(np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")[None])
    alone = post(client, "/decompress?output=codes", container, CONTAINER, NPY)
    assert np.array_equal(np.load(io.BytesIO(alone.content)), codes)
    both = post(client, "/decompress?output=images,codes", container, CONTAINER, "application/x-npz")
    with np.load(io.BytesIO(both.content)) as arrays:
        assert np.array_equal(arrays["codes"], codes)
        assert np.array_equal(arrays["images"], image[None])


def test_a_container_from_before_the_token_checksum_is_read(client: Client, stored: tuple[np.ndarray, bytes]) -> None:
    image, container = stored
    held = read_lossless(read_coded(container).chunks[0].payload, 1)
    older = resealed(container, replace(held, tokens_crc=None).write(), image)
    assert len(older) == len(container) - 4
    assert np.array_equal(picture(post(client, "/decompress", older, CONTAINER, PNG).content), image)
    codes = post(client, "/decompress?output=codes", older, CONTAINER, NPY).content
    assert codes == post(client, "/decompress?output=codes", container, CONTAINER, NPY).content
    wrong = replace(held, tokens_crc=None, tokens=(held.tokens[0][:-1] + b"\x55",)).write()
    answer = post(client, "/decompress?output=codes", resealed(container, wrong, image), CONTAINER, NPY)
    assert answer.status_code == 400


def test_damage_is_told(client: Client, stored: tuple[np.ndarray, bytes]) -> None:
    image, container = stored
    coded = read_coded(container)
    payload, random = coded.chunks[0].payload, np.random.default_rng(0)
    broken = [container[:-1], container + b"\0", b"", payload[:0], b"\7" + payload[1:], payload[:9]]
    found = [*broken[:3], *(resealed(container, data, image) for data in broken[3:])]
    for place in random.integers(0, len(payload), 6).tolist():
        flipped = bytearray(payload)
        flipped[place] ^= 1 << int(random.integers(8))
        found.append(resealed(container, bytes(flipped), image))
    for data in found:
        answer = post(client, "/decompress", data, CONTAINER, PNG)
        if answer.status_code == 200:  # such as the scale of a context that does not occur
            assert np.array_equal(picture(answer.content), image)
        else:
            assert 400 <= answer.status_code < 500
            assert answer.headers["content-type"] == PROBLEM


def test_what_the_model_does_not_write_is_refused(client: Client, stored: tuple[np.ndarray, bytes]) -> None:
    _, container = stored
    coded = read_coded(container)
    huge = 2**20
    refused: dict[str, Coded] = {
        "decode": replace(coded, extent=(huge, huge)),
        "conditions": replace(coded, conditions=1),
        "codebooks": replace(coded, codebooks=1),
        "exact networks": replace(coded, prior_prefix="00000000"),
    }
    for name, other in refused.items():
        answer = post(client, "/decompress", write_coded(other), CONTAINER, PNG)
        assert 400 <= answer.status_code < 500, name
    held = read_lossless(coded.chunks[0].payload, 1)
    other_prior = replace(held, prior_prefix="00000000").write()
    answer = post(client, "/decompress", resealed(container, other_prior, stored[0]), CONTAINER, PNG)
    assert 400 <= answer.status_code < 500
    assert "exact prior" in answer.json()["detail"]


def test_what_would_take_too_long_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residuals, "MOST_VALUES", 1000)
    answer = post(client, "/compress?mode=lossless", png(MODEL.images(1, 40, 40)[0]), PNG)
    assert answer.status_code == 413
    assert "1000" in answer.json()["detail"]
