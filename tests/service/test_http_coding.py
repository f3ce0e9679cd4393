"""Codes under exact priors over HTTP: near their entropy, read again anywhere, and damage that is told or mended."""

import asyncio
import base64
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from artifact.manifest import Manifest
from codec.coded import Chunk, Coded, read_coded, write_coded
from codec.framing import seal
from codec.profile import Profile
from service import coding_lossless
from service.bitstreams import Written
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, loaded, npy, picture, png, post, serving
from tests.toys import chains, exact, free, sounds, tokens
from tests.toys.chains import ToyChain
from tests.toys.publish import publish

NPY, JSON, PNG = "application/x-npy", "application/json", "image/png"
CONTAINER = "application/vnd.latentd"

HIERARCHY = chains.make(3, (4, 2), ((5,), (6,)))
RESIDUAL = chains.make(4, (2,), ((5, 5, 5),))
FREE = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
TABLES = free.tables(FREE, 5)
SOUNDS = sounds.make(2)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("exact")
    publish(root, "free", exact.with_exact(free.toy(FREE, TABLES)))
    publish(root, "levels", exact.with_exact(chains.toy(HIERARCHY)))
    publish(root, "books", exact.with_exact(chains.toy(RESIDUAL)))
    publish(root, "sounds", exact.with_exact(sounds.toy(SOUNDS)))
    settings = Settings(
        store=root, models=("free", "levels", "books", "sounds"), device="cpu", threads=1, buckets=(1, 4)
    )
    with serving(settings) as client:
        yield client


def bits_of_chain(chain: ToyChain, codes: dict[str, np.ndarray], label: int) -> float:
    """Give -log2 p of the codes of one item under the exact prior, by mathematics."""
    integers = replace(chain, tables=exact.exact_tables(chain.tables))
    grids = [integers.of_link(codes, link) for link in range(len(chain.links))]
    return -sum(
        exact.log2_p(integers.logits(grids[: link + 1], np.array([label])), grids[link]) for link in range(len(grids))
    )


def test_a_picture_is_coded_within_a_few_bits_of_its_probability(client: Client) -> None:
    image = FREE.images(1, 61, 50)[0]
    answer = post(client, "/compress?model=free&profile=prior&verify=full", png(image), PNG)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-latentd-profile"] == "prior"
    coded = read_coded(answer.content)
    codes = FREE.encode(np.pad(image, ((0, 3), (0, 2), (0, 0)), mode="edge")[None])
    bits = -exact.log2_p(free.logits(exact.exact_tables(TABLES), codes), codes)
    assert float(answer.headers["x-latentd-surprise-bits"]) == pytest.approx(bits, rel=1e-4, abs=0.01)
    assert abs(8 * coded.payload_bytes - bits) <= 8
    assert coded.overhead_bytes <= 32
    back = post(client, "/decompress?output=codes", answer.content, CONTAINER, NPY)
    assert back.headers["x-latentd-model"] == "free@1"
    assert np.array_equal(loaded(back.content), codes)
    through = picture(post(client, "/decompress", answer.content, CONTAINER).content)
    assert np.array_equal(through, picture(post(client, "/reconstruct?model=free", png(image), PNG).content))


def test_levels_are_coded_top_first_under_a_class(client: Client) -> None:
    images = HIERARCHY.images(3)
    answer = post(client, "/compress?model=levels&label=bar&profile=prior", npy(images), NPY, JSON)
    codes = HIERARCHY.encode(images)
    for index, item in enumerate(answer.json()["items"]):
        mine = {name: grid[index : index + 1] for name, grid in codes.items()}
        assert item["surprise_bits"] == pytest.approx(bits_of_chain(HIERARCHY, mine, 1), rel=1e-4)
        assert item["profile"] == "prior"
        file = base64.b64decode(item["container"])
        back = post(client, "/decompress?output=codes", file, CONTAINER, JSON).json()["items"][0]
        assert {name: np.array(grid).tolist() for name, grid in back.items()} == {
            name: grid[0].tolist() for name, grid in mine.items()
        }
    other = post(client, "/compress?model=levels&profile=prior", npy(images), NPY, JSON).json()["items"][0]
    mine = {name: grid[:1] for name, grid in codes.items()}
    assert other["surprise_bits"] == pytest.approx(bits_of_chain(HIERARCHY, mine, 2), rel=1e-4)


