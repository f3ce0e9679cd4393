"""What OpenAPI says of the tensor endpoints: bodies, options, answers and problems."""

from collections.abc import Sequence
from typing import Any

from service.answers import PNG
from service.bodies import CONTAINER, FORM, JSON, NPY, NPZ
from service.endpoint import Endpoint
from service.problems import PROBLEM, STATUSES

_BINARY = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "properties": {"file": {"type": "array", "items": _BINARY}}, "required": ["file"]}
_ANSWER = {
    "type": "object",
    "properties": {
        "model": {"type": "string"},
        "seed": {"type": "integer"},
        "items": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["model", "items"],
}

_KINDS = {JSON: _ANSWER, PNG: _BINARY, NPY: _BINARY, NPZ: _BINARY, CONTAINER: _BINARY}


def operation(endpoint: Endpoint[Any]) -> dict[str, Any]:
    """Describe an endpoint's query and body for OpenAPI.

    Args:
        endpoint: which.

    Returns:
        Members of an OpenAPI operation object.
    """
    properties = endpoint.options.model_json_schema()["properties"]
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema.get("description", "")}
        for name, schema in properties.items()
    ]
    items = {"items": {"type": "array", "items": {"type": "object"}}}
    schemas = {JSON: {"type": "object", "properties": items | properties}, FORM: _FORM}
    body = {media_type: {"schema": schemas.get(media_type, _BINARY)} for media_type in endpoint.accepted}
    return {"parameters": parameters, "requestBody": {"required": False, "content": body}}


def responses(summary: str, offers: Sequence[str]) -> dict[int | str, dict[str, Any]]:
    """Describe what a path can answer, and its problems, for OpenAPI.

    Args:
        summary: a sentence on the answer.
        offers: the media types that it can have.

    Returns:
        OpenAPI's responses object.
    """
    content = {media_type: {"schema": _KINDS[media_type]} for media_type in offers}
    problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": title, "content": problem} for status, title in STATUSES.items()
    }
    return {200: {"description": summary, "content": content}, **problems}


PROBLEM_SCHEMA = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what was wrong, what was expected, how to mend it"},
        "instance": {"type": "string", "description": "names the request, as the log does"},
    },
}
