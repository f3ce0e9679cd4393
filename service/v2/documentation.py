"""What OpenAPI says of the protocol's routes."""

from typing import Any

from service.bodies import JSON
from service.problems import STATUSES
from service.v2.messages import InferRequest

_BINARY = "application/octet-stream"
_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_ALWAYS = (401, 405, 429, 503)
_EXAMPLES = {"model": "photo-vq.encode", "version": "1"}
_HEADER_LENGTH = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "required": False,
    "description": "bytes of the JSON object, where tensors follow it",
    "schema": {"type": "integer", "minimum": 1},
}


def responses(summary: str, *statuses: int, binary: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe what a route answers.

    Args:
        summary: a sentence on the answer.
        statuses: of its errors, besides those that any route has.
        binary: whether tensors may follow the JSON object.

    Returns:
        OpenAPI's responses object.
    """
    content: dict[str, Any] = {JSON: {"schema": {}}}
    if binary:
        content[_BINARY] = {"schema": {"type": "string", "format": "binary"}}
    errors: dict[int | str, dict[str, Any]] = {
        status: {"description": STATUSES[status], "content": {JSON: {"schema": _ERROR}}}
        for status in sorted({*statuses, *_ALWAYS})
    }
    return {200: {"description": summary, "content": content}, **errors}


def operation(path: str, **extra: Any) -> dict[str, Any]:
    """Describe the parameters of a path.

    Args:
        path: with its parameters in braces.
        extra: further members of the operation.

    Returns:
        Members of an OpenAPI operation object.
    """
    named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": _EXAMPLES[name]}
        for name in named
    ]
    return {**extra, "parameters": [*parameters, *extra.get("parameters", ())]}


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """Describe a body of JSON that may be left out."""
    return {"requestBody": {"required": False, "content": {JSON: {"schema": schema}}}}


def infer_body() -> dict[str, Any]:
    """Describe a request for inference."""
    schema = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs")
    content = {
        JSON: {"schema": _resolved(schema, definitions)},
        _BINARY: {"schema": {"type": "string", "format": "binary", "description": "a JSON object, then tensors"}},
    }
    return {"parameters": [_HEADER_LENGTH], "requestBody": {"required": True, "content": content}}


def _resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """Put definitions in the place of references to them."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _resolved(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: _resolved(value, definitions) for key, value in schema.items()}
    return [_resolved(part, definitions) for part in schema] if isinstance(schema, list) else schema
