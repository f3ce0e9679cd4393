"""Why a connection is ended before its request is one, and what its caller is told."""

import json
from enum import Enum

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.problems import PROBLEM, RETRY_AFTER_S, Kind


def _answer(kind: Kind, detail: str, *headers: str) -> bytes:
    """Write a problem as it travels, for a connection that is closed after it."""
    document = {
        "type": f"urn:latentd:problem:{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }
    body = json.dumps(document).encode()
    lines = [f"content-type: {PROBLEM}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return STATUS_LINE[kind.status] + "\r\n".join(lines).encode() + body


_RETRY_AFTER = f"retry-after: {RETRY_AFTER_S}"


class Refusal(Enum):
    """Why a connection is ended, with what its caller is told."""

    MALFORMED = _answer(
        Kind(400, "malformed-http", "The request is not HTTP/1.1"), "the bytes sent are no HTTP/1.1 request"
    )
    SLOW_HEAD = _answer(
        Kind(408, "timeout", "The request came too slowly"),
        "the head of the request was not there in time; send it at once",
    )
    SLOW_BODY = _answer(
        Kind(408, "timeout", "The request came too slowly"),
        "the body of the request was not there in time; send less at once, or over a faster line",
    )
    LARGE_MESSAGE = _answer(
        Kind(413, "too-large", "The request is over a limit"),
        "the body is over the limit, or its chunks are too small; send less, in larger chunks",
    )
    LARGE_HEAD = _answer(
        Kind(431, "large-head", "The head of the request is too large"),
        "the head of the request is over the limit; send shorter headers, and options in the body",
    )
    TOO_MANY = _answer(
        Kind(503, "connections", "Too many connections"),
        "there are too many connections; come again, and keep connections open between requests",
        _RETRY_AFTER,
    )
    UNREAD_ANSWER = b""
