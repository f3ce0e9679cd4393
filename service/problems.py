"""Every error as `application/problem+json` (RFC 9457)."""

import asyncio
import http
import json
import logging
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from codec import errors as codec
from media import errors as media
from service import errors
from service.bodies import UnsupportedTypeError
from service.negotiation import NotAcceptableError
from service.requests import choose_id, request_id

PROBLEM = "application/problem+json"
_V2 = "/v2/"
RETRY_AFTER_S = 2
"""When to come again while the service loads or drains."""
CLIENT_CLOSED_REQUEST = 499
"""The status that the metrics show for a caller who left; nobody receives it."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its HTTP status, and its name in the problem's `type`."""

    status: int
    name: str
    title: str


UNEXPECTED = Kind(500, "unexpected", "The service failed")

KINDS: dict[type[Exception], Kind] = {
    errors.MalformedError: Kind(400, "malformed", "The body is not what its type says"),
    media.MediaError: Kind(400, "malformed", "The body is not what its type says"),
    codec.MalformedContainerError: Kind(400, "malformed", "The body is not what its type says"),
    errors.UnauthorizedError: Kind(401, "unauthorized", "A key is needed"),
    errors.ForbiddenError: Kind(403, "forbidden", "The settings do not allow it"),
    errors.UnknownJobError: Kind(404, "unknown-job", "No such job is kept"),
    errors.UnknownPriorError: Kind(404, "unknown-prior", "No model with this exact prior is served"),
    errors.UnknownModelError: Kind(404, "unknown-model", "No such model is served"),
    NotAcceptableError: Kind(406, "not-acceptable", "No accepted type can be answered"),
    errors.LoadError: Kind(409, "load", "The model cannot be loaded"),
    errors.PendingJobError: Kind(409, "pending-job", "The job has no result"),
    errors.InexactError: Kind(409, "inexact", "The runtime does not reproduce the model's exact networks"),
    errors.CapabilityError: Kind(409, "capability", "The model cannot do that"),
    errors.TooLargeError: Kind(413, "too-large", "The request is over a limit"),
    media.MediaTooLargeError: Kind(413, "too-large", "The request is over a limit"),
    UnsupportedTypeError: Kind(415, "unsupported-type", "The type of the body is not taken"),
    media.UnsupportedMediaError: Kind(415, "unsupported-type", "The type of the body is not taken"),
    codec.UnsupportedContainerError: Kind(415, "unsupported-type", "The type of the body is not taken"),
    errors.ParameterError: Kind(422, "parameter", "An option or a geometry does not fit"),
    media.MediaGeometryError: Kind(422, "geometry", "The geometry does not fit the model"),
    codec.ContainerLimitError: Kind(422, "geometry", "The geometry does not fit the model"),
    codec.CodecError: Kind(422, "geometry", "The geometry does not fit the model"),
    errors.RateLimitedError: Kind(429, "rate-limited", "Too many requests of one caller"),
    errors.OverloadedError: Kind(429, "overloaded", "The queue is full"),
    errors.UnavailableError: Kind(503, "unavailable", "The service is not ready"),
    errors.DeadlineError: Kind(504, "deadline", "The deadline has passed"),
    errors.ServiceError: UNEXPECTED,
}
"""The kind of each error; the nearest base class counts."""

STATUSES = {kind.status: kind.title for kind in KINDS.values()} | {405: "The method is not allowed"}
"""Every error status with a title, for the documentation."""


def problem(request: Request, kind: Kind, detail: str, headers: dict[str, str] | None = None) -> Response:
    """Write a problem document.

    Args:
        request: the request that has failed; its identity is the problem's `instance`.
        kind: what went wrong in general.
        detail: what went wrong here, what was expected, how to mend it.
        headers: sent along.

    Returns:
        The document; under `/v2` the protocol's own form of it.
    """
    if request.scope["path"].startswith(_V2):
        return Response(json.dumps({"error": detail}), kind.status, headers, media_type="application/json")
    document = {
        "type": f"urn:latentd:problem:{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": f"urn:latentd:request:{request_id(request)}",
    }
    # Plain ASCII: a caller's lone surrogate that is quoted in the detail has no UTF-8 form.
    return Response(json.dumps(document), kind.status, headers, media_type=PROBLEM)


def unexpected(request: Request, error: BaseException) -> Response:
    """Log a fault of ours with its traceback, and tell the caller nothing but where to find it."""
    identity = request_id(request)
    _LOG.error("request %s failed unexpectedly", identity, exc_info=error, extra={"fields": {"request_id": identity}})
    detail = f"this is a fault of the service, not of the request; its log tells more under request {identity}"
    return problem(request, UNEXPECTED, detail)


def cut_off(request: Request) -> Response:
    """Tell a caller whose request outlasts the service."""
    return answer_known(request, errors.UnavailableError("the service is shutting down; send the request again"))


KNOWN = (errors.ServiceError, media.MediaError, codec.CodecError)
"""What is told to the caller."""


def install(app: FastAPI) -> None:
    """Answer every known error of an app by a problem."""
    for error in KNOWN:
        app.add_exception_handler(error, answer_known)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(ClientDisconnect, answer_nobody)


def answer(request: Request, error: BaseException) -> Response:
    """Write what a request is answered that has failed, whatever it was."""
    if isinstance(error, asyncio.CancelledError):
        return cut_off(request)
    if isinstance(error, KNOWN):
        return answer_known(request, error)
    if isinstance(error, ClientDisconnect):
        return answer_nobody(request, error)
    return unexpected(request, error)


async def refuse(scope: Scope, receive: Receive, send: Send, error: BaseException) -> None:
    """Answer a request, or one to open a WebSocket, that has failed before anything was said."""
    request = Request({**scope, "type": "http", "method": scope.get("method", "GET")})
    request.state.request_id = choose_id(getattr(request.state, "request_id", None))
    response = answer(request, error)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def answer_known(request: Request, error: Exception) -> Response:
    """Write the problem of a known error."""
    kind = next(KINDS[base] for base in type(error).__mro__ if base in KINDS)
    if kind is UNEXPECTED:
        return unexpected(request, error)
    return problem(request, kind, str(error), _headers(error))


def _headers(error: Exception) -> dict[str, str] | None:
    """Give the headers that tell a program what to do about an error."""
    if isinstance(error, errors.UnauthorizedError):
        return {"www-authenticate": 'Bearer realm="latentd"'}
    if isinstance(error, (errors.OverloadedError, errors.PendingJobError)):
        return None if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    if isinstance(error, errors.UnavailableError):
        return {"retry-after": str(RETRY_AFTER_S)}
    return None


def _answer_http(request: Request, error: Exception) -> Response:
    """Answer what Starlette itself refuses: an unknown path, a wrong method."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    path = request.url.path
    if error.status_code == 404:
        kind = Kind(404, "unknown-path", "No such path")
        return problem(request, kind, f"there is nothing at {path!r}; GET /docs lists the endpoints", headers)
    if error.status_code == 405:
        kind = Kind(405, "method", "The method is not allowed")
        allowed = headers.get("Allow", "another method")
        return problem(request, kind, f"{path!r} does not take {request.method}; use {allowed}", headers)
    kind = Kind(error.status_code, "http", http.HTTPStatus(error.status_code).phrase)
    return problem(request, kind, str(error.detail), headers)


def _answer_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return problem(request, KINDS[errors.ParameterError], faults)


def answer_nobody(request: Request, error: Exception) -> Response:
    """Give the metrics a status for a caller who has gone."""
    del request, error
    return Response(status_code=CLIENT_CLOSED_REQUEST)
