"""The latent tools on the digits that the project ships, over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.settings import Settings
from tests.service.serving import Client, form, loaded, picture, png, post, serving

ROOT = Path(__file__).parents[2]
NPY, PNG = "application/x-npy", "image/png"
SIDE, GAP = 28, 2
DIGITS = "model=digits-vae&binarize=threshold"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    settings = Settings(store=ROOT / "pretrained", models=("digits-vae",), device="cpu", threads=1, buckets=(1, 16))
    with serving(settings) as client:
        yield client


@pytest.fixture(scope="module")
def digits(client: Client) -> list[bytes]:
    images = loaded(post(client, "/sample?model=digits-vae&n=2&seed=7", accept=NPY).content)
    return [png(image) for image in images]


def answered(client: Client, path: str, body: bytes, content_type: str, accept: str) -> httpx.Response:
    answer: httpx.Response = post(client, path, body, content_type, accept)
    assert answer.status_code == 200, answer.text
    return answer


@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_a_path_goes_from_one_reconstruction_to_the_other(client: Client, digits: list[bytes], kind: str) -> None:
    body, content_type = form(*digits)
    path = f"/interpolate?{DIGITS}&steps=9&kind={kind}"
    found = loaded(answered(client, path, body, content_type, NPY).content).astype(int)
    ends = [loaded(answered(client, f"/reconstruct?{DIGITS}", one, PNG, NPY).content)[0] for one in digits]
    assert np.abs(found[[0, -1]] - np.stack(ends)).max() <= 1
    away = np.square(found - found[0]).mean(axis=(1, 2, 3))
    assert away[-1] > away[1] > 0
    strip = picture(answered(client, path, body, content_type, PNG).content)
    assert strip.shape == (SIDE, 9 * SIDE + 8 * GAP)


def test_a_cloud_grows_with_its_scale(client: Client, digits: list[bytes]) -> None:
    middle = loaded(answered(client, f"/reconstruct?{DIGITS}", digits[0], PNG, NPY).content).astype(float)
    distances = []
    for scale in (0.0, 0.2, 0.8):
        path = f"/vary?{DIGITS}&n=9&seed=3&scale={scale}"
        found = loaded(answered(client, path, digits[0], PNG, NPY).content)
        distances.append(np.square(found - middle).mean())
    assert distances[0] <= 1
    assert distances[0] < distances[1] < distances[2]
    sheet = picture(answered(client, f"/vary?{DIGITS}&n=9&seed=3&scale=0.8", digits[0], PNG, PNG).content)
    assert sheet.shape == (3 * SIDE + 2 * GAP,) * 2


def test_a_grid_has_a_row_a_dimension(client: Client, digits: list[bytes]) -> None:
    grid = picture(answered(client, f"/traverse?{DIGITS}&dimension=0,1,2", digits[0], PNG, PNG).content)
    assert grid.shape == (3 * SIDE + 2 * GAP, 7 * SIDE + 6 * GAP)
    path = "/traverse?model=digits-vae&dimension=4,2&steps=3&output=z"
    z = np.array([item["z"] for item in answered(client, path, b"", "", "application/json").json()["items"]])
    assert z.shape == (6, client.get("/models/digits-vae").json()["latent"][0]["dimensions"])
    assert (np.diff(z[:3, 4]) > 0).all()
    assert (np.diff(z[3:, 2]) > 0).all()
    assert (z[:3, 2] == z[0, 2]).all()


def test_draws_from_the_posterior_lie_around_it(client: Client, digits: list[bytes]) -> None:
    path = f"/encode?{DIGITS}&output=z&samples=400&seed=1"
    (z,) = loaded(answered(client, path, digits[0], PNG, NPY).content)
    (again,) = loaded(answered(client, path.replace("samples=400", "samples=3"), digits[0], PNG, NPY).content)
    np.testing.assert_allclose(again, z[:3], rtol=1e-4, atol=1e-5)
    encoded = loaded(answered(client, f"/encode?{DIGITS}", digits[0], PNG, "application/x-npz").content)
    if sorted(encoded) == ["log_variance", "mean"]:
        deviation = np.exp(encoded["log_variance"][0] / 2)
        assert np.abs((z.mean(0) - encoded["mean"][0]) / deviation).max() < 5 / np.sqrt(400)
        np.testing.assert_allclose(z.std(0), deviation, rtol=0.2)
