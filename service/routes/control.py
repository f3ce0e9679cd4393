"""The routes about the service itself: probes, metrics, models."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from service.documentation import problems
from service.engine.opening import ServedModel
from service.options import NoOptions, read_options
from service.requests import service_of

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
        }
    )


@router.get("/metrics", summary="Metrics in Prometheus' text format.", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Answer what Prometheus reads."""
    return Response(service_of(request).metrics.render(), media_type=_METRICS_TYPE)


def _describe(model: ServedModel) -> dict[str, Any]:
    """Give a model's reference with its manifest."""
    return {"reference": model.reference, "version": model.version, **model.manifest.model_dump(mode="json")}


@router.get("/models", summary="The served models with their manifests.", responses=problems(422, 503))
async def models(request: Request) -> dict[str, Any]:
    """List the models."""
    read_options(NoOptions, request.query_params.multi_items(), {})
    engine = service_of(request).engine
    engine.check_ready()
    return {"models": [_describe(model) for model in engine.models()]}


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
    return _describe(engine.named(name)[-1])
