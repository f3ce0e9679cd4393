"""Real-valued latents of any posterior and prior over HTTP, against the toys' mathematics in NumPy."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from artifact import golden
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM, batch_normal
from artifact.store import Store
from service.engine.opening import READ
from service.settings import Settings
from tests.service.serving import PROBLEM, Client, loaded, npy, post, serving
from tests.toys import shaped, tokens, vectors
from tests.toys.publish import publish
from tests.toys.shaped import ToyShaped

NPY, NPZ, JSON = "application/x-npy", "application/x-npz", "application/json"
SAMPLED = ("draw", "log_weight", "draw_prior", "exact")


@pytest.fixture(scope="module")
def toy() -> ToyShaped:
    return shaped.make_shaped(7)


@pytest.fixture(scope="module")
def client(toy: ToyShaped, tmp_path_factory: Any) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("store")
    publish(root, "toy-shaped", shaped.toy(toy, warnings=("dimension 2 is not used",)))
    publish(root, "toy-density", shaped.toy(shaped.make_shaped(7, density=True)))
    plain = {"capabilities": ("encode", "decode", "reconstruct"), "bound": None}
    publish(root, "toy-plain", shaped.toy(toy, SAMPLED, **plain))
    by_pixel = {"capabilities": ("encode", "likelihood"), "bound": "elbo"}
    publish(root, "toy-by-pixel", shaped.toy(toy, ("decode", "draw_prior", "exact"), **by_pixel))
    publish(
        root, "toy-tokens", tokens.toy(tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4))
    )
    publish(root, "toy-binary", vectors.toy(vectors.make(1, 1, 4, binary=True), shaped.CAPABILITIES))
    names = ("toy-shaped", "toy-binary", "toy-density", "toy-plain", "toy-by-pixel", "toy-tokens")
    limits = {"max_rows": 64, "max_drawn_values": 1000, "max_importance_samples": 300, "buckets": (1, 4)}
    with serving(Settings(store=root, models=names, device="cpu", threads=1, **limits)) as client:
        yield client


@pytest.fixture
def images(toy: ToyShaped) -> np.ndarray:
    return toy.linear.images(3)


def test_encode_answers_what_the_manifest_lists_and_the_first_stands_for_x(
    client: Client, toy: ToyShaped, images: np.ndarray
) -> None:
    expected = toy.encode(images)
    answer = post(client, "/encode?model=toy-shaped", npy(images), NPY).json()
    assert [list(item) for item in answer["items"]] == [["z", "mean", "log_variance"]] * 3
    for name, values in expected.items():
        np.testing.assert_allclose([item[name] for item in answer["items"]], values, rtol=1e-4, atol=1e-4)
    assert "seed" not in answer
    inner = loaded(post(client, "/encode?model=toy-shaped&output=features", npy(images), NPY, NPY).content)
    np.testing.assert_allclose(inner, -expected["mean"], rtol=1e-4, atol=1e-4)
    express = post(client, "/encode?model=toy-shaped", npy(images), NPY, NPY)
    assert "x-latentd-seed" not in express.headers
    np.testing.assert_allclose(loaded(express.content), expected["z"], rtol=1e-4, atol=1e-4)
    pictures = toy.linear.decode(expected["z"]).clip(0, 255)
    through = loaded(post(client, "/reconstruct?model=toy-shaped", npy(images), NPY, NPY).content)
    assert np.abs(through - pictures).max() <= 0.51
    body = json.dumps({"model": "toy-shaped", "items": answer["items"]}).encode()
    assert np.array_equal(loaded(post(client, "/decode", body, JSON, NPY).content), through)
    archive = post(client, "/encode?model=toy-shaped", npy(images), NPY, NPZ).content
    assert np.array_equal(loaded(post(client, "/decode?model=toy-shaped", archive, NPZ, NPY).content), through)
    assert post(client, "/decode", b'{"items": [{"mean": [1, 2, 3]}]}', JSON).status_code == 422


@pytest.mark.parametrize("samples", [1, 5, 40])
def test_samples_of_the_posterior_are_those_that_likelihood_weighs(
    client: Client, toy: ToyShaped, images: np.ndarray, samples: int
) -> None:
    query = f"model=toy-shaped&samples={samples}&seed=9&first_index=4"
    noise = batch_normal(9, 4, 3, (samples, 4), stream=POSTERIOR_STREAM)
    answer = post(client, f"/encode?{query}", npy(images), NPY, NPY)
    assert answer.headers["x-latentd-seed"] == "9"
    np.testing.assert_allclose(loaded(answer.content), toy.draw(images, noise), rtol=1e-4, atol=1e-4)
    log_weights = toy.log_weights(images, noise)
    items = post(client, f"/likelihood?{query}", npy(images), NPY).json()["items"]
    np.testing.assert_allclose([item["elbo_nats"] for item in items], log_weights.mean(1), rtol=1e-5)


def test_an_artifact_without_a_graph_that_draws_has_its_samples_from_its_moments(
    client: Client, images: np.ndarray
) -> None:
    binary = vectors.make(1, 1, 4, binary=True)
    images = np.where(images > 127, 255, 0).astype(np.uint8)
    mean, log_variance = binary.encode(images)
    noise = batch_normal(3, 0, 3, (50, 4), stream=POSTERIOR_STREAM)
    expected = mean[:, None] + np.exp(log_variance / 2)[:, None] * noise
    query = "model=toy-binary&output=log_variance,z&samples=50&seed=3"
    archive = loaded(post(client, f"/encode?{query}", npy(images), NPY, NPZ).content)
    assert list(archive) == ["log_variance", "z"]
    np.testing.assert_allclose(archive["z"], expected, rtol=1e-4, atol=1e-5)
    one = post(client, "/encode?model=toy-binary&output=z,mean&seed=3", npy(images), NPY).json()
    assert one["seed"] == 3
    np.testing.assert_allclose([item["z"] for item in one["items"]], expected[:, 0], rtol=1e-4, atol=1e-5)
    unseeded = post(client, "/encode?model=toy-binary&output=z", npy(images), NPY).json()
    again = post(client, f"/encode?model=toy-binary&output=z&seed={unseeded['seed']}", npy(images), NPY).json()
    assert unseeded == again
    decoded = [post(client, "/decode", json.dumps(it).encode(), JSON, NPY).content for it in (one, unseeded)]
    assert decoded[0] != decoded[1], "z counts, not the mean beside it"


def test_a_prior_of_its_own_is_drawn_by_its_graph(client: Client, toy: ToyShaped) -> None:
    noise = batch_normal(5, 2, 6, (1, 4), stream=PRIOR_STREAM)[:, 0]
    query = "/sample?model=toy-shaped&n=6&seed=5&first_index=2&temperature"
    for temperature in (1.0, 0.3, 0.0):
        expected = toy.linear.decode(toy.sample(noise, temperature)).clip(0, 255)
        found = loaded(post(client, f"{query}={temperature}", accept=NPY).content)
        assert np.abs(found - expected).max() <= 0.51


def test_exact_likelihoods_are_the_closed_form_and_no_bound_is_above(
    client: Client, toy: ToyShaped, images: np.ndarray
) -> None:
    mean, covariance = toy.marginal()
    near = np.random.default_rng(1).multivariate_normal(mean, covariance, 4).clip(0, 255).round().astype(np.uint8)
    expected = multivariate_normal(mean, covariance).logpdf(near)
    body = npy(near.reshape(4, 8, 8, 1))
    alone = post(client, "/likelihood?model=toy-shaped&bounds=exact", body, NPY).json()
    assert "seed" not in alone
    beside = post(client, "/likelihood?model=toy-shaped&samples=300&seed=1", body, NPY).json()
    for answer in (alone, beside):
        np.testing.assert_allclose([item["exact_nats"] for item in answer["items"]], expected, rtol=1e-5)
        for item in answer["items"]:
            assert item["bits_per_dim_bound"] == "exact"
            assert item["bits_per_dim"] == pytest.approx(-item["exact_nats"] / np.log(2) / 64)
    absent = {"elbo_nats", "iwae_nats", "iwae_standard_error_nats", "effective_sample_size", "kl_nats"}
    assert all(item[name] is None for item in alone["items"] for name in absent)
    for item in beside["items"]:
        assert item["exact_nats"] >= item["iwae_nats"] - 5 * item["iwae_standard_error_nats"]
        assert item["iwae_nats"] >= item["elbo_nats"]
    array = loaded(post(client, "/likelihood?model=toy-shaped&bounds=exact", body, NPY, NPY).content)
    assert array.dtype == np.float64
    np.testing.assert_allclose(array, expected, rtol=1e-5)
    refused = post(client, "/likelihood?model=toy-shaped&bounds=exact&samples=5", body, NPY)
    assert (refused.status_code, "no samples" in refused.json()["detail"]) == (422, True)


def test_a_density_has_no_bits(client: Client, images: np.ndarray) -> None:
    for bounds in ("exact", "elbo,iwae"):
        for item in post(client, f"/likelihood?model=toy-density&bounds={bounds}", npy(images), NPY).json()["items"]:
            assert item["density"] is True
            assert item["bits_per_dim"] is None
            assert item["bits_per_dim_bound"] is None
    archive = loaded(post(client, "/likelihood?model=toy-density&bounds=exact", npy(images), NPY, NPZ).content)
    assert list(archive) == ["exact_nats"]


@pytest.mark.parametrize(
    ("status", "path", "told"),
    [
        (409, "/sample?model=toy-plain", "no prior over its latents"),
        (409, "/likelihood?model=toy-plain", "no bound on log p(x)"),
        (409, "/encode?model=toy-plain&samples=2", "no posterior to draw from"),
        (409, "/decode?model=toy-by-pixel", "value by value"),
        (409, "/reconstruct?model=toy-by-pixel", "value by value"),
        (409, "/sample?model=toy-by-pixel", "value by value"),
        (409, "/compress?model=toy-shaped", "real numbers, not codes"),
        (409, "/likelihood?model=toy-by-pixel&bounds=exact", "bounds=elbo,iwae"),
        (413, "/encode?model=toy-shaped&samples=301", "at most 300"),
        (413, "/encode?model=toy-shaped&samples=120", "3 items in 3 dimensions are 1080 numbers, at most 1000"),
        (422, "/encode?model=toy-shaped&output=z&seed=1", "samples="),
        (422, "/encode?model=toy-shaped&output=mean&samples=3", "names no z"),
        (422, "/encode?model=toy-shaped&samples=0", "samples"),
        (422, "/encode?model=toy-shaped&output=zz", "did you mean 'z'"),
    ],
)
def test_what_a_model_has_not_is_told_with_the_reason(
    client: Client, images: np.ndarray, status: int, path: str, told: str
) -> None:
    no_body = path.startswith(("/sample", "/decode"))
    answer = post(client, path) if no_body else post(client, path, npy(images), NPY)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert told in answer.json()["detail"]


def test_codes_are_not_drawn(client: Client) -> None:
    images = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    answer = post(client, "/encode?model=toy-tokens&samples=3", npy(images), NPY)
    assert (answer.status_code, "deterministic" in answer.json()["detail"]) == (422, True)


def test_a_decoder_by_pixels_still_has_its_likelihood_and_its_draws(
    client: Client, toy: ToyShaped, images: np.ndarray
) -> None:
    noise = batch_normal(2, 0, 3, (10, 4), stream=POSTERIOR_STREAM)
    query = "model=toy-by-pixel&samples=10&seed=2"
    items = post(client, f"/likelihood?{query}", npy(images), NPY).json()["items"]
    np.testing.assert_allclose([item["elbo_nats"] for item in items], toy.log_weights(images, noise).mean(1), rtol=1e-5)
    z = loaded(post(client, f"/encode?{query}", npy(images), NPY, NPY).content)
    np.testing.assert_allclose(z, toy.draw(images, noise), rtol=1e-4, atol=1e-4)


def test_every_graph_is_warm_and_compared_with_its_golden_outputs(client: Client) -> None:
    model = client.app.state.service.engine.model("toy-shaped", "sample")
    assert model.plans.keys() == {"encode", "decode", *SAMPLED}
    recorded = golden.read(Store(client.app.state.service.settings.store).open("toy-shaped@1"))
    report = recorded.check(lambda role, inputs: model.sessions[role].run(inputs), read=READ)
    assert report.errors.keys() == model.plans.keys()
    assert (recorded.examples["draw_prior"].inputs["temperature"] > 0).all(), "at 0 the noise would not show"


def test_models_are_listed_with_their_warnings(client: Client) -> None:
    assert client.get("/models/toy-shaped").json()["warnings"] == ["dimension 2 is not used"]
    assert [model["warnings"] for model in client.get("/models").json()["models"]][1] == []


def test_every_graph_is_a_model_of_the_open_inference_protocol(client: Client, toy: ToyShaped) -> None:
    names = {model["name"] for model in client.post("/v2/repository/index", json={}).json()}
    assert {f"toy-shaped.{role}" for role in ("encode", "decode", *SAMPLED)} <= names
    noise = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    inputs = [
        {"name": "noise", "datatype": "FP32", "shape": [2, 4], "data": noise.ravel().tolist()},
        {"name": "temperature", "datatype": "FP32", "shape": [2], "data": [1.0, 1.0]},
    ]
    (output,) = client.post("/v2/models/toy-shaped.draw_prior/infer", json={"inputs": inputs}).json()["outputs"]
    assert output["shape"] == [2, 3]
    np.testing.assert_allclose(np.reshape(output["data"], (2, 3)), toy.sample(noise, 1.0), rtol=1e-5)
