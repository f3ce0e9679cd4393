"""Moves in the space of latents: the paths by themselves, and over HTTP against the toys' mathematics in NumPy."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.spatial import geometric_slerp

from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM, batch_normal
from service.settings import Settings
from service.tools import path, sweep
from tests.service.serving import PROBLEM, Client, form, loaded, npy, picture, png, post, serving
from tests.toys import shaped, tokens, vectors
from tests.toys.publish import publish

NPY, NPZ, JSON, PNG = "application/x-npy", "application/x-npz", "application/json", "image/png"
COLOUR = vectors.make(2, channels=3, dimensions=3, binary=False)
SHAPED = shaped.make_shaped(7)


@pytest.fixture(scope="module")
def client(tmp_path_factory: Any) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("store")
    publish(
        root, "toy-tokens", tokens.toy(tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4))
    )
    publish(root, "toy-colour", vectors.toy(COLOUR, shaped.CAPABILITIES))
    publish(root, "toy-shaped", shaped.toy(SHAPED))
    publish(root, "toy-decoder", shaped.toy(SHAPED, capabilities=("decode",), bound=None))
    names = ("toy-tokens", "toy-colour", "toy-shaped", "toy-decoder")
    settings = Settings(store=root, models=names, device="cpu", threads=1, buckets=(1, 8), max_rows=64)
    with serving(settings) as client:
        yield client


def vector(seed: int, dimensions: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=dimensions).astype(np.float32)


def test_an_arc_of_the_unit_sphere_is_scipys() -> None:
    a, b = (v / np.linalg.norm(v) for v in np.random.default_rng(0).normal(size=(2, 6)))
    found, kind = path(a.astype(np.float32), b.astype(np.float32), 9, "spherical")
    assert kind == "spherical"
    np.testing.assert_allclose(found, geometric_slerp(a, b, np.linspace(0, 1, 9)), atol=1e-6)


def test_an_arc_between_lengths_turns_evenly_and_both_kinds_keep_the_ends() -> None:
    a, b = np.array([3, 0, 0], np.float32), np.array([0, 5, 0], np.float32)
    t = np.linspace(0, 1, 5)
    turned = np.stack([3 * np.cos(t * np.pi / 2), 5 * np.sin(t * np.pi / 2), 0 * t], axis=1)
    np.testing.assert_allclose(path(a, b, 5, "spherical")[0], turned, atol=1e-6)
    np.testing.assert_allclose(path(a, b, 5, "linear")[0], np.stack([3 - 3 * t, 5 * t, 0 * t], axis=1), atol=1e-6)
    for kind in ("linear", "spherical"):
        ends = path(vector(2), vector(3), 7, kind)[0][[0, -1]]
        assert np.array_equal(ends, [vector(2), vector(3)])


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.5, -1.0, -3.0])
def test_where_no_arc_is_defined_the_path_is_straight_and_says_so(factor: float) -> None:
    a = vector(4)
    b = np.float32(factor) * a
    found, kind = path(a, b, 4, "spherical")
    assert kind == "linear"
    np.testing.assert_allclose(found, np.linspace(a, b, 4), rtol=1e-5, atol=1e-6)


def test_a_sweep_replaces_one_coordinate_a_row() -> None:
    point, values = vector(5, 4), np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = np.tile(point, (6, 1))
    expected[:3, 3], expected[3:, 1] = values[0], values[1]
    assert np.array_equal(sweep(point, [3, 1], values), expected)


def pictures_of(z: np.ndarray) -> np.ndarray:
    return COLOUR.decode(z).clip(0, 255)


@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_interpolate_decodes_a_path_between_two_pictures(client: Client, kind: str) -> None:
    images = COLOUR.images(2)
    mean = COLOUR.encode(images)[0].astype(np.float32)
    z = path(mean[0], mean[1], 5, kind)[0]
    query = f"/interpolate?kind={kind}&steps=5"
    answer = post(client, query, npy(images), NPY, NPY)
    assert answer.headers["x-latentd-model"] == "toy-colour@1", "the first model that has something between two latents"
    assert answer.headers["x-latentd-path"] == kind
    found = loaded(answer.content)
    assert np.abs(found - pictures_of(z)).max() <= 0.6
    through = loaded(post(client, "/reconstruct?model=toy-colour", npy(images), NPY, NPY).content)
    assert np.abs(found[[0, -1]].astype(int) - through).max() <= 1
    strip = post(client, query, *form(*(png(image) for image in images)))
    assert strip.headers["content-type"] == PNG
    strip = picture(strip.content)
    assert strip.shape == (8, 5 * 8 + 4 * 2, 3)
    assert np.abs(strip[:, 10:18].astype(int) - found[1]).max() <= 1
    items = [{"image": base64.b64encode(png(image)).decode()} for image in images]
    body = {"model": "toy-colour", "kind": kind, "steps": 5, "output": ["z", "images"], "items": items}
    told = post(client, "/interpolate", json.dumps(body).encode(), JSON, JSON).json()["items"]
    assert [item["t"] for item in told] == [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose([item["z"] for item in told], z, rtol=1e-3, atol=1e-4)
    assert picture(base64.b64decode(told[4]["image"])).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", [JSON, NPY, NPZ])
def test_latents_go_in_as_decode_takes_them_and_come_out_so(client: Client, kind: str) -> None:
    z = np.stack([vector(1, 3), vector(2, 3)])
    encoded = post(client, "/encode?model=toy-colour", npy(COLOUR.images(2)), NPY, kind).content
    content = encoded if kind != JSON else json.dumps({"items": [{"z": row.tolist()} for row in z]}).encode()
    answer = post(client, "/interpolate?model=toy-colour&steps=4&output=z", content, kind)
    assert answer.headers["content-type"] == JSON
    points = np.array([item["z"] for item in answer.json()["items"]])
    ends = z if kind == JSON else COLOUR.encode(COLOUR.images(2))[0]
    np.testing.assert_allclose(points, np.linspace(*ends, 4), rtol=1e-3, atol=1e-4)
    again = json.dumps({"model": "toy-colour", "items": answer.json()["items"]}).encode()
    assert loaded(post(client, "/decode", again, JSON, NPY).content).shape == (4, 8, 8, 3)


def test_traverse_sweeps_dimensions_in_deviations_of_the_prior(client: Client) -> None:
    image = COLOUR.images(1)
    mean = COLOUR.encode(image)[0][0]
    query = "/traverse?model=toy-colour&dimension=2,0&low=-2&high=1&steps=4"
    z = np.tile(mean, (2, 4, 1))
    z[0, :, 2] = z[1, :, 0] = [-2, -1, 0, 1]
    found = loaded(post(client, query, npy(image), NPY, NPY).content)
    assert np.abs(found - pictures_of(z.reshape(8, 3))).max() <= 0.6
    assert picture(post(client, query, png(image[0]), PNG).content).shape == (18, 4 * 8 + 3 * 2, 3)
    items = post(client, query + "&output=z", npy(image), NPY).json()["items"]
    assert [item["dimension"] for item in items] == [2] * 4 + [0] * 4
    assert [item["value"] for item in items] == [-2, -1, 0, 1] * 2
    np.testing.assert_allclose([item["z"] for item in items], z.reshape(8, 3), rtol=1e-4, atol=1e-4)
    whole = loaded(post(client, "/traverse?model=toy-colour", accept=NPY).content)
    centre = np.zeros((3, 7, 3))
    centre[[0, 1, 2], :, [0, 1, 2]] = np.arange(-3, 4)
    assert np.abs(whole - pictures_of(centre.reshape(21, 3))).max() <= 0.51


def test_a_prior_of_its_own_has_the_moments_of_its_draws(client: Client) -> None:
    items = post(client, "/traverse?model=toy-shaped&output=z&low=-1&high=1&steps=3", accept=JSON).json()["items"]
    z = np.reshape([item["z"] for item in items], (3, 3, 3))
    noise = batch_normal(0, 0, 1024, (1, 4), stream=PRIOR_STREAM)[:, 0]
    drawn = SHAPED.sample(noise, 1.0)
    np.testing.assert_allclose(z[0, 1], drawn.mean(0), rtol=1e-4)
    for d, swept in enumerate(z):
        np.testing.assert_allclose(np.diff(swept[:, d]), drawn.std(0)[d], rtol=1e-4)
        expected = SHAPED.weights["m"][d] + np.array([-1, 0, 1]) * SHAPED.weights["s"][d]
        np.testing.assert_allclose(swept[:, d], expected, atol=0.15 * SHAPED.weights["s"][d])


@pytest.mark.parametrize("unit", ["latent", "posterior"])
def test_vary_adds_noise_at_a_scale(client: Client, unit: str) -> None:
    image = COLOUR.images(1)
    mean, log_variance = (values[0] for values in COLOUR.encode(image))
    noise = batch_normal(3, 5, 6, (1, 3), stream=POSTERIOR_STREAM)[:, 0]
    spread = np.exp(log_variance / 2) if unit == "posterior" else 1.0
    query = f"/vary?model=toy-colour&n=6&seed=3&first_index=5&scale=0.7&unit={unit}"
    answer = post(client, f"{query}&output=z", npy(image), NPY)
    assert answer.json()["seed"] == 3
    assert answer.headers["x-latentd-seed"] == "3"
    z = np.array([item["z"] for item in answer.json()["items"]])
    np.testing.assert_allclose(z, mean + 0.7 * spread * noise, rtol=1e-4, atol=1e-4)
    found = loaded(post(client, query, npy(image), NPY, NPY).content)
    assert np.abs(found - pictures_of(z)).max() <= 0.6
    row = loaded(post(client, query.replace("n=6", "n=1").replace("index=5", "index=8"), npy(image), NPY, NPY).content)
    assert np.abs(row[0].astype(int) - found[3]).max() <= 1
    assert picture(post(client, query, png(image[0]), PNG).content).shape == (18, 28, 3)


def test_a_tool_can_be_a_job(client: Client) -> None:
    accepted = client.post("/traverse?model=toy-colour", headers={"prefer": "respond-async", "accept": NPY})
    assert accepted.status_code == 202
    job = accepted.headers["location"]
    for _ in range(1000):
        if client.get(job).json()["state"] not in ("queued", "running"):
            break
    assert loaded(client.get(f"{job}/result").content).shape == (21, 8, 8, 3)


PICTURE = npy(COLOUR.images(1))
POINT = npy(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("status", "path", "body", "accept", "told"),
    [
        (409, "/interpolate?model=toy-tokens", POINT, "*/*", "integer codes, between which there is nothing"),
        (409, "/traverse?model=toy-tokens", b"", "*/*", "models that can: toy-colour@1"),
        (409, "/vary?model=toy-shaped&unit=posterior", npy(SHAPED.linear.images(1)), "*/*", "no diagonal Gaussian"),
        (409, "/traverse?model=toy-decoder", b"", "*/*", "no prior to begin with"),
        (409, "/vary?model=toy-decoder", npy(SHAPED.linear.images(1)), "*/*", "send latents"),
        (406, "/vary", PICTURE, "audio/wav", "image/png"),
        (406, "/vary?output=z", PICTURE, PNG, NPY),
        (413, "/vary?n=65", PICTURE, "*/*", "at most 64"),
        (413, "/traverse?steps=22", PICTURE, "*/*", "at most 64 are made at once; name some with dimension"),
        (422, "/interpolate", PICTURE, "*/*", "holds 1 pictures or latents; send 2"),
        (422, "/interpolate", POINT, "*/*", "send 2"),
        (422, "/interpolate", b"", "*/*", "nothing to begin with; send 2"),
        (422, "/vary", b"", "*/*", "send one picture or latent"),
        (422, "/interpolate?kind=curved", PICTURE, "*/*", "kind"),
        (422, "/interpolate?steps=1", PICTURE, "*/*", "steps"),
        (422, "/traverse?dimension=3", PICTURE, "*/*", "expected 0 .. 2"),
        (422, "/traverse?dimension=x", PICTURE, "*/*", "dimension"),
        (422, "/traverse?fit=pad", b"", "*/*", "no picture is sent"),
        (422, "/vary?fit=pad", POINT, "*/*", "latents are sent"),
        (422, "/vary?unit=posterior", POINT, "*/*", "a latent is sent"),
        (422, "/vary", npy(np.full((1, 3), np.nan, np.float32)), "*/*", "finite"),
        (422, "/vary", npy(np.zeros((1, 4), np.float32)), "*/*", "[B, 3]"),
        (422, "/vary", npy(np.full((1, 3), 3e38, np.float32)), "*/*", "overflows"),
        (422, "/vary?output=codes", PICTURE, "*/*", "known: images, z"),
        (422, "/vary?sample_rate=8000&model=toy-colour", PICTURE, "*/*", "sample_rate"),
    ],
)
def test_every_mistake_is_told_with_its_cure(
    client: Client, status: int, path: str, body: bytes, accept: str, told: str
) -> None:
    answer = post(client, path, body, NPY if body else "", accept)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert told in answer.json()["detail"]
