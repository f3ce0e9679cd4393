"""Sounds over HTTP, held against the mathematics of the model and against foreign readers of the files."""

import base64
import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from service.settings import Settings
from tests.service.serving import PROBLEM, Client, form, loaded, npy, picture, png, post, serving
from tests.toys import sounds, tokens
from tests.toys.publish import publish
from tests.toys.sounds import DIGITS, DOWNSAMPLING, LENGTH, NUM_EMBEDDINGS, SPEAKERS, ToySounds

JSON, NPY, NPZ, WAV, FLAC, PNG = (
    "application/json",
    "application/x-npy",
    "application/x-npz",
    "audio/wav",
    "audio/flac",
    "image/png",
)
CONTAINER = "application/vnd.latentd"
SPEECH, WHOLE, PICTURES = "toy-speech", "toy-whole", "toy-pictures"
HZ = 8000


@pytest.fixture(scope="module")
def speech() -> ToySounds:
    return sounds.make(1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, speech: ToySounds) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("store")
    publish(root, SPEECH, sounds.toy(speech))
    publish(root, WHOLE, sounds.toy(sounds.make(2), windows=None))
    patches = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    publish(root, PICTURES, tokens.toy(patches))
    with serving(Settings(store=root, device="cpu", threads=1, buckets=(1,), window_s=0.5, max_seconds=20)) as client:
        yield client


