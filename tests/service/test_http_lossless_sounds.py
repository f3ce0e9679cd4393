"""Sounds stored to the bit by a model of codes: over HTTP, and every sample back."""

import io
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from codec.coded import Chunk, read_coded, write_coded
from codec.container import read_container
from codec.framing import crc32c
from codec.lossless import read_lossless
from codec.sound_residual import read_sound
from service import residuals
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, npy, post, serving
from tests.toys import exact, sounds
from tests.toys.publish import publish

CONTAINER, JSON, NPY, WAV = "application/vnd.latentd", "application/json", "application/x-npy", "audio/wav"
MODEL = sounds.make(2)
HZ = 8000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("store")
    publish(root, "speech", exact.with_exact(sounds.toy(MODEL)))
    publish(root, "inexact", sounds.toy(MODEL))
    settings = Settings(store=root, device="cpu", threads=1, buckets=(1,), models=("inexact", "speech"), window_s=0.5)
    with serving(settings) as client:
        yield client


def levels(length: int) -> np.ndarray:
    return (MODEL.sound(length) * 32768).astype(np.int16)


def wav(samples: np.ndarray, rate_hz: int = HZ, *, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def resealed(container: bytes, payload: bytes, content: np.ndarray) -> bytes:
    """Give a container with another payload, every checksum mended."""
    coded = read_coded(container)
    return write_coded(replace(coded, chunks=(Chunk(crc32c(content.astype("<i2").tobytes()), payload),)))


@pytest.mark.parametrize(("length", "kind"), [(1, "WAV"), (64, "FLAC"), (1000, "FLAC"), (4500, "WAV")])
def test_every_sample_comes_back(client: Client, length: int, kind: str) -> None:
    sound = levels(length)
    answer = post(client, "/compress?mode=lossless&verify=full", wav(sound, kind=kind), f"audio/{kind.lower()}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-latentd-profile"] == "lossless-vq"
    assert read_coded(answer.content).overhead_bytes <= 32
    back = post(client, "/decompress", answer.content, CONTAINER, WAV)
    found, rate_hz = soundfile.read(io.BytesIO(back.content), dtype="int16")
    assert rate_hz == HZ
    assert np.array_equal(found, sound)


def test_arrays_are_stored_and_the_figures_are_those_of_the_container(client: Client) -> None:
    given = np.stack([levels(500), levels(1000)[500:]])
    path = "/compress?mode=lossless&model=speech"
    items = post(client, path, npy((given / 32768).astype(np.float32)), NPY, JSON).json()["items"]
    for item, sound in zip(items, given, strict=True):
        assert item["surprise_bits"] == pytest.approx(item["token_bits"] + item["residual_bits"])
        assert item["bits_per_dim"] == pytest.approx(8 * item["bytes"] / sound.size)
        assert item["bits_per_second"] == pytest.approx(8 * item["bytes"] * HZ / sound.size)
        # a header, a byte of the residual, and two ends of a range coder
        assert 0 < 8 * item["bytes"] - item["surprise_bits"] < 8 * (32 + 10)


def test_a_container_holds_the_tokens_and_the_sound(client: Client) -> None:
    sound = levels(1000)
    container = post(client, "/compress?mode=lossless", wav(sound), WAV).content
    held = read_lossless(read_coded(container).chunks[0].payload, 1)
    assert np.array_equal(read_sound(held.residual, 1000), sound)
    found = post(client, "/decompress?output=codes", container, CONTAINER, NPY)
    assert np.array_equal(np.load(io.BytesIO(found.content)), MODEL.encode(np.pad(MODEL.sound(1000), (0, 24))[None]))
    # this few tokens are smaller as they are, without the hash of a prior
    packed = post(client, "/compress?profile=raw&model=speech", wav(sound), WAV).content
    assert (held.prior_prefix, held.tokens) == (None, (read_container(packed).payload,))


def pcm_32() -> bytes:
    """A sound whose lowest bits single precision does not hold."""
    levels = np.full(640, 0x40000001, dtype=np.int32)
    buffer = io.BytesIO()
    soundfile.write(buffer, levels, HZ, format="WAV", subtype="PCM_32")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (wav(np.stack([levels(640)] * 2, axis=1)), WAV, "2 channels at 8000 Hz"),
        (wav(levels(640), 16000), WAV, "1 channel at 16000 Hz"),
        (wav(np.full(640, -1.5), subtype="FLOAT"), WAV, "coded as FLOAT"),
        (wav(np.full(640, 0.5 + 1e-12), subtype="DOUBLE"), WAV, "coded as DOUBLE"),
        (pcm_32(), WAV, "coded as PCM_32"),
        (wav(np.full(640, 2.0**-20), subtype="PCM_24"), WAV, "no 16-bit values"),
        (npy(np.full((1, 640), 0.3, np.float32)), NPY, "no 16-bit values"),
        (npy(np.full((1, 640), 1.0, np.float32)), NPY, "no 16-bit values"),
    ],
)
def test_what_cannot_be_given_back_is_refused(client: Client, body: bytes, kind: str, said: str) -> None:
    answer = post(client, "/compress?mode=lossless&model=speech", body, kind)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_other_files_of_16_bit_values_are_stored(client: Client) -> None:
    for sound, subtype in ((levels(640) >> 8 << 8, "PCM_U8"), (levels(640), "PCM_24")):
        answer = post(client, "/compress?mode=lossless", wav(sound, subtype=subtype), WAV)
        back = post(client, "/decompress", answer.content, CONTAINER, WAV)
        assert np.array_equal(soundfile.read(io.BytesIO(back.content), dtype="int16")[0], sound)


