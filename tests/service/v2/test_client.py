"""The protocol as its own Python client speaks it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.toys import vectors
from tests.toys.publish import publish
from tests.toys.tokens import ToyTokens
from tests.toys.vectors import ToyReference


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address, concurrency=4) as client:
        yield client


def given(name: str, array: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_it_tells_of_itself_and_its_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert about["name"] == "latentd"
    assert "binary_tensor_data" in about["extensions"]
    assert client.is_model_ready("toy-colour.encode")
    assert client.is_model_ready("toy-colour.encode", "1")
    assert not client.is_model_ready("toy-colour.encode", "2")
    assert not client.is_model_ready("toy-colour")
    assert client.get_model_metadata("toy-tokens.encode") == {
        "name": "toy-tokens.encode",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [{"name": "codes", "datatype": "INT32", "shape": [-1, -1, -1]}],
    }
    metadata = client.get_model_metadata("toy-colour.log_weight", "1")
    assert {tensor["datatype"] for tensor in metadata["outputs"]} == {"FP64"}
    config = client.get_model_config("toy-binary.encode")
    assert config["max_batch_size"] == 1024
    assert config["input"] == [{"name": "x", "data_type": "TYPE_UINT8", "dims": [8, 8, 1]}]
    with pytest.raises(InferenceServerException, match=r"no model 'toy-colour' is served: .* toy-colour.encode"):
        client.get_model_metadata("toy-colour")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_travel_as_bytes_and_as_json(
    client: triton.InferenceServerClient,
    toy_references: dict[str, ToyReference],
    binary_in: bool,
    binary_out: bool,
) -> None:
    reference = toy_references["toy-colour"]
    images = reference.images(3)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("log_variance", "mean")]
    answer = client.infer(
        "toy-colour.encode",
        [given("x", images, binary=binary_in)],
        outputs=outputs,
        request_id="mine",
        model_version="1",
    )
    mean, log_variance = reference.encode(images)
    assert np.allclose(answer.as_numpy("mean"), mean, atol=1e-4)
    assert np.allclose(answer.as_numpy("log_variance"), log_variance, atol=1e-4)
    document = answer.get_response()
    assert (document["id"], document["model_name"], document["model_version"]) == ("mine", "toy-colour.encode", "1")
    assert [output["name"] for output in document["outputs"]] == ["log_variance", "mean"]
    assert all(("data" in output) is not binary_out for output in document["outputs"])


def test_inputs_of_both_kinds_travel_together(
    client: triton.InferenceServerClient, toy_references: dict[str, ToyReference]
) -> None:
    reference = toy_references["toy-binary"]
    images = reference.images(2)
    mean, log_variance = (array.astype(np.float32) for array in reference.encode(images))
    noise = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)
    inputs = [
        given("noise", noise),
        given("mean", mean, binary=False),
        given("x", images),
        given("log_variance", log_variance),
    ]
    answer = client.infer("toy-binary.log_weight", inputs)
    expected = reference.log_weight(images, mean, log_variance, noise)
    for name, values in zip(("log_p_x_given_z", "log_p_z", "log_q"), expected, strict=True):
        assert answer.as_numpy(name).dtype == np.float64
        assert np.allclose(answer.as_numpy(name), values, rtol=1e-4)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_may_be_compressed(
    client: triton.InferenceServerClient, toy_tokens: dict[str, ToyTokens], algorithm: str
) -> None:
    images = toy_tokens["toy-tokens"].images(2, 16, 12)
    answer = client.infer(
        "toy-tokens.encode",
        [given("x", images)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    assert np.array_equal(answer.as_numpy("codes"), toy_tokens["toy-tokens"].encode(images))


def test_graphs_of_codes_and_of_priors_answer(
    client: triton.InferenceServerClient, toy_tokens: dict[str, ToyTokens]
) -> None:
    tokens = toy_tokens["toy-tokens-prior"]
    codes = tokens.encode(tokens.images(5))
    condition = np.arange(5, dtype=np.int64) % 4
    logits = client.infer("toy-tokens-prior.prior", [given("codes", codes), given("condition", condition)])
    assert np.allclose(logits.as_numpy("logits"), tokens.logits(codes, condition), atol=1e-4)
    mean = client.infer("toy-tokens-prior.decode", [given("codes", codes)])
    assert np.allclose(mean.as_numpy("mean"), tokens.decode(codes), atol=1e-2)
    assert [output["name"] for output in mean.get_response()["outputs"]] == ["mean"]


def test_requests_in_flight_together_get_their_own_answers(
    client: triton.InferenceServerClient, toy_references: dict[str, ToyReference]
) -> None:
    reference = toy_references["toy-colour"]
    batches = [reference.images(1 + i % 3, seed=i) for i in range(16)]
    waiting = [
        client.async_infer("toy-colour.encode", [given("x", images)], priority=i % 3)
        for i, images in enumerate(batches)
    ]
    for images, answer in zip(batches, waiting, strict=True):
        assert np.allclose(answer.get_result().as_numpy("mean"), reference.encode(images)[0], atol=1e-4)


def test_the_asynchronous_client_is_answered(address: str, toy_references: dict[str, ToyReference]) -> None:
    reference = toy_references["toy-colour"]
    images = reference.images(4)

    async def main() -> Any:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_server_ready()
            return await client.infer("toy-colour.encode", [given("x", images)])

    assert np.allclose(asyncio.run(main()).as_numpy("mean"), reference.encode(images)[0], atol=1e-4)


def test_what_is_not_done_is_said(
    client: triton.InferenceServerClient, toy_references: dict[str, ToyReference]
) -> None:
    images = toy_references["toy-colour"].images(1)

    def refused(text: str, **options: Any) -> None:
        with pytest.raises(InferenceServerException, match=text) as caught:
            client.infer("toy-colour.encode", [given("x", images)], **options)
        assert caught.value.status() == "422"

    refused("no classes to rank", outputs=[triton.InferRequestedOutput("mean", class_count=2)])
    refused("unknown or asked for twice", outputs=[triton.InferRequestedOutput("nothing")])
    refused("there are no sequences", sequence_id=7)
    shared = triton.InferRequestedOutput("mean")
    shared.set_shared_memory("region", 100)
    refused("shared memory is not taken", outputs=[shared])
    with pytest.raises(InferenceServerException, match="takes UINT8") as caught:
        client.infer("toy-colour.encode", [given("x", images.astype(np.float32))])
    assert caught.value.status() == "422"


def states(client: triton.InferenceServerClient) -> dict[tuple[str, str], str]:
    return {(entry["name"], entry["version"]): entry["state"] for entry in client.get_model_repository_index()}


def test_models_are_loaded_and_unloaded(client: triton.InferenceServerClient, toys: Path) -> None:
    newer = vectors.make(9, channels=1, dimensions=2, binary=True)
    publish(toys, "toy-encoder", vectors.toy(newer, ("encode", "decode")))
    assert states(client)["toy-encoder.encode", "1"] == "READY"
    assert states(client)["toy-encoder", "2"] == "UNAVAILABLE"

    client.load_model("toy-encoder@1")
    client.load_model("toy-encoder@2")
    images = newer.images(2)
    answer = client.infer("toy-encoder.encode", [given("x", images)])
    assert answer.get_response()["model_version"] == "2"
    assert np.allclose(answer.as_numpy("mean"), newer.encode(images)[0], atol=1e-4)
    assert client.get_model_metadata("toy-encoder.encode")["versions"] == ["1", "2"]
    old = client.infer("toy-encoder.encode", [given("x", images)], model_version="1").as_numpy("mean")
    assert not np.allclose(old, answer.as_numpy("mean"), atol=1e-4)

    client.unload_model("toy-encoder.encode")
    assert not client.is_model_ready("toy-encoder.encode")
    assert states(client)["toy-encoder", "1"] == "UNAVAILABLE"
    with pytest.raises(InferenceServerException, match="no model 'toy-encoder' is served") as caught:
        client.unload_model("toy-encoder")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="it holds: toy-binary"):
        client.load_model("nothing")
    with pytest.raises(InferenceServerException, match="as they are there"):
        client.load_model("toy-encoder", config="{}")
    (toys / "toy-encoder" / "2" / "encode.onnx").write_bytes(b"")
    with pytest.raises(InferenceServerException, match="sha256") as caught:
        client.load_model("toy-encoder")
    assert caught.value.status() == "409"
    entry = next(entry for entry in client.get_model_repository_index() if entry["name"] == "toy-encoder")
    assert (entry["version"], entry["state"]) == ("1", "UNAVAILABLE")
    client.load_model("toy-encoder@1")
    assert states(client)["toy-encoder.encode", "1"] == "READY"
    reasons = {entry["version"]: entry["reason"] for entry in client.get_model_repository_index() if entry["reason"]}
    assert "it is not loaded" in reasons["2"]


def test_statistics_count_what_has_been_done(
    client: triton.InferenceServerClient, toy_references: dict[str, ToyReference]
) -> None:
    def rows() -> int:
        (found,) = client.get_inference_statistics("toy-binary.encode")["model_stats"]
        assert found == client.get_inference_statistics("toy-binary.encode", "1")["model_stats"][0]
        return int(found["inference_count"])

    before = rows()
    client.infer("toy-binary.encode", [given("x", toy_references["toy-binary"].images(6))])
    assert rows() == before + 6
    every = client.get_inference_statistics()["model_stats"]
    assert {"toy-binary.encode", "toy-tokens.embed"} <= {entry["name"] for entry in every}
