"""The engine and its operations against the toys' mathematics in numpy."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from artifact.errors import ChecksumError, SignatureError
from artifact.manifest import MANIFEST_FILE
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM, batch_normal
from service import continuous, operations
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import (
    CapabilityError,
    DeviceError,
    LoadError,
    ParameterError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)
from service.settings import Settings
from tests.service.serving import with_engine


def model_of(engine: Engine, name: str) -> ServedModel:
    return engine.model(name, "encode")


@pytest.mark.parametrize("name", ["toy-binary", "toy-colour"])
def test_encode_decode_and_reconstruct_are_numpys(settings: Settings, toy_references: Any, name: str) -> None:
    toy = toy_references[name]
    images = toy.images(7)

    async def body(engine: Engine) -> None:
        model = model_of(engine, name)
        found = await continuous.encode(engine, model, images)
        mean, log_variance = toy.encode(images)
        np.testing.assert_allclose(found["mean"], mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["log_variance"], log_variance, rtol=1e-4, atol=1e-4)
        z = np.random.default_rng(0).normal(size=(5, toy.dimensions)).astype(np.float32)
        decoded = await continuous.decode(engine, model, z)
        expected = np.clip(toy.decode(z), 0, 255)
        assert decoded.dtype == np.uint8
        assert np.abs(decoded - expected).max() <= 0.501
        through = await continuous.reconstruct(engine, model, images)
        assert np.array_equal(through, await continuous.decode(engine, model, found["mean"]))

    with_engine(settings, body)


@pytest.mark.parametrize("name", ["toy-binary", "toy-colour"])
@pytest.mark.parametrize("samples", [1, 33, 100])
def test_likelihood_is_numpys_for_the_same_noise(
    settings: Settings, toy_references: Any, name: str, samples: int
) -> None:
    toy = toy_references[name]
    images = toy.images(3)

    async def body(engine: Engine) -> None:
        found = await continuous.likelihood(
            engine, model_of(engine, name), images, samples=samples, seed=9, first_index=4
        )
        noise = batch_normal(9, 4, 3, (samples, toy.dimensions), stream=POSTERIOR_STREAM)
        log_p_x, log_p_z, log_q = toy.log_weight(images, *toy.encode(images), noise)
        log_w = log_p_x + log_p_z - log_q
        np.testing.assert_allclose(found.elbo_nats, log_w.mean(1), rtol=1e-5)
        np.testing.assert_allclose(found.iwae_nats, np.logaddexp.reduce(log_w, 1) - np.log(samples), rtol=1e-5)

    with_engine(settings, body)


def test_samples_are_decoded_noise(settings: Settings, toy_references: Any) -> None:
    toy = toy_references["toy-colour"]

    async def body(engine: Engine) -> None:
        model = model_of(engine, "toy-colour")
        found = await continuous.sample(engine, model, n=6, seed=3, first_index=10, temperature=0.5)
        z = 0.5 * batch_normal(3, 10, 6, (1, 3), stream=PRIOR_STREAM)[:, 0]
        assert np.abs(found - np.clip(toy.decode(z), 0, 255)).max() <= 0.51

    with_engine(settings, body)


def test_a_row_alone_is_the_row_of_the_batch(settings: Settings, toy_references: Any) -> None:
    """Within tolerance at any bucket, to the bit where there is one bucket."""
    images = toy_references["toy-binary"].images(6)

    async def body(engine: Engine) -> tuple[list[Any], list[Any]]:
        model = model_of(engine, "toy-binary")
        batch = await continuous.likelihood(engine, model, images, samples=40, seed=1, first_index=7)
        alone = [
            await continuous.likelihood(engine, model, images[i : i + 1], samples=40, seed=1, first_index=7 + i)
            for i in range(6)
        ]
        drawn = await continuous.sample(engine, model, n=6, seed=2, first_index=0, temperature=1.0)
        for i in range(6):
            row = await continuous.sample(engine, model, n=1, seed=2, first_index=i, temperature=1.0)
            assert np.abs(row[0].astype(int) - drawn[i]).max() <= 1
        return batch.iwae_nats.tolist(), [one.iwae_nats[0] for one in alone]

    batch, alone = with_engine(settings, body)
    assert batch == pytest.approx(alone, rel=1e-6)
    batch, alone = with_engine(settings.model_copy(update={"buckets": (8,)}), body)
    assert batch == alone


def test_concurrent_requests_get_their_own_answers(settings: Settings, toy_references: Any) -> None:
    toy = toy_references["toy-binary"]
    images = toy.images(40)

    async def body(engine: Engine) -> None:
        model = model_of(engine, "toy-binary")
        parts = [images[i : i + 1 + i % 5] for i in range(0, 35)]
        answers = await asyncio.gather(*(continuous.encode(engine, model, part) for part in parts))
        for part, answer in zip(parts, answers, strict=True):
            np.testing.assert_allclose(answer["mean"], toy.encode(part)[0], rtol=1e-4, atol=1e-4)

    with_engine(settings, body)


def test_images_that_do_not_fit_are_told(settings: Settings, toy_references: Any) -> None:
    good = toy_references["toy-binary"].images(2)

    async def body(engine: Engine) -> None:
        model = model_of(engine, "toy-binary")
        for bad in (good.astype(np.float32), good[0], good[:, :7], good.repeat(3, axis=3), good[:0]):
            with pytest.raises(ParameterError, match=r"takes uint8 \[B, 8, 8, 1\]"):
                operations.check_images(model, bad, binarize=None)
        grey = np.full((1, 8, 8, 1), 127, dtype=np.uint8)
        with pytest.raises(ParameterError, match=r"one is 127.*binarize=threshold"):
            operations.check_images(model, grey, binarize=None)
        assert operations.check_images(model, grey, binarize="threshold").max() == 0
        assert operations.check_images(model, grey + np.uint8(1), binarize="threshold").min() == 255

    with_engine(settings, body)


def test_numbers_out_of_range_are_told(settings: Settings, toy_references: Any) -> None:
    images = toy_references["toy-binary"].images(2)

    async def body(engine: Engine) -> None:
        model = model_of(engine, "toy-binary")
        for bad, error in (
            ({"n": 0}, ParameterError),
            ({"n": 10**6}, TooLargeError),
            ({"seed": -1}, ParameterError),
            ({"seed": 2**63}, ParameterError),
            ({"first_index": -1}, ParameterError),
            ({"first_index": 2**63 - 1}, ParameterError),
            ({"temperature": 11.0}, ParameterError),
            ({"temperature": float("nan")}, ParameterError),
        ):
            with pytest.raises(error):
                await continuous.sample(
                    engine, model, **{"n": 2, "seed": 0, "first_index": 0, "temperature": 1.0} | bad
                )
        for samples, error in ((0, ParameterError), (5001, TooLargeError)):
            with pytest.raises(error, match="samples"):
                await continuous.likelihood(engine, model, images, samples=samples, seed=0, first_index=0)
        for z in (np.zeros((0, 4), np.float32), np.zeros((1, 5), np.float32), np.full((1, 4), np.nan, np.float32)):
            with pytest.raises(ParameterError):
                await continuous.decode(engine, model, z)

    with_engine(settings, body)


def test_models_are_found_by_name_version_and_capability(settings: Settings) -> None:
    async def body(engine: Engine) -> None:
        assert engine.model(None, "sample").reference == "toy-binary@1"
        assert engine.model("toy-colour@1", "sample", "image").version == 1
        with pytest.raises(UnknownModelError, match="there are: toy-binary@1"):
            engine.model("nobody", "sample")
        told = "cannot sample, only encode, decode: it has no prior over its latents.*; models that can: toy-binary@1"
        with pytest.raises(CapabilityError, match=told):
            engine.model("toy-encoder", "sample")
        with pytest.raises(CapabilityError, match="no served model"):
            engine.model(None, "sample", "audio")

    with_engine(settings, body)
    chosen = settings.model_copy(update={"models": ("toy-colour@1", "toy-binary")})

    async def default(engine: Engine) -> str:
        return engine.model(None, "encode").reference

    assert with_engine(chosen, default) == "toy-colour@1"
    unordered = settings.model_copy(update={"models": ()})
    assert with_engine(unordered, default) == "toy-tokens@1", "it takes pictures of any size"


def test_before_its_start_and_after_its_end_the_engine_refuses(settings: Settings, toy_references: Any) -> None:
    images = toy_references["toy-binary"].images(1)

    async def main() -> None:
        engine = Engine(settings)
        assert engine.state == "loading"
        await engine.start()
        model = model_of(engine, "toy-binary")
        assert engine.state == "ready"
        await engine.stop()
        assert engine.state == "draining"
        with pytest.raises(UnavailableError):
            await continuous.encode(engine, model, images)

    asyncio.run(main())


def test_a_dead_runner_shows_and_is_replaced(
    settings: Settings, toy_references: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(engine: Engine) -> None:
        model, images = model_of(engine, "toy-binary"), toy_references["toy-binary"].images(1)
        expected = await continuous.encode(engine, model, images)
        with monkeypatch.context() as patch:
            patch.setattr(model.sessions["encode"], "run", die)
            with pytest.raises(UnavailableError, match="died"):
                await continuous.encode(engine, model, images)
            assert engine.state == "failed"
            assert engine.failure is not None
            assert "SystemExit" in engine.failure
        answer = await continuous.encode(engine, model, images)
        assert engine.state == "ready"
        np.testing.assert_allclose(answer["mean"], expected["mean"], rtol=1e-6)

    with_engine(settings, body)


def die(*_: object, **__: object) -> None:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("damage", "error"),
    [("weights", ChecksumError), ("graph", ChecksumError), ("signature", SignatureError), ("empty", LoadError)],
)
def test_a_bad_store_stops_the_start(
    settings: Settings, tmp_path: Path, edit_manifest: Any, damage: str, error: type[Exception]
) -> None:
    root = tmp_path / "store"
    shutil.copytree(settings.store, root)
    folder = root / "toy-binary" / "1"
    if damage == "weights":
        (folder / "weights.data").write_bytes(b"\0" * 10)
    elif damage == "graph":
        (folder / "encode.onnx").write_bytes(b"junk")
    elif damage == "signature":

        def change(content: dict[str, Any]) -> None:
            content["graphs"]["encode"]["outputs"][0]["dtype"] = "float64"

        edit_manifest(folder / MANIFEST_FILE, change)
    else:
        shutil.rmtree(root)
    engine = Engine(settings.model_copy(update={"store": root, "models": ()}))
    with pytest.raises((error, UnknownModelError)):
        asyncio.run(engine.start())
    assert engine.state == "failed"
    assert engine.failure


def test_a_demanded_gpu_that_is_missing_stops_the_start_with_the_cure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(settings.model_copy(update={"device": "cuda"}))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"install onnxruntime-gpu.*or set the device to cpu or auto"):
        asyncio.run(engine.start())
    assert engine.state == "failed"