def wav(samples: np.ndarray, rate_hz: int = HZ, *, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def heard(data: bytes) -> tuple[np.ndarray, int]:
    """Read 16-bit mono by Python's own library."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        return samples, file.getframerate()


def padded(sound: np.ndarray) -> np.ndarray:
    return np.pad(sound, (0, -len(sound) % DOWNSAMPLING))[None]


def told(answer: Any, status: int, *texts: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
    for text in texts:
        assert text in answer.json()["detail"]


def test_a_sound_of_any_length_is_answered_at_its_length(client: Client, speech: ToySounds) -> None:
    sound = speech.sound(HZ + 37)
    answer = post(client, "/reconstruct?speaker=ben", wav(sound), WAV)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == WAV
    assert answer.headers["x-latentd-model"] == f"{SPEECH}@1"
    assert answer.headers["x-latentd-sample-rate"] == "8000"
    samples, rate_hz = heard(answer.content)
    assert (len(samples), rate_hz) == (len(sound), HZ)
    expected = speech.decode(speech.encode(padded(sound)), np.array([1]))[0, : len(sound)]
    np.testing.assert_allclose(samples, np.clip(expected, -1, 1 - 2**-15), atol=2**-15)
    scaled = (expected @ sound) / (sound @ sound) * sound
    ratio = 10 * np.log10((scaled**2).sum() / ((scaled - expected) ** 2).sum())
    assert float(answer.headers["x-latentd-si-sdr-db"]) == pytest.approx(ratio, abs=1e-2)


def test_files_arrays_and_json_have_the_same_codes(client: Client, speech: ToySounds) -> None:
    sound = speech.sound(5000)
    expected = speech.encode(padded(sound))
    text = json.dumps({"items": [{"audio": base64.b64encode(wav(sound)).decode()}]}).encode()
    data, content_type = form(wav(sound, kind="FLAC"))
    for body, media_type in (
        (wav(sound), WAV),
        (wav(sound, subtype="FLOAT"), WAV),
        (wav(sound, kind="FLAC"), FLAC),
        (npy(sound[None]), NPY),
        (text, JSON),
        (data, content_type),
        (wav(np.stack([sound, sound], axis=1)), WAV),
    ):
        answer = post(client, "/encode", body, media_type, NPY)
        assert answer.status_code == 200, answer.text
        codes = loaded(answer.content)
        assert (codes.dtype, codes.shape) == (np.int32, expected.shape)
        assert (codes == expected).all()


def test_another_rate_is_resampled_and_answered_as_it_was(client: Client, speech: ToySounds) -> None:
    low = speech.sound(HZ)
    high = resample_poly(low, 441, 80).astype(np.float32).clip(-1, 1)
    codes = loaded(post(client, "/encode", wav(high, 44100), WAV, NPY).content)
    assert (codes == speech.encode(padded(low))).mean() > 0.5  # two resamplings lose some of the noise at the top
    answer = post(client, "/reconstruct", wav(high, 44100), WAV)
    samples, rate_hz = heard(answer.content)
    assert (len(samples), rate_hz) == (len(high), 44100)
    array = post(client, "/reconstruct?sample_rate=44100", npy(high[None]), NPY, NPY)
    np.testing.assert_allclose(loaded(array.content)[0], samples, atol=1e-3)
    back = resample_poly(samples, 80, 441)[500:-500]
    # The sound has all frequencies up to half its rate, of which two resamplings leave out the highest.
    assert np.corrcoef(back, speech.decode(codes)[0, 500 : 500 + len(back)])[0, 1] > 0.97


def test_a_speaker_converts_the_voice(client: Client, speech: ToySounds) -> None:
    sound = speech.sound(DOWNSAMPLING * 20)
    codes = speech.encode(sound[None])
    voices = []
    for speaker, index in (("anna", 0), ("1", 1), ("none", 2)):
        answer = post(client, f"/reconstruct?speaker={speaker}", npy(sound[None]), NPY, NPY)
        voices.append(loaded(answer.content)[0])
        np.testing.assert_allclose(voices[-1], speech.decode(codes, np.array([index]))[0], atol=1e-5)
        other = post(client, f"/decode?speaker={speaker}&model={SPEECH}", npy(codes), NPY, NPY)
        assert (loaded(other.content)[0] == voices[-1]).all()
    assert np.abs(voices[0] - voices[1]).max() > 0.1
    told(post(client, "/reconstruct?speaker=bem", npy(sound[None]), NPY), 422, "did you mean 'ben'?", "anna, ben")
    told(post(client, f"/decode?speaker=ben&model={PICTURES}", npy(np.zeros((1, 4, 4), int)), NPY), 422, "no speakers")


def test_several_sounds_are_json_or_arrays(client: Client, speech: ToySounds) -> None:
    pair = np.stack([speech.sound(DOWNSAMPLING * 9, seed) for seed in (1, 2)])
    data, content_type = form(*(wav(one) for one in pair))
    items = post(client, "/reconstruct", data, content_type).json()["items"]
    found = [heard(base64.b64decode(item["audio"])) for item in items]
    expected = speech.decode(speech.encode(pair))
    for (samples, rate_hz), item, one in zip(found, items, expected, strict=True):
        assert rate_hz == item["sample_rate"] == HZ
        np.testing.assert_allclose(samples, one, atol=2**-15)
    arrays = loaded(post(client, "/reconstruct", npy(pair), NPY, NPZ).content)
    np.testing.assert_allclose(arrays["sounds"], expected, atol=1e-5)
    told(post(client, "/reconstruct", npy(pair), NPY, WAV), 406, "audio/wav")
    told(post(client, f"/sample?n=2&model={SPEECH}", accept=WAV), 406, "a WAV file holds one")


def test_what_is_drawn_can_be_heard(client: Client, speech: ToySounds) -> None:
    answer = post(client, f"/sample?model={SPEECH}&seed=3&label=two&speaker=anna", accept=NPZ)
    assert answer.status_code == 200, answer.text
    arrays = loaded(answer.content)
    codes = arrays["codes"]
    assert codes.shape == (1, LENGTH)
    np.testing.assert_allclose(arrays["sounds"], speech.decode(codes, np.array([0])), atol=1e-5)
    samples, rate_hz = heard(post(client, "/sample?seed=3&label=2&speaker=0&output=sounds", accept=WAV).content)
    np.testing.assert_allclose(samples, arrays["sounds"][0], atol=2**-15)
    assert rate_hz == HZ
    samples, rate_hz = heard(post(client, "/sample?speaker=0&output=sounds&sample_rate=16000", accept=WAV).content)
    assert (len(samples), rate_hz) == (2 * LENGTH * DOWNSAMPLING, 16000)


def test_likelihood_is_a_code_length_of_the_original(client: Client, speech: ToySounds) -> None:
    sound = speech.sound(3000)
    answer = post(client, "/likelihood?speaker=anna&labels=one", wav(sound), WAV, JSON)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["items"]
    codes, anna = speech.encode(padded(sound)), np.array([0])
    reconstruction = speech.log_likelihood(padded(sound), codes, anna)[0, :3000].sum()
    rate = speech.surprise(codes, np.array([DIGITS.index("one")]), anna).sum()
    assert item["reconstruction_nats"] == pytest.approx(reconstruction, rel=1e-5)
    assert item["kl_nats"] == pytest.approx(rate, rel=1e-5)
    assert item["bits_per_dim"] == pytest.approx((rate - reconstruction) / np.log(2) / 3000, rel=1e-5)
    assert item["prior"] == "learned"


def test_containers_hold_sounds(client: Client, speech: ToySounds) -> None:
    sound = speech.sound(HZ * 2 + 11)
    packed = post(client, "/compress", wav(sound), WAV)
    assert packed.headers["content-type"] == CONTAINER, packed.text
    bits = 5 * -(-len(sound) // DOWNSAMPLING)
    assert bits / 8 <= len(packed.content) < bits / 8 + 64
    assert NUM_EMBEDDINGS == 2**5
    samples, rate_hz = heard(post(client, "/decompress", packed.content, CONTAINER).content)
    expected = speech.decode(speech.encode(padded(sound)))[0, : len(sound)]
    assert rate_hz == HZ
    np.testing.assert_allclose(samples, np.clip(expected, -1, 1 - 2**-15), atol=2**-15)
    codes = loaded(post(client, "/decompress?output=codes", packed.content, CONTAINER, NPY).content)
    assert (codes == speech.encode(padded(sound))).all()
    voice = post(client, "/decompress?speaker=ben&sample_rate=16000", packed.content, CONTAINER)
    assert heard(voice.content)[1] == 16000


def test_long_sounds_go_in_pieces_and_others_have_a_maximum(client: Client, speech: ToySounds) -> None:
    sound = speech.sound(HZ * 6)
    codes = loaded(post(client, "/encode", wav(sound), WAV, NPY).content)
    assert (codes == speech.encode(padded(sound))).all()
    told(post(client, f"/encode?model={WHOLE}", wav(sound), WAV), 422, "up to 8192 samples")
    told(post(client, "/encode", wav(speech.sound(HZ * 21)), WAV), 413, "20 s")
    told(post(client, "/encode", npy(speech.sound(HZ * 21)[None]), NPY), 413, "20 s")


def test_the_limits_of_sounds_are_told_with_their_cure(tmp_path: Path, speech: ToySounds) -> None:
    publish(tmp_path, SPEECH, sounds.toy(speech))
    limits: dict[str, Any] = {"max_body_bytes": 10_000, "max_request_samples": 4000, "max_seconds": 2.0}
    with serving(Settings(store=tmp_path, device="cpu", threads=1, buckets=(1,), **limits)) as client:
        told(post(client, "/encode", wav(speech.sound(HZ)), WAV), 413, "audio/flac", "LATENTD_MAX_BODY_BYTES")
        told(post(client, "/encode", wav(np.zeros((1600, 3))), WAV), 413, "4800 samples", "at a lower rate")
        silence = wav(np.zeros(384_000), 384_000, kind="FLAC")
        told(post(client, "/reconstruct", silence, FLAC), 413, "384000 samples")
        codes = npy(np.zeros((1, 8), np.int32))
        told(post(client, "/decode?sample_rate=384000", codes, NPY), 413, "24576 samples", "lower sample rate")
        slow = npy(np.zeros((1, 2100), np.float32))
        told(post(client, "/encode?sample_rate=1000", slow, NPY), 413, "lasts 2.1 s")
        short = npy(np.zeros((1, 2), np.float32))
        told(post(client, "/encode?sample_rate=384000", short, NPY), 422, "send a longer sound")


def test_each_kind_of_media_finds_its_default_model(client: Client, speech: ToySounds) -> None:
    image = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4).images(1)[0]
    sound = speech.sound(640)
    for body, media_type, name in (
        (png(image), PNG, PICTURES),
        (npy(image[None]), NPY, PICTURES),
        (wav(sound), WAV, SPEECH),
        (npy(sound[None]), NPY, SPEECH),
        (json.dumps({"items": [{"audio": base64.b64encode(wav(sound)).decode()}]}).encode(), JSON, SPEECH),
        (*form(wav(sound)), SPEECH),
        (*form(png(image)), PICTURES),
        (*form(png(image, "webp")), PICTURES),
    ):
        answer = post(client, "/reconstruct", body, media_type)
        assert (answer.status_code, answer.headers.get("x-latentd-model")) == (200, f"{name}@1"), answer.text
        assert answer.headers["content-type"] == (PNG if name == PICTURES else WAV)
    assert picture(post(client, "/reconstruct", png(image), PNG).content).shape == image.shape


def test_the_wrong_kind_is_told_so(client: Client, speech: ToySounds) -> None:
    image = png(np.zeros((8, 8, 3), np.uint8))
    sound = wav(speech.sound(640))
    told(post(client, f"/encode?model={SPEECH}", image, PNG), 415, "a model of sounds", "audio/wav or audio/flac")
    told(post(client, f"/encode?model={PICTURES}", sound, WAV), 415, "a model of pictures", "leave model out")
    item = json.dumps({"items": [{"image": base64.b64encode(image).decode()}]}).encode()
    told(post(client, f"/encode?model={SPEECH}", item, JSON), 422, "send 'audio'")
    told(post(client, f"/encode?model={SPEECH}", *form(image)), 415, "WAV or FLAC")
    pixels = npy(np.zeros((1, 8, 8, 3), np.uint8))
    told(post(client, f"/encode?model={SPEECH}", pixels, NPY), 422, "expected float32 [B, T] in [-1, 1]")
    told(post(client, f"/encode?model={PICTURES}", npy(np.zeros((1, 64), np.float32)), NPY), 422, "uint8 [B, H, W, 3]")
    loud = npy(np.full((1, 640), 3000, np.float32))
    told(post(client, "/encode", loud, NPY), 422, "from 3000 to 3000", "divide 16-bit samples by 32768")
    told(post(client, "/encode?sample_rate=16000", sound, WAV), 422, "a file says its own")
    told(post(client, "/encode?sample_rate=16000", image, PNG), 422, "a model of pictures")
    told(post(client, "/encode?binarize=threshold", sound, WAV), 422, "leave binarize out")
    told(post(client, "/reconstruct", sound, WAV, PNG), 406, "audio/wav")
    told(post(client, "/reconstruct", image, PNG, WAV), 406, "image/png")
    told(post(client, "/encode", *form(sound, wav(speech.sound(900)))), 422, "differ in length")
    told(post(client, "/encode", sound[:-9], WAV), 400, "truncated")
    told(post(client, f"/sample?model={SPEECH}", accept="text/event-stream"), 406)


def test_openapi_tells_of_sounds(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/encode", "/reconstruct", "/likelihood", "/compress"):
        assert {WAV, FLAC} <= set(paths[path]["post"]["requestBody"]["content"])
    for path in ("/decode", "/reconstruct", "/sample", "/decompress"):
        assert WAV in paths[path]["post"]["responses"]["200"]["content"]
        assert {"speaker", "sample_rate"} <= {one["name"] for one in paths[path]["post"]["parameters"]}
    assert tuple(client.get(f"/models/{SPEECH}").json()["conditions"]["speaker"]) == SPEAKERS
    told(client.get("/encode/live"), 426, "ws://")


def test_a_folder_of_its_own_is_not_needed(tmp_path: Path) -> None:
    """Where sounds alone are served, an empty request means them."""
    publish(tmp_path, SPEECH, sounds.toy(sounds.make(1)))
    with serving(Settings(store=tmp_path, device="cpu", threads=1, buckets=(1,))) as client:
        assert post(client, "/sample?seed=1", accept=WAV).headers["content-type"] == WAV
        told(post(client, "/encode", png(np.zeros((8, 8, 3), np.uint8)), PNG), 409, "no served model of pictures")
