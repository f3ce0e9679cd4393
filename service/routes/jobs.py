"""The routes of requests that are answered later."""

from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.documentation import JOB_ANSWER, RETRY_HEADER, problems
from service.option_reading import read_options
from service.options import NoOptions
from service.problems import STATUSES
from service.requests import Service, service_of
from service.siblings import is_from_sibling, siblings_of

router = APIRouter(prefix="/jobs", tags=["jobs"])

_OWN_HEADERS = {"content-length", "date", "server", "connection", "x-request-id"}
"""Of an exchange, not of the answer in it."""

_ABSENT = {**problems(404, 422, 503), 404: {**problems(404)[404], "description": "No such job, or none any more."}}


@router.get(
    "/{identifier}",
    summary="What has become of a job.",
    responses={**_ABSENT, 200: {"description": "The job.", "headers": RETRY_HEADER, **JOB_ANSWER}},
    response_class=JSONResponse,
)
async def status(request: Request, identifier: str) -> Response:
    """Describe a job; Retry-After says when to ask again while it is not over."""
    if (elsewhere := await _forward(request, identifier)) is not None:
        return elsewhere
    job = _service(request).jobs.find(identifier)
    return JSONResponse(job.describe(), headers={} if job.is_over else {"retry-after": str(job.pause_s)})


@router.get(
    "/{identifier}/result",
    summary="The answer of a job that is done or has failed, as the plain request would have had it.",
    responses={
        **problems(*STATUSES),
        **_ABSENT,
        200: {"description": "The answer, in the type that the request accepted."},
        409: {**problems(409)[409], "description": "The job is not done or was cancelled, or so the answer was."},
    },
    response_class=Response,
)
async def result(request: Request, identifier: str) -> Response:
    """Answer what the plain request would have been answered, its status and headers included."""
    if (elsewhere := await _forward(request, identifier, "/result")) is not None:
        return elsewhere
    return _service(request).jobs.find(identifier).result()


@router.delete(
    "/{identifier}",
    summary="Cancel a job, or forget the result of one that is over.",
    status_code=204,
    responses=_ABSENT,
    response_class=Response,
)
async def end(request: Request, identifier: str) -> Response:
    """End a job."""
    if (elsewhere := await _forward(request, identifier)) is not None:
        return elsewhere
    _service(request).jobs.end(identifier)
    return Response(status_code=204)


def _service(request: Request) -> Service:
    """Give the service of a request that takes no options."""
    read_options(NoOptions, request.query_params.multi_items(), {})
    return service_of(request)


async def _forward(request: Request, identifier: str, part: str = "") -> Response | None:
    """Ask the process that has the job; None where that is this one, or none."""
    siblings = siblings_of(request)
    owner = siblings.owner(identifier)
    if owner is None or owner == siblings.worker or is_from_sibling(request.scope):
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    reply = await siblings.forward(owner, request.method, f"/jobs/{quote(identifier, safe='')}{part}{query}")
    headers = {name: value for name, value in reply.headers if name.lower() not in _OWN_HEADERS}
    return Response(reply.body, reply.status, headers)
