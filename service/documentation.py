"""What OpenAPI says of the tensor endpoints: bodies, options, answers and problems."""

from collections.abc import Sequence
from typing import Any

from service.bodies import FORM, JSON, OPTION_BODIES
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


def operation(endpoint: Endpoint[Any]) -> dict[str, Any]:
    """Describe an endpoint's query and body for OpenAPI.

    Args:
        endpoint: which.

    Returns:
        Members of an OpenAPI operation object.
    """
    properties = endpoint.options.model_json_schema()["properties"]
    parameters = [_parameter(name, schema) for name, schema in properties.items()]
    takes_items = tuple(endpoint.accepted) != OPTION_BODIES
    items = {"items": {"type": "array", "items": {"type": "object"}}} if takes_items else {}
    schemas = {JSON: {"type": "object", "properties": items | properties}, FORM: _FORM}
    body = {media_type: {"schema": schemas.get(media_type, _BINARY)} for media_type in endpoint.accepted}
    return {"parameters": parameters, "requestBody": {"required": False, "content": body}}


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Describe an option as a parameter of the query, where a list is written with commas."""
    parameter = {"name": name, "in": "query", "required": False, "schema": schema}
    is_list = any(kind.get("type") == "array" for kind in (schema, *schema.get("anyOf", ())))
    comma_list = {"style": "form", "explode": False} if is_list else {}
    return {**parameter, "description": schema.get("description", ""), **comma_list}


def responses(
    summary: str, offers: Sequence[str], json_schema: dict[str, Any] = _ANSWER
) -> dict[int | str, dict[str, Any]]:
    """Describe what a path can answer, and its problems, for OpenAPI.

    Args:
        summary: a sentence on the answer.
        offers: the media types that it can have.
        json_schema: of an answer in JSON.

    Returns:
        OpenAPI's responses object.
    """
    content = {media_type: {"schema": json_schema if media_type == JSON else _BINARY} for media_type in offers}
    return {200: {"description": summary, "content": content}, **problems(*STATUSES)}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems for OpenAPI.

    Args:
        statuses: of those that a path can answer.

    Returns:
        A part of OpenAPI's responses object.
    """
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": STATUSES[status], "content": content} for status in statuses}


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
