"""What OpenAPI says of the tensor endpoints: bodies, options, answers and problems."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from service.bodies import FORM, JSON, OPTION_BODIES
from service.endpoint import Endpoint
from service.options import Options
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
    parameters = [*parameters_of(endpoint.options), _PREFER]
    takes_items = tuple(endpoint.accepted) != OPTION_BODIES
    items = {"items": {"type": "array", "items": {"type": "object"}}} if takes_items else {}
    schemas = {JSON: {"type": "object", "properties": items | properties | dict(endpoint.members)}, FORM: _FORM}
    body = {media_type: {"schema": schemas.get(media_type, _BINARY)} for media_type in endpoint.accepted}
    return {"parameters": parameters, "requestBody": {"required": False, "content": body}}


def parameters_of(options: type[BaseModel]) -> list[dict[str, Any]]:
    """Describe options as parameters of the query for OpenAPI."""
    return [_parameter(name, schema) for name, schema in options.model_json_schema()["properties"].items()]


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


_LIVE = """
Open a WebSocket here (RFC 6455; `ws://` or `wss://`) and send raw samples of one channel, little-endian, as binary
messages of up to 1 MiB, cut wherever you like; then the text `{"end": true}`.

The first message that comes back tells the model, the delay and what its codes are. Each further one has the codes that
have become certain: `{"first": {"codes": 16}, "codes": [..]}`, with the number of the first place, an array a level (of
several codebooks, a row each). The last one is `{"end": true, "samples": N, "places": {"codes": n}}`. Together they are
what `/encode` gives for the whole.

What is wrong with the request is answered by a problem instead of the WebSocket; later on a problem is the last
message, and the code of the close tells its kind: 1008 for a fault of the caller's, 1009 too long, 1011 a fault of the
service, 1012 the service is shutting down, 1013 come again later.
"""
_PROBLEM_CONTENT = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}

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


def live(options: type[Options]) -> dict[str, Any]:
    """Describe the WebSocket of live sound, which OpenAPI has no words for, at the GET that opens it.

    Args:
        options: what its query takes.

    Returns:
        Arguments of a FastAPI route.
    """
    properties = options.model_json_schema()["properties"]
    return {
        "summary": "Live sound to codes, over a WebSocket.",
        "description": _LIVE,
        "responses": {
            101: {"description": "The WebSocket is open."},
            **problems(*STATUSES),
            426: {"description": "A WebSocket is needed", "content": _PROBLEM_CONTENT},
        },
        "openapi_extra": {"parameters": [_parameter(name, schema) for name, schema in properties.items()]},
    }
