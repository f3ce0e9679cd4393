"""The routes about the service itself: probes, metrics, models."""

import os
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service import changes, merging
from service.documentation import problems
from service.engine.opening import ServedModel
from service.option_reading import read_options
from service.options import NoOptions
from service.requests import service_of
from service.siblings import is_from_sibling, siblings_of

router = APIRouter(tags=["service"])

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/livez", summary="Whether the process lives.")
async def livez() -> dict[str, str]:
    """Answer as long as there is somebody to answer."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Whether requests are answered, by which models, on which device.",
    responses={503: {"description": "Not ready: why, and when to ask again."}},
)
async def readyz(request: Request) -> JSONResponse:
    """Answer 200 when every model is loaded and warm, else 503 with the reason."""
    engine = service_of(request).engine
    if engine.state != "ready":
        return JSONResponse({"status": engine.state, "reason": engine.failure}, 503, {"retry-after": "2"})
    return JSONResponse(
        {
            "status": "ready",
            "device": engine.device.provider,
            "device_requested": engine.device.requested,
            "device_reason": engine.device.reason,
            "models": [model.reference for model in engine.models()],
            "worker": siblings_of(request).worker,
            "process": os.getpid(),
        }
    )


@router.get("/metrics", summary="Metrics in Prometheus' text format.", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Answer what Prometheus reads, of all processes behind the port."""
    text = service_of(request).metrics.render()
    if not is_from_sibling(request.scope):
        text = await merging.merged(siblings_of(request), text, "/metrics")
    return Response(text, media_type=_METRICS_TYPE)


def _describe(model: ServedModel) -> dict[str, Any]:
    """Give a model's reference with its manifest."""
    return {"reference": model.reference, "version": model.version, **model.manifest.model_dump(mode="json")}


@router.get("/models", summary="The served models with their manifests.", responses=problems(422, 503))
async def models(request: Request) -> dict[str, Any]:
    """List the models."""
    read_options(NoOptions, request.query_params.multi_items(), {})
    engine = service_of(request).engine
    engine.check_ready()
    return {"models": [_describe(model) for model in engine.models()], "problems": dict(engine.catalog.problems)}


@router.post(
    "/models/reload",
    summary="Serve what the store holds now, where LATENTD_CONTROL lets callers ask for it.",
    responses=problems(403, 409, 422, 503),
)
async def reload(request: Request) -> dict[str, Any]:
    """Reload, and tell what has changed."""
    read_options(NoOptions, request.query_params.multi_items(), {})
    service = service_of(request)
    made = await changes.reload(request)
    served = [model.reference for model in service.engine.models()]
    return {"loaded": made.loaded, "unloaded": made.unloaded, "failed": dict(made.failed), "models": served}


@router.get(
    "/models/{name}",
    summary="One model's manifest, by `name` or `name@version`.",
    responses=problems(404, 422, 503),
)
async def model(request: Request, name: str) -> dict[str, Any]:
    """Describe a model."""
    read_options(NoOptions, request.query_params.multi_items(), {})
    engine = service_of(request).engine
    engine.check_ready()
    found = engine.named(name)[-1]
    return _describe(found) | {"problems": engine.catalog.problems_of(name)}
