"""A decoder that draws sounds sample by sample, over HTTP: held against the same draws made one after the other."""

import base64
import io
import wave
from collections.abc import Iterator

import numpy as np
import pytest

from media.mu_law import expanded
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, form, npy, post, serving
from tests.toys import by_sample, sounds
from tests.toys.by_sample import MAXIMUM, ToyDecoder
from tests.toys.publish import publish
from tests.toys.sounds import DOWNSAMPLING, NUM_EMBEDDINGS, SPEAKERS

NPY, NPZ, JSON = "application/x-npy", "application/x-npz", "application/json"


@pytest.fixture(scope="module")
def model() -> ToyDecoder:
    return by_sample.make(1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, model: ToyDecoder) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("store")
    publish(root, "toy-drawn", by_sample.toy(model))
    publish(root, "toy-parallel", sounds.toy(sounds.make(2)))
    settings = Settings(
        store=root, device="cpu", threads=1, buckets=(1,), models=("toy-drawn", "toy-parallel"), slots=3
    )
    with serving(settings) as client:
        yield client


def array(answer: object) -> np.ndarray:
    return np.load(io.BytesIO(answer.content), allow_pickle=False)


def codes(rows: int, places: int) -> np.ndarray:
    return np.random.default_rng(rows).integers(0, NUM_EMBEDDINGS, (rows, places), dtype=np.int32)


def test_codes_are_drawn_to_sounds(client: Client, model: ToyDecoder) -> None:
    given = codes(4, 3)
    url = "/decode?model=toy-drawn&speaker=none,anna,ben,anna&decoder_seed=9"
    answer = post(client, url, npy(given), NPY, accept=NPY)
    assert answer.status_code == 200, answer.text
    drawn = [model.draw(given[item], speaker, 9, item) for item, speaker in enumerate((2, 0, 1, 0))]
    assert np.array_equal(array(answer), expanded(np.stack(drawn)))
    assert len(set(drawn[0].tolist())) > 20


def test_the_noise_is_the_same_unless_another_is_asked_for(client: Client, model: ToyDecoder) -> None:
    given = codes(1, 2)
    first, second = (array(post(client, "/decode?model=toy-drawn", npy(given), NPY, accept=NPY)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(first[0], expanded(model.draw(given[0], len(SPEAKERS), 0, 0)))
    other = array(post(client, "/decode?model=toy-drawn&decoder_seed=1", npy(given), NPY, accept=NPY))
    assert not np.array_equal(first, other)
    certain = array(post(client, "/decode?model=toy-drawn&decoder_temperature=0", npy(given), NPY, accept=NPY))
    assert np.array_equal(certain[0], expanded(model.draw(given[0], len(SPEAKERS), 5, 0, temperature=0.0)))


def test_reconstructions_are_draws(client: Client, model: ToyDecoder) -> None:
    sound = model.sounds.sound(4 * DOWNSAMPLING)[None]
    answer = post(client, "/reconstruct?model=toy-drawn&speaker=ben", npy(sound), NPY, accept=NPY)
    assert answer.status_code == 200, answer.text
    expected = expanded(model.draw(model.sounds.encode(sound)[0], 1, 0, 0))
    assert np.array_equal(array(answer)[0], expected)


def test_samples_are_drawn_twice(client: Client, model: ToyDecoder) -> None:
    answer = client.post("/sample?model=toy-drawn&n=2&seed=3&first_index=5&label=one", headers={"accept": NPZ})
    assert answer.status_code == 200, answer.text
    found = np.load(io.BytesIO(answer.content), allow_pickle=False)
    for row, (made, drawn) in enumerate(zip(found["sounds"], found["codes"], strict=True)):
        assert np.array_equal(made, expanded(model.draw(drawn, len(SPEAKERS), 3, 5 + row))), row
    again = client.post("/sample?model=toy-drawn&n=1&seed=3&first_index=6&label=one", headers={"accept": NPZ})
    assert np.array_equal(np.load(io.BytesIO(again.content))["sounds"][0], found["sounds"][1])


def test_what_makes_no_sense_is_refused(client: Client) -> None:
    long = codes(1, MAXIMUM // DOWNSAMPLING + 1)
    answer = post(client, "/decode?model=toy-drawn", npy(long), NPY, accept=NPY)
    assert (answer.status_code, answer.headers["content-type"]) == (413, PROBLEM)
    assert f"toy-drawn@1 draws at most {MAXIMUM}" in answer.json()["detail"]
    answer = post(client, "/decode?model=toy-parallel&decoder_seed=1", npy(codes(1, 2)), NPY, accept=NPY)
    assert answer.status_code == 422
    assert "decoder_seed is given, and toy-parallel@1 decodes all samples" in answer.json()["detail"]


def test_containers_of_any_sizes_are_drawn_by_their_place(client: Client, model: ToyDecoder) -> None:
    given = [model.sounds.sound(places * DOWNSAMPLING, seed) for seed, places in enumerate((2, 3, 2))]
    packed = [post(client, "/compress?model=toy-drawn", npy(one[None]), NPY).content for one in given]
    body, kind = form(*packed)
    answer = post(client, "/decompress?model=toy-drawn", body, kind, accept=JSON)
    assert answer.status_code == 200, answer.text
    for item, (sound, found) in enumerate(zip(given, answer.json()["items"], strict=True)):
        with wave.open(io.BytesIO(base64.b64decode(found["audio"]))) as file:
            heard = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        expected = expanded(model.draw(model.sounds.encode(sound[None])[0], len(SPEAKERS), 0, item))
        assert np.abs(heard - expected).max() <= 0.5001 / 32768, item
