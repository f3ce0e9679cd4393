"""Requests as they travel, right and wrong, and limits to run into."""

import json
from typing import Any

import httpx
import numpy as np

from service.v2.messages import HEADER_LENGTH
from tests.service.serving import Client

JSON = "application/json"
COLOUR, BINARY, TOKENS, WEIGHT = "toy-colour.encode", "toy-binary.encode", "toy-tokens.encode", "toy-binary.log_weight"
LIMITS: dict[str, Any] = {
    "max_rows": 8,
    "max_pixels": 4096,
    "max_request_pixels": 6000,
    "max_importance_samples": 6,
    "max_body_bytes": 100_000,
    "max_json_body_bytes": 20_000,
    "max_json_values": 200,
    "max_queue_rows": 8,
}


def tensor(array: np.ndarray, name: str = "x", **changes: Any) -> dict[str, Any]:
    datatypes = {"uint8": "UINT8", "int32": "INT32", "int64": "INT64", "float32": "FP32"}
    described = {"name": name, "shape": list(array.shape), "datatype": datatypes[str(array.dtype)]}
    return described | {"parameters": {"binary_data_size": array.nbytes}} | changes


def message(*tensors: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"inputs": list(tensors), **members}


def send(
    client: Client, model: str, head: dict[str, Any] | bytes, binary: bytes | None = b"", **headers: str
) -> httpx.Response:
    """Send a JSON object with what follows it; without its length where nothing may."""
    first = head if isinstance(head, bytes) else json.dumps(head).encode()
    length = {} if binary is None else {HEADER_LENGTH: str(len(first))}
    path = f"/v2/models/{model}/infer"
    return client.post(
        path, content=first + (binary or b""), headers=length | {k.replace("_", "-"): v for k, v in headers.items()}
    )


def refused(answer: httpx.Response, status: int, *told: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, JSON), answer.text
    assert set(answer.json()) == {"error"}
    for text in told:
        assert text in answer.json()["error"]


PICTURE = np.zeros((1, 8, 8, 3), np.uint8)
DATA = PICTURE.tobytes()


def picture(rows: int, height: int, width: int, channels: int = 3, fill: int = 0) -> np.ndarray:
    return np.full((rows, height, width, channels), fill, np.uint8)
