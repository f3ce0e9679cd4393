"""Sizes, values and paths that are refused."""

import gzip
import zlib

import numpy as np
import pytest

from tests.service.serving import Client
from tests.service.v2.asking import BINARY, COLOUR, TOKENS, WEIGHT, message, picture, refused, send, tensor


@pytest.mark.parametrize(
    ("model", "pictures", "status", "told"),
    [
        (COLOUR, picture(9, 8, 8), 413, "9 items, at most 8"),
        (TOKENS, picture(1, 10, 8), 422, "multiples of 4"),
        (TOKENS, picture(1, 68, 4), 422, "up to 64"),
        (TOKENS, picture(2, 64, 64), 413, "8192 pixels"),
        (BINARY, picture(1, 8, 8, 1, 7), 422, "x takes 0 or 255 alone, one element is 7"),
    ],
)
def test_pictures_that_the_model_does_not_take_are_refused(
    client: Client, model: str, pictures: np.ndarray, status: int, told: str
) -> None:
    refused(send(client, model, message(tensor(pictures)), pictures.tobytes()), status, told)


@pytest.mark.parametrize(
    ("model", "arrays", "status", "told"),
    [
        ("toy-tokens.decode", {"codes": np.full((1, 2, 2), 7, np.int32)}, 422, "expected 0 .. 6"),
        ("toy-tokens.decode", {"codes": np.full((1, 2, 2), -1, np.int32)}, 422, "expected 0 .. 6"),
        ("toy-tokens.decode", {"codes": np.zeros((1, 17, 2), np.int32)}, 422, "from 1 up to 16"),
        ("toy-tokens.decode", {"codes": np.zeros((2, 16, 16), np.int32)}, 413, "8192 pixels"),
        ("toy-tokens.log_likelihood", {"x": picture(1, 8, 8), "codes": np.zeros((1, 2, 3), np.int32)}, 422, "[2, 2]"),
        (
            "toy-tokens.log_likelihood",
            {"x": picture(2, 8, 8), "codes": np.zeros((1, 2, 2), np.int32)},
            422,
            "axis B is 2",
        ),
        (
            "toy-tokens-prior.prior",
            {"codes": np.zeros((1, 4, 4), np.int32), "condition": np.array([4])},
            422,
            "expected 0 .. 3",
        ),
        (
            "toy-tokens-prior.prior_pixel",
            {
                "code": np.array([6], np.int32),
                "position": np.array([0]),
                "context": np.zeros((1, 6), np.float32),
                "state_left": np.zeros((1, 6), np.float32),
            },
            422,
            "code has elements 6 .. 6, expected 0 .. 5",
        ),
        (
            WEIGHT,
            {
                "x": picture(1, 8, 8, 1),
                "mean": np.zeros((1, 4), np.float32),
                "log_variance": np.zeros((1, 4), np.float32),
                "noise": np.zeros((1, 7, 4), np.float32),
            },
            413,
            "7 samples, at most 6",
        ),
    ],
)
def test_values_and_sizes_are_held_against_the_graph(
    client: Client, model: str, arrays: dict[str, np.ndarray], status: int, told: str
) -> None:
    head = message(*[tensor(array, name) for name, array in arrays.items()])
    refused(send(client, model, head, b"".join(array.tobytes() for array in arrays.values())), status, told)


def test_bodies_beyond_the_limits_are_refused(client: Client) -> None:
    big = b"0" * 100_001
    refused(client.post(f"/v2/models/{COLOUR}/infer", content=big), 413, "larger than 100000 bytes")
    refused(client.post(f"/v2/models/{COLOUR}/infer", content=big[:30_000]), 413, "JSON object has 30000 bytes")
    refused(client.post("/v2/repository/index", content=big), 413)


def bomb(encoding: str) -> bytes:
    zeros = b" " * 50_000_000
    return gzip.compress(zeros) if encoding == "gzip" else zlib.compress(zeros)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_are_unpacked_no_further_than_the_limit(client: Client, encoding: str) -> None:
    packed = bomb(encoding)
    assert len(packed) < 100_000
    answer = send(client, COLOUR, packed, None, content_encoding=encoding)
    refused(answer, 413, "larger than 100000 bytes when it is unpacked")
    refused(send(client, COLOUR, b"none of it", None, content_encoding=encoding), 400, f"is not {encoding}")
    refused(send(client, COLOUR, zlib.compress(b"{}")[:-3], None, content_encoding="deflate"), 400, "breaks off")
    refused(send(client, COLOUR, gzip.compress(b"{}") * 2, None, content_encoding="gzip"), 400, "goes on after")
    refused(send(client, COLOUR, b"{}", None, content_encoding="br"), 415, "send gzip, deflate or neither")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2/models/nothing.encode/infer", 404),
        ("POST", "/v2/models/toy-colour.nothing/infer", 404),
        ("POST", "/v2/models/toy-colour.encode/versions/9/infer", 404),
        ("POST", "/v2/models/toy-colour.encode/versions/x/y/infer", 404),
        ("POST", "/v2/models//infer", 404),
        ("GET", "/v2/models/toy-colour.encode/infer", 405),
        ("GET", "/v2/models/toy-colour.encode/versions/%2e%2e/ready", 404),
        ("GET", "/v2/models/%00/stats", 404),
        ("POST", "/v2/repository/models/toy-colour/load", 403),
        ("POST", "/v2/repository/models/toy-colour/unload", 403),
        ("POST", "/v2/repository/models/toy-colour@x/load", 422),
    ],
)
def test_paths_that_there_are_not(client: Client, method: str, path: str, status: int) -> None:
    refused(client.runner.run(client.client.request(method, path)), status)
    assert "nothing" not in client.get("/metrics").text


def test_the_index_takes_json_alone(client: Client) -> None:
    assert len(client.post("/v2/repository/index", content=b'{"ready": true}').json()) == len(
        client.post("/v2/repository/index").json()
    )
    refused(client.post("/v2/repository/index", content=b"{"), 400, "not JSON")
    refused(client.post("/v2/repository/index", content=b'{"ready": 3}'), 422, "ready")
    refused(client.post("/v2/repository/models/toy-colour/load", content=b'{"parameters": 3}'), 422, "parameters")