def test_a_model_without_an_exact_prior_stores_nothing(client: Client) -> None:
    answer = post(client, "/compress?mode=lossless&model=inexact", wav(levels(640)), WAV)
    assert answer.status_code == 409


def test_damage_is_told(client: Client) -> None:
    sound, random = levels(1000), np.random.default_rng(0)
    container = post(client, "/compress?mode=lossless", wav(sound), WAV).content
    coded = read_coded(container)
    payload = coded.chunks[0].payload
    found = [container[:-1], container + b"\0"]
    unchecked = bytes([payload[0] & 1]) + payload[5:]
    found += [resealed(container, data, sound) for data in (payload[:0], b"\7" + payload[1:], payload[:60], unchecked)]
    residual = len(payload) - len(read_lossless(payload, 1).residual)
    for place in random.integers(residual, len(payload), 20).tolist():
        found.append(resealed(container, flipped(payload, place, int(random.integers(8))), sound))
    found += [write_coded(replace(coded, extent=extent)) for extent in ((2**30,), (999,), (10, 10))]
    for data in found:
        answer = post(client, "/decompress", data, CONTAINER, WAV)
        assert 400 <= answer.status_code < 500
        assert answer.headers["content-type"] == PROBLEM


def test_damaged_tokens_are_told_to_those_who_read_them(client: Client) -> None:
    sound = levels(1000)
    container = post(client, "/compress?mode=lossless", wav(sound), WAV).content
    payload = read_coded(container).chunks[0].payload
    end = len(payload) - len(read_lossless(payload, 1).residual)
    for bit in range(8, 8 * end):  # checksum, length and tokens
        data = resealed(container, flipped(payload, bit // 8, bit % 8), sound)
        answer = post(client, "/decompress?output=codes", data, CONTAINER, NPY)
        assert 400 <= answer.status_code < 500


def flipped(data: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    return bytes(changed)


def test_what_would_take_too_long_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    container = post(client, "/compress?mode=lossless", wav(levels(1000)), WAV).content
    monkeypatch.setattr(residuals, "MOST_SAMPLES", 999)
    for path, body, kind in (
        ("/compress?mode=lossless", wav(levels(1000)), WAV),
        ("/decompress", container, CONTAINER),
    ):
        answer = post(client, path, body, kind)
        assert answer.status_code == 413
        assert "999" in answer.json()["detail"]


def test_what_is_stored_to_the_bit_is_not_resampled(client: Client) -> None:
    container = post(client, "/compress?mode=lossless", wav(levels(640)), WAV).content
    answer = post(client, "/decompress?sample_rate=16000", container, CONTAINER, WAV)
    assert answer.status_code == 422
    assert "sample_rate" in answer.json()["detail"]
