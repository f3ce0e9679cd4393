"""The FastAPI application."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from artifact.errors import ArtifactError
from service import documentation, logs, problems, security, tracing, upgrade
from service.edge import Edge
from service.engine.engine import Engine
from service.engine.runtime import available_cores
from service.errors import ServiceError
from service.familiar import Familiar
from service.jobs import Jobs
from service.live import LiveStreams
from service.metrics import Metrics
from service.requests import Service
from service.routes import codebook, control, jobs, live
from service.routes.live import Live
from service.routes.tensors import ENDPOINTS
from service.settings import Settings
from service.siblings import Siblings
from service.tensors import Tensors
from service.v2 import routes as v2

_LOG = logging.getLogger(__name__)

_DESCRIPTION = """
Serves latent-variable models: encode, decode, reconstruct, sample, likelihood bounds, compress, decompress.

This page loads its scripts from a public network; without one, read [/openapi.json](/openapi.json), its source.
"""


def create_app(
    settings: Settings | None = None,
    on_failure: Callable[[], None] | None = None,
    siblings: Siblings | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        settings: None for those of the environment.
        on_failure: called when the engine cannot start, which leaves nothing to serve.
        siblings: the other processes behind the same port; None where there are none.

    Returns:
        The application; its engine starts with its lifespan.
    """
    settings = settings or Settings()
    engine = Engine(settings)
    workers = ThreadPoolExecutor(max_workers=available_cores() + 2, thread_name_prefix="media")
    siblings = siblings or Siblings()
    streams = LiveStreams(settings)
    service = Service(settings, engine, Metrics(engine, streams), workers, Jobs(settings, siblings.stamp), streams)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with app.state.siblings.answering(app):
            starting = asyncio.create_task(_start(service, on_failure))
            if app.state.siblings.is_late:
                await starting
            yield
            await starting
            streams.close()
            await service.jobs.stop()
            await engine.stop()
        workers.shutdown(wait=False, cancel_futures=True)

    app = _App(settings, title="latentd", version="0.1.0", description=_DESCRIPTION, lifespan=lifespan, redoc_url=None)
    app.state.service = service
    app.state.siblings = siblings
    app.state.familiar = None if app.express is None else Familiar(app.express, service)
    problems.install(app)
    app.include_router(control.router)
    app.include_router(codebook.router)
    app.include_router(jobs.router)
    app.include_router(v2.router)
    for endpoint in ENDPOINTS:
        app.add_api_route(
            endpoint.path,
            endpoint.handle,
            methods=["POST"],
            summary=endpoint.summary,
            tags=["models"],
            name=endpoint.ability,
            responses={**documentation.responses(endpoint.summary, endpoint.offers), **documentation.ACCEPTED},
            openapi_extra=documentation.operation(endpoint),
        )
    app.router.routes.append(WebSocketRoute(upgrade.LIVE_PATH, Live()))
    app.add_api_route(upgrade.LIVE_PATH, live.explain, tags=["models"], **documentation.live(live.LiveOptions))
    app.openapi = lambda: _openapi(app, settings)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


class _App(FastAPI):
    """FastAPI behind the layers that every request goes through first."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self.state.keys = security.keyring(settings)
        tensors = Tensors(super().__call__, ENDPOINTS)
        edge = Edge(security.wrap(tensors, settings, self.state.keys))
        self._layers = tracing.wrap(logs.wrap(edge, settings), settings)
        # The short way goes past all layers, and so is open only where there are none but the edge.
        is_open = edge.app is tensors and self._layers is edge
        self.express = tensors.express if is_open else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self
        await self._layers(scope, receive, send)


async def _start(service: Service, on_failure: Callable[[], None] | None) -> None:
    """Start the engine; on failure say why and let the process end."""
    try:
        await service.engine.start()
    except (ServiceError, ArtifactError) as error:
        _LOG.error("latentd cannot start: %s", error)
        if on_failure is not None:
            on_failure()
        return
    engine = service.engine
    names = ", ".join(model.reference for model in engine.models())
    _LOG.info("serving %s on %s (%s)", names, engine.device.provider, engine.device.reason)


def _openapi(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """Make the OpenAPI document once, with the problem's schema in it."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = documentation.PROBLEM_SCHEMA
        security.describe(document, settings)
        app.openapi_schema = document
    return app.openapi_schema
