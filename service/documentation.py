"""What OpenAPI says of the tensor endpoints: bodies, options, answers and problems."""

from collections.abc import Sequence
from typing import Any

from service.bodies import FORM, JSON, OPTION_BODIES
from service.endpoint import Endpoint
from service.problems import PROBLEM, STATUSES
from service.streaming import EVENTS

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
_JOB = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "state": {"type": "string", "enum": ["queued", "running", "done", "failed", "cancelled"]},
        "created": {"type": "string", "format": "date-time"},
        "progress": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "endpoint": {"type": "string"},
        "model": {"type": "string"},
    },
    "required": ["id", "state", "created", "progress", "endpoint", "model"],
}
JOB_ANSWER = {"content": {JSON: {"schema": _JOB}}}
"""The body that describes a job."""
RETRY_HEADER = {"retry-after": {"schema": {"type": "integer"}, "description": "seconds after which to ask again"}}
"""The header of a job that is not over."""
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "With `Prefer: respond-async`: the request is answered later, as a job.",
        "headers": {
            "location": {"schema": {"type": "string"}, "description": "where to ask after the job"},
            "preference-applied": {"schema": {"type": "string"}, "description": "`respond-async`"},
            **RETRY_HEADER,
        },
        **JOB_ANSWER,
    }
}
"""The answer to a request that is answered later."""
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "`respond-async` (RFC 7240): answer 202 at once, and do the work as a job",
}


def operation(endpoint: Endpoint[Any]) -> dict[str, Any]:
    """Describe an endpoint's query and body for OpenAPI.

    Args:
        endpoint: which.

    Returns:
        Members of an OpenAPI operation object.
    """
    properties = endpoint.options.model_json_schema()["properties"]
    parameters = [*(_parameter(name, schema) for name, schema in properties.items()), _PREFER]
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
    schemas = {JSON: json_schema, EVENTS: {"type": "string"}}
    content = {media_type: {"schema": schemas.get(media_type, _BINARY)} for media_type in offers}
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
    "required": ["type", "title", "status", "detail"],
}