def test_fewer_codebooks_are_coded_by_fewer_links(client: Client) -> None:
    image = RESIDUAL.images(1)
    whole, codes = RESIDUAL.encode(image)["codes"], []
    for kept in (1, 2, 3):
        answer = post(client, f"/compress?model=books&profile=prior&codebooks={kept}&verify=full", npy(image), NPY)
        assert answer.status_code == 200, answer.text
        codes.append(loaded(post(client, "/decompress?output=codes", answer.content, CONTAINER, NPY).content))
        assert np.array_equal(codes[-1][0, :kept], whole[0, :kept])
        assert (codes[-1][0, kept:] == -1).all()
    raw = post(client, "/compress?model=books&profile=raw", npy(image), NPY, JSON).json()["items"][0]
    assert raw["profile"] == "raw"
    assert raw["surprise_bits"] == pytest.approx(3 * 16 * math.log2(5))


def test_a_sound_is_coded_under_its_speaker_and_said_by_it(client: Client) -> None:
    sound = SOUNDS.sound(1000)
    path = "/compress?model=sounds&label=one&speaker=ben&profile=prior&verify=full"
    answer = post(client, path, npy(sound[None]), NPY)
    assert answer.status_code == 200, answer.text
    codes = SOUNDS.encode(np.pad(sound, (0, 24))[None])
    found = post(client, "/decompress?output=sounds,codes", answer.content, CONTAINER, "application/x-npz")
    arrays = loaded(found.content)
    assert np.array_equal(arrays["codes"], codes)
    assert np.allclose(arrays["sounds"], SOUNDS.decode(codes, np.array([1]))[:, :1000], atol=1e-4)
    other = post(client, "/decompress?speaker=anna", answer.content, CONTAINER, NPY)
    assert np.allclose(loaded(other.content), SOUNDS.decode(codes, np.array([0]))[:, :1000], atol=1e-4)


@pytest.fixture(scope="module")
def chunked(client: Client) -> tuple[np.ndarray, bytes, np.ndarray]:
    """A picture of 10 rows of codes in chunks of 3, its container, and its codes."""
    image = FREE.images(1, 38, 40, seed=3)[0]
    answer = post(client, "/compress?model=free&profile=prior&chunk_rows=3&verify=full", png(image), PNG)
    assert answer.headers["x-latentd-chunks"] == "4"
    return image, answer.content, FREE.encode(np.pad(image, ((0, 2), (0, 0), (0, 0)), mode="edge")[None])


def test_chunks_are_coded_by_themselves(client: Client, chunked: tuple[np.ndarray, bytes, np.ndarray]) -> None:
    _, file, codes = chunked
    tables = exact.exact_tables(TABLES)
    bands = [codes[:, start : start + 3] for start in range(0, 10, 3)]
    for chunk, band in zip(read_coded(file).chunks, bands, strict=True):
        bits = -exact.log2_p(free.logits(tables, band), band)
        assert abs(8 * len(chunk.payload) - bits) <= 9
    back = post(client, "/decompress?output=codes", file, CONTAINER, NPY)
    assert np.array_equal(loaded(back.content), codes)


def test_what_is_lost_is_filled_and_told(client: Client, chunked: tuple[np.ndarray, bytes, np.ndarray]) -> None:
    _, file, codes = chunked
    damaged = bytearray(file)
    damaged[file.index(read_coded(file).chunks[1].payload) + 1] ^= 64
    refused = post(client, "/decompress", bytes(damaged), CONTAINER)
    assert refused.status_code == 400
    answer = post(client, "/decompress?salvage=true&output=codes,images", bytes(damaged), CONTAINER, JSON)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    assert item["lost_rows"] == [[12, 24]]
    assert answer.headers["x-latentd-lost-rows"] == "12"
    expected = codes[0].copy()
    expected[3:6] = codes[0, 2]
    assert item["codes"] == expected.tolist()
    whole = post(client, "/decompress?salvage=true&output=codes", file, CONTAINER, JSON).json()["items"][0]
    assert whole == {"codes": codes[0].tolist(), "lost_rows": []}
    # A chunk whose checksums were made anew over other bytes decodes to other codes: only theirs tells.
    coded = read_coded(file)
    chunks = list(coded.chunks)
    chunks[3] = Chunk(chunks[3].content_crc, chunks[2].payload)
    forged = write_coded(replace(coded, chunks=tuple(chunks)))
    assert post(client, "/decompress", forged, CONTAINER).status_code == 400
    answer = post(client, "/decompress?salvage=true", forged, CONTAINER, JSON)
    assert answer.json()["items"][0]["lost_rows"] == [[36, 38]]
    assert post(client, "/decompress?salvage=true", file[:40], CONTAINER).status_code == 400


