"""Bodies that are not what they say: told so, as the protocol tells errors, and never a fault of the service."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.v2.messages import HEADER_LENGTH
from tests.service.serving import Client
from tests.service.v2.asking import COLOUR, DATA, PICTURE, message, refused, send, tensor


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"shape": [1, 8, 8]}, "takes UINT8 [B, 8, 8, 3]"),
        ({"shape": [1, 8, 8, 1]}, "takes UINT8 [B, 8, 8, 3]"),
        ({"shape": [0, 8, 8, 3]}, "each axis at least 1"),
        ({"shape": [-1, 8, 8, 3]}, "takes UINT8"),
        ({"shape": [10**30, 8, 8, 3]}, "has 192"),
        ({"shape": [2, 8, 8, 3]}, "binary_data_size is 192 and 192 bytes are there, UINT8 [2, 8, 8, 3] has 384"),
        ({"shape": ["1", 8, 8, 3]}, "inputs.0.shape.0"),
        ({"shape": [1.5, 8, 8, 3]}, "inputs.0.shape.0"),
        ({"shape": [True, 8, 8, 3]}, "inputs.0.shape.0"),
        ({"shape": None}, "inputs.0.shape"),
        ({"datatype": "FP32"}, "x is FP32"),
        ({"datatype": "BYTES"}, "takes UINT8"),
        ({"datatype": 3}, "inputs.0.datatype"),
        ({"name": "y"}, "takes just: x"),
        ({"parameters": {"binary_data_size": 191}}, "binary_data_size is 191"),
        ({"parameters": {"binary_data_size": 193}}, "binary_data_size is 193"),
        ({"parameters": {"binary_data_size": -1}}, "binary_data_size"),
        ({"parameters": {"binary_data_size": 10**30}}, "has 192"),
        ({"parameters": {}}, "give either data or binary_data_size"),
        ({"data": [0]}, "give either data or binary_data_size"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory is not taken"),
    ],
)
def test_an_input_that_is_not_what_it_says_is_refused(client: Client, change: dict[str, Any], told: str) -> None:
    refused(send(client, COLOUR, message(tensor(PICTURE, **change)), DATA), 422, told)


@pytest.mark.parametrize(
    ("head", "status", "told"),
    [
        (b"", 400, "Inference-Header-Content-Length"),
        (b"{", 400, "does not begin with a JSON object"),
        (b"\xff\xfe", 400, "does not begin with a JSON object"),
        (b"[" * 10_000, 400, "recursion"),
        (b"[]", 422, "the JSON object"),
        (b"{}", 422, "inputs"),
        (b'{"inputs": []}', 422, "the inputs are none"),
        (b'{"inputs": [1]}', 422, "inputs.0"),
        (message(tensor(PICTURE), tensor(PICTURE)), 422, "the inputs are x, x"),
        (message(tensor(PICTURE), id=7), 422, "id"),
        (message(tensor(PICTURE), parameters={"timeout": 0}), 422, "timeout"),
        (message(tensor(PICTURE), outputs=[{"name": "mean"}, {"name": "mean"}]), 422, "asked for twice"),
        (message(*[tensor(PICTURE)] * 65), 422, "inputs"),
    ],
)
def test_a_body_that_is_no_request_is_refused(client: Client, head: Any, status: int, told: str) -> None:
    refused(send(client, COLOUR, head, DATA), status, told)


@pytest.mark.parametrize("length", ["0", "-1", "x", "", "1e3", "99999999", "9" * 30, "²"])
def test_a_length_of_the_json_object_that_cannot_be_is_refused(client: Client, length: str) -> None:
    head = json.dumps(message(tensor(PICTURE))).encode()
    answer = client.post(f"/v2/models/{COLOUR}/infer", content=head + DATA, headers={HEADER_LENGTH: length.encode()})
    refused(answer, 400, "Inference-Header-Content-Length")


def test_bytes_that_belong_to_nobody_are_refused(client: Client) -> None:
    refused(send(client, COLOUR, message(tensor(PICTURE)), DATA + b"!"), 422, "193 bytes follow")
    refused(send(client, COLOUR, message(tensor(PICTURE)), DATA[:-1]), 422, "191 bytes are there")
    refused(send(client, COLOUR, message(tensor(PICTURE)), None), 422, "0 bytes are there")
    assert send(client, COLOUR, message(tensor(PICTURE)), DATA).status_code == 200


def in_json(data: Any, model: str = COLOUR, shape: tuple[int, ...] = (1, 8, 8, 3), datatype: str = "UINT8") -> Any:
    name = "z" if model.endswith("decode") else "x"
    return message({"name": name, "shape": shape, "datatype": datatype, "data": data})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "the shape [0]"),
        ([0] * 191, "the shape [191]"),
        ([[0] * 96] * 2, "the shape [2, 96]"),
        ([[0] * 95, [0] * 97], "the shape [2]"),
        ([0] * 191 + [256], "a number that UINT8 does not"),
        ([0] * 191 + [-1], "a number that UINT8 does not"),
        ([0] * 191 + [10**40], "a number that UINT8 does not"),
        ([0] * 191 + [0.5], "whole numbers"),
        ([0] * 191 + [True], "whole numbers"),
        ([0] * 191 + [None], "whole numbers"),
        ([0] * 191 + ["1" * 9000], "whole numbers"),
        ([0] * 191 + [[0]], "whole numbers"),
        ("0" * 192, "inputs.0.data"),
        ({"0": 0}, "inputs.0.data"),
    ],
)
def test_data_in_json_that_are_no_such_array_are_refused(client: Client, data: Any, told: str) -> None:
    refused(send(client, COLOUR, in_json(data), None), 422, told)


def test_data_in_json_are_taken_flat_and_in_rows(client: Client) -> None:
    pictures = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    answers = [
        send(client, COLOUR, in_json(data), None).json() for data in (pictures.tolist(), pictures.ravel().tolist())
    ]
    assert answers[0] == answers[1]
    assert answers[0]["outputs"][0]["shape"] == [1, 3]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e39", "1" + "0" * 400])
def test_numbers_that_are_not_finite_are_refused(client: Client, number: str) -> None:
    head = json.dumps(in_json([0, 0, 0], "toy-colour.decode", (1, 3), "FP32")).replace("[0, 0, 0]", f"[0, 0, {number}]")
    assert send(client, "toy-colour.decode", head.encode(), None).status_code in (400, 422)
    z = np.array([[0, np.nan, 0]], np.float32)
    refused(send(client, "toy-colour.decode", message(tensor(z, "z")), z.tobytes()), 422, "not finite")


def test_answers_that_json_cannot_hold_are_refused(client: Client) -> None:
    z = np.full((1, 3), 3e38, np.float32)
    overflowing = message(tensor(z, "z"), outputs=[{"name": "mean"}])
    refused(send(client, "toy-colour.decode", overflowing, z.tobytes()), 422, "ask for binary_data_output")
    pictures = np.zeros((2, 8, 8, 1), np.uint8)
    codes = message(tensor(pictures), parameters={"binary_data_output": True})
    answer = send(client, "toy-tokens-prior.encode", codes, pictures.tobytes())
    assert answer.headers["content-type"] == "application/octet-stream"
    z = np.zeros((2, 3), np.float32)
    refused(
        send(client, "toy-colour.decode", message(tensor(z, "z")), z.tobytes()), 413, "384 numbers", "ask for binary"
    )


@given(
    members=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "parameters", "binary_data_size", "data"]), inner
            )
        ),
        max_leaves=12,
    ),
    place=st.sampled_from(["inputs", "outputs", "parameters", "id", "shape", "data", "tensor"]),
    cut=st.integers(0, 400),
)
def test_whatever_is_sent_is_no_fault_of_the_service(client: Client, members: Any, place: str, cut: int) -> None:
    head = message(tensor(PICTURE))
    if place in ("shape", "data"):
        head["inputs"][0][place] = members
    elif place == "tensor":
        head["inputs"][0] = members
    else:
        head[place] = members
    content = json.dumps(head).encode()
    for answer in (
        send(client, COLOUR, content, DATA[:cut]),
        client.post(f"/v2/models/{COLOUR}/infer", content=content[:cut] + DATA, headers={HEADER_LENGTH: str(cut)}),
    ):
        assert answer.status_code in (200, 400, 413, 422), answer.text
