"""OpenTelemetry spans of requests, where it is configured; the packages of the group `telemetry` are imported then."""

import asyncio
import os
import re
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ConfigurationError
from service.logs import QUIET_PATHS
from service.settings import Settings
from service.upgrade import LIVE_PATH

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_UNTRACED = tuple(f"{re.escape(path)}(\\?|$)" for path in (*sorted(QUIET_PATHS), LIVE_PATH))


def is_on(settings: Settings) -> bool:
    """Tell whether spans are asked for, by the settings or by OpenTelemetry's own variables."""
    if settings.otel == "auto":
        is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        return not is_disabled and any(os.environ.get(name) for name in ENDPOINTS)
    return settings.otel == "on"


def wrap(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Trace the requests to an app where that is configured.

    Args:
        app: what answers.
        settings: the switch; where the spans go is said by OpenTelemetry's own variables.

    Returns:
        The app with a layer around it, or the app itself.

    Raises:
        ConfigurationError: it is configured, and the packages are missing, or another protocol is asked for.
    """
    return trace(app, make_provider()) if is_on(settings) else app


def trace(app: ASGIApp, provider: "TracerProvider") -> ASGIApp:
    """Trace the requests to an app.

    Args:
        app: what answers.
        provider: takes the spans; it is shut down before the app's life ends.

    Returns:
        The app with a layer around it.
    """
    from starlette.middleware.opentelemetry import OpenTelemetryMiddleware

    annotated = _Annotations(app, provider)
    return OpenTelemetryMiddleware(annotated, tracer_provider=provider, excluded_urls=_UNTRACED)


def make_provider() -> "TracerProvider":
    """Make what sends spans, in batches and from a thread of its own, to where the environment says.

    Raises:
        ConfigurationError: see `wrap`.
    """
    for name in PROTOCOLS:
        if os.environ.get(name, _PROTOCOL) != _PROTOCOL:
            raise ConfigurationError(f"{name} is {os.environ[name]!r}, spans are sent by {_PROTOCOL} alone; unset it")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"OpenTelemetry is configured and its packages are missing ({error.name}); "
            "install them with pip install --group telemetry, or set LATENTD_OTEL=off"
        ) from error
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "latentd")})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class _Annotations:
    """ASGI layer that adds to the span of a request what only this service knows.

    Args:
        app: what answers.
        provider: whose last spans are sent before the app's end.
    """

    def __init__(self, app: ASGIApp, provider: "TracerProvider") -> None:
        from opentelemetry.trace import get_current_span

        self._app, self._provider = app, provider
        self._current_span = get_current_span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the app's life."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
            return
        span = self._current_span()
        if scope["type"] != "http" or not span.is_recording():
            await self._app(scope, receive, send)
            return

        async def send_and_annotate(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                if model := headers.get("x-latentd-model"):
                    span.set_attribute("latentd.model", model)
                for phase, duration_ms in read_phases(headers.get("server-timing", "")).items():
                    span.add_event(phase, {"duration_ms": duration_ms})
            await send(message)

        try:
            await self._app(scope, receive, send_and_annotate)
        finally:
            state: dict[str, Any] = scope.get("state", {})
            for name in ("request_id", "rows", "key"):
                if name in state:
                    span.set_attribute(f"latentd.{name}", state[name])
            if "route" not in scope and (path := getattr(scope.get("endpoint"), "path", None)):
                span.set_attribute("http.route", path)
                span.update_name(f"{scope['method']} {path}")

    def _flushing(self, send: Send) -> Send:
        """Send the last spans before the app says that it has ended."""

        async def flush_and_send(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await asyncio.to_thread(self._provider.shutdown)
            await send(message)

        return flush_and_send


def read_phases(server_timing: str) -> dict[str, float]:
    """Read the phases of a request, in milliseconds, from its answer's Server-Timing header."""
    parts = (part.strip().partition(";dur=") for part in server_timing.split(","))
    return {name: float(duration) for name, _, duration in parts if duration}