def test_several_containers_of_several_sizes_come_back_together(client: Client) -> None:
    images = [FREE.images(1, height, 24, seed=height)[0] for height in (24, 12, 24)]
    files = [
        post(client, f"/compress?model=free&profile={profile}", png(image), PNG).content
        for image, profile in zip(images, ("prior", "raw", "prior"), strict=True)
    ]
    body = json.dumps({"items": [{"container": base64.b64encode(file).decode()} for file in files]}).encode()
    items = post(client, "/decompress?output=codes", body, JSON, JSON).json()["items"]
    assert [item["codes"] for item in items] == [FREE.encode(image[None])[0].tolist() for image in images]


def test_raw_is_written_where_it_is_smaller(client: Client) -> None:
    # One place: its 3 bits are a byte either way, and the header of version 1 is longer.
    image = FREE.images(1, 4, 4)[0]
    sizes = {
        profile: len(post(client, f"/compress?model=free&profile={profile}", png(image), PNG).content)
        for profile in ("raw", "prior")
    }
    default = post(client, "/compress?model=free", png(image), PNG)
    assert len(default.content) == min(sizes.values())
    # Codes that the prior expects least take more bits under it than by themselves.
    examples = FREE.images(1, 400, 400)[0].reshape(100, 4, 100, 4, 3).swapaxes(1, 2).reshape(-1, 4, 4, 3)
    patches = {int(FREE.encode(patch[None])[0, 0, 0]): patch for patch in examples[:500]}
    tables, codes = exact.exact_tables(TABLES), np.zeros((1, 16, 16), dtype=np.int32)
    for y, x in np.ndindex(16, 16):
        scores = free.logits(tables, codes)[0, y, x]
        codes[0, y, x] = min(patches, key=lambda code: scores[code])
    tiles = np.array([[patches[code] for code in row] for row in codes[0].tolist()])
    unlikely = tiles.swapaxes(1, 2).reshape(1, 64, 64, 3)
    assert np.array_equal(FREE.encode(unlikely), codes)
    answer = post(client, "/compress?model=free", npy(unlikely), NPY)
    assert answer.headers["x-latentd-profile"] == "raw"
    asked = post(client, "/compress?model=free&profile=prior", npy(unlikely), NPY)
    assert len(asked.content) > len(answer.content)


def test_a_runtime_that_is_not_exact_codes_nothing(
    client: Client, chunked: tuple[np.ndarray, bytes, np.ndarray]
) -> None:
    image, file, _ = chunked
    catalog = client.app.state.service.engine.catalog
    served = catalog.by_reference()
    inexact = {name: replace(model, exact_fault="an integer differs") for name, model in served.items()}
    catalog.replace(inexact, {})
    try:
        for path, data, content_type in (
            ("/compress?model=free", png(image), PNG),
            ("/decompress", file, CONTAINER),
        ):
            refused = post(client, path, data, content_type)
            assert refused.status_code == 409
            assert refused.json()["type"] == "urn:latentd:problem:inexact"
            assert "an integer differs" in refused.json()["detail"]
        raw = post(client, "/compress?model=free&profile=raw", png(image), PNG)
        assert post(client, "/decompress", raw.content, CONTAINER).status_code == 200
    finally:
        catalog.replace(served, {})


def test_a_container_is_read_as_a_job(client: Client, chunked: tuple[np.ndarray, bytes, np.ndarray]) -> None:
    _, file, codes = chunked
    headers = {"content-type": CONTAINER, "accept": NPY, "prefer": "respond-async"}
    accepted = client.post("/decompress?output=codes", content=file, headers=headers)
    assert accepted.status_code == 202
    while (job := client.get(accepted.headers["location"])).json()["state"] in ("queued", "running"):
        client.runner.run(asyncio.sleep(0.01))
    answer = client.get(f"/jobs/{job.json()['id']}/result")
    assert np.array_equal(loaded(answer.content), codes)


def test_what_takes_longer_than_the_deadline_is_given_up(client: Client) -> None:
    image = png(FREE.images(1, 64, 64)[0])
    file = post(client, "/compress?model=free&profile=prior", image, PNG).content
    service = client.app.state.service
    hurried = service.settings.model_copy(update={"deadline_s": 1e-4})
    client.app.state.service = replace(service, settings=hurried)
    try:
        assert post(client, "/decompress", file, CONTAINER).status_code == 504
    finally:
        client.app.state.service = service


