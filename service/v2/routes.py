"""The protocol's routes."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import changes
from service.bodies import take_in
from service.engine.lifecycle import Changes
from service.errors import MalformedError, ParameterError, UnavailableError
from service.requests import service_of
from service.v2 import descriptions, documentation
from service.v2.infer import Inference
from service.v2.names import PREFIX, Target, find, find_all

router = APIRouter(prefix=PREFIX, tags=["Open Inference Protocol V2"])

_MAX_BODY_BYTES = 2**16
_MODEL = "/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"

_Handler = Callable[[Request], Awaitable[Response]]

B = TypeVar("B", bound=BaseModel)


class _IndexBody(BaseModel):
    """What the index is asked with."""

    model_config = ConfigDict(strict=True)

    ready: bool = False


class _ControlBody(BaseModel):
    """What a model is loaded and unloaded with."""

    model_config = ConfigDict(strict=True)

    parameters: dict[str, Any] = {}


def _route(
    method: str, summary: str, *paths: str, errors: tuple[int, ...] = (), binary: bool = False, **extra: Any
) -> Callable[[_Handler], _Handler]:
    """Register a handler for one or several paths."""

    def register(handler: _Handler) -> _Handler:
        for path in paths:
            router.add_api_route(
                path,
                handler,
                methods=[method],
                summary=summary,
                operation_id=f"v2_{handler.__name__}{'_version' if 'version' in path else ''}",
                response_class=Response,
                responses=documentation.responses(summary, *errors, binary=binary),
                openapi_extra=documentation.operation(path, **extra),
            )
        return handler

    return register


def _target(request: Request) -> Target:
    """Find the model that a path names."""
    engine = service_of(request).engine
    engine.check_ready()
    return find(engine, request.path_params["model"], request.path_params.get("version"))


@_route("GET", "The server's name, version and extensions.", "")
async def server(request: Request) -> Response:
    """Answer the server's metadata."""
    return JSONResponse(descriptions.server(request.app.version))


@_route("GET", "Whether the process lives.", "/health/live")
async def live(request: Request) -> Response:
    """Answer as long as there is somebody to answer."""
    del request
    return JSONResponse({"live": True})


@_route("GET", "Whether requests are answered.", "/health/ready")
async def ready(request: Request) -> Response:
    """Answer 200 when every model is loaded and warm, else 503 with the reason."""
    engine = service_of(request).engine
    if engine.state != "ready":
        raise UnavailableError(f"the service is {engine.state}{f': {engine.failure}' if engine.failure else ''}")
    return JSONResponse({"ready": True})


@_route("GET", "Whether a model is served.", f"{_MODEL}/ready", f"{_VERSION}/ready", errors=(404,))
async def model_ready(request: Request) -> Response:
    """Answer 200 where it is, else 404."""
    return JSONResponse({"name": _target(request).name, "ready": True})


@_route("GET", "What the models have done since the start.", "/models/stats")
async def all_statistics(request: Request) -> Response:
    """Answer the statistics of every model."""
    engine = service_of(request).engine
    engine.check_ready()
    return JSONResponse(descriptions.statistics(engine, descriptions.all_targets(engine)))


@_route("GET", "What a model has done since the start.", f"{_MODEL}/stats", f"{_VERSION}/stats", errors=(404,))
async def statistics(request: Request) -> Response:
    """Answer the statistics of a model's served versions, or of one."""
    engine = service_of(request).engine
    engine.check_ready()
    targets = find_all(engine, request.path_params["model"], request.path_params.get("version"))
    return JSONResponse(descriptions.statistics(engine, targets))


@_route("GET", "A model as a configuration.", f"{_MODEL}/config", f"{_VERSION}/config", errors=(404,))
async def config(request: Request) -> Response:
    """Answer as much of a model configuration as there is."""
    return JSONResponse(descriptions.config(service_of(request).engine, _target(request)))


@_route("GET", "What a model takes and gives.", _MODEL, _VERSION, errors=(404,))
async def metadata(request: Request) -> Response:
    """Answer a model's metadata."""
    return JSONResponse(descriptions.metadata(service_of(request).engine, _target(request)))


@_route(
    "POST",
    "Tensors to tensors, through one graph.",
    f"{_MODEL}/infer",
    f"{_VERSION}/infer",
    errors=(400, 404, 413, 415, 422, 504),
    binary=True,
    **documentation.infer_body(),
)
async def infer(request: Request) -> Response:
    """Run a graph."""
    return await Inference(request.path_params["model"], request.path_params.get("version")).handle(request)


@_route(
    "POST",
    "The models that are served, and those that could be or should be.",
    "/repository/index",
    errors=(400, 413, 422),
    **documentation.json_body(_IndexBody.model_json_schema()),
)
async def index(request: Request) -> Response:
    """Answer the repository's index."""
    engine = service_of(request).engine
    engine.check_ready()
    body = await _read(request, _IndexBody)
    return JSONResponse(await descriptions.index(engine, ready=body.ready))


@_route(
    "POST",
    "Serve a model, where LATENTD_CONTROL lets callers ask for it.",
    "/repository/models/{model}/load",
    errors=(400, 403, 404, 409, 413, 422),
    **documentation.json_body(_ControlBody.model_json_schema()),
)
async def load(request: Request) -> Response:
    """Load a model with all its graphs."""
    body = await _read(request, _ControlBody)
    for name in body.parameters:
        if name == "config" or name.startswith("file:"):
            raise ParameterError(f"parameter {name[:80]!r}: models are loaded from the store as they are there")
    return await _change(request, changes.load)


@_route(
    "POST",
    "Serve a model no longer, where LATENTD_CONTROL lets callers ask for it.",
    "/repository/models/{model}/unload",
    errors=(400, 403, 404, 409, 413, 422),
    **documentation.json_body(_ControlBody.model_json_schema()),
)
async def unload(request: Request) -> Response:
    """Unload a model with all its graphs."""
    await _read(request, _ControlBody)
    return await _change(request, changes.unload)


async def _change(request: Request, change: Callable[[Request, str, int | None], Awaitable[Changes]]) -> Response:
    """Change what is served of the model that a path names: `name`, `name@version`, or one of its graphs."""
    name, _, version = request.path_params["model"].partition(".")[0].partition("@")
    if version and not (version.isascii() and version.isdigit() and len(version) < 10):
        raise ParameterError(f"the version is {version[:40]!r}, expected a number, such as {name[:80]}@1")
    made = await change(request, name, int(version) if version else None)
    return JSONResponse({"loaded": made.loaded, "unloaded": made.unloaded})


async def _read(request: Request, kind: type[B]) -> B:
    """Read a small JSON body; none is an empty object."""
    body = await take_in(request, _MAX_BODY_BYTES)
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedError(f"the body is not JSON: {first['msg']}") from error
        raise ParameterError(f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}") from error