class Verbatim:
    """A way to store inputs that keeps the pixels as they are, for what the routes do with any way."""

    def can_lossless(self, manifest: Manifest) -> bool:
        return manifest.name == "levels"

    async def compress_lossless(self, engine: Any, model: Any, given: Any, *, is_full: bool) -> list[Written]:
        prior = model.manifest.exact_prior
        coded = Coded(
            profile=Profile.ARCHIVE,
            model_prefix=model.manifest.model_hash[:16],
            prior_prefix=prior.canonical_hash[:8],
            extent=given.extents[0],
            chunks=(Chunk(0, given.images.tobytes()),),
        )
        return [Written(write_coded(coded), coded.profile, 1, 8.0 * given.images.size, {"token_bits": 7.5})]

    async def decompress_lossless(self, engine: Any, model: Any, coded: Sequence[Coded]) -> list[np.ndarray]:
        pixels = np.frombuffer(coded[0].chunks[0].payload, np.uint8)
        return list(pixels.reshape(-1, *coded[0].extent, 1))


def test_inputs_are_stored_to_the_bit_by_whoever_can(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding_lossless, "_WAYS", {Profile.ARCHIVE: Verbatim()})
    images = HIERARCHY.images(3)
    answer = post(client, "/compress?mode=lossless", npy(images), NPY)
    assert answer.headers["x-latentd-model"] == "levels@1"
    assert answer.headers["x-latentd-profile"] == "archive"
    assert answer.headers["x-latentd-token-bits"] == "7.5000"
    assert float(answer.headers["x-latentd-bits-per-pixel"]) == pytest.approx(
        8 * len(answer.content) / (3 * 64), abs=1e-4
    )
    assert np.array_equal(loaded(post(client, "/decompress", answer.content, CONTAINER, NPY).content), images)
    (item,) = post(client, "/compress?mode=lossless", npy(images), NPY, JSON).json()["items"]
    body = json.dumps({"items": [item]}).encode()
    assert np.array_equal(loaded(post(client, "/decompress", body, JSON, NPY).content), images)
    cases = [
        (422, "/compress?mode=lossless&profile=raw", npy(images), NPY, "mode is lossless"),
        (422, "/compress?mode=lossless&fit=crop", npy(images), NPY, "fit is 'crop'"),
        (409, "/compress?mode=lossless&model=books", npy(images), NPY, "books@1 stores no inputs to the bit"),
        (422, "/decompress?salvage=true", answer.content, CONTAINER, "to the bit"),
        (422, "/decompress?output=codes", answer.content, CONTAINER, "known: images"),
    ]  # fmt: skip
    for status, path, data, content_type, told in cases:
        refused = post(client, path, data, content_type)
        assert refused.status_code == status, (path, refused.text)
        assert told in refused.json()["detail"]


def test_what_does_not_go_together_is_told(client: Client, chunked: tuple[np.ndarray, bytes, np.ndarray]) -> None:
    image = png(FREE.images(1, 8, 8)[0])
    grey = npy(HIERARCHY.images(1))
    _, file, _ = chunked
    coded = read_coded(file)
    cases: list[tuple[int, str, bytes, str, str]] = [
        (422, "/compress?model=free&profile=raw&chunk_rows=1", image, PNG, "neither chunks nor classes"),
        (409, "/compress?model=levels&chunk_rows=1", grey, NPY, "ask for profile=raw alone"),
        (422, "/compress?model=free&label=bar", image, PNG, "the exact prior of free@1 knows none"),
        (422, "/compress?model=levels&label=tree", grey, NPY, "no class 'tree'"),
        (404, "/decompress", write_coded(replace(coded, prior_prefix="00000000")), CONTAINER, "free@1 has "),
        (404, "/decompress", write_coded(replace(coded, model_prefix="00" * 8)), CONTAINER, "not served"),
        (415, "/decompress", seal(file[:5] + bytes([0x4F]) + file[6:-4]), CONTAINER, "profile 15"),
        (422, "/decompress", write_coded(replace(coded, extent=(38, 4096))), CONTAINER, ""),
        (400, "/decompress", write_coded(replace(coded, conditions=1)), CONTAINER, "conditions"),
        (409, "/decompress", write_coded(replace(coded, profile=Profile.ARCHIVE)), CONTAINER, "to the bit"),
    ]  # fmt: skip
    for status, path, data, content_type, told in cases:
        answer = post(client, path, data, content_type)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == PROBLEM
        assert told in answer.json()["detail"], answer.json()["detail"]
