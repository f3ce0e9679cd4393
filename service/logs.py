"""The log: lines for people or JSON for machines, and a line for every request where that is asked for."""

import json
import logging
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.security import PROBES
from service.settings import Settings

_ACCESS = logging.getLogger("latentd.access")
QUIET_PATHS = PROBES | {"/metrics"}
"""Paths that are asked every few seconds, and tell nothing about whoever uses the service."""


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON; `extra={"fields": {...}}` of a record become members of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """A record as a line for people, its fields as `name=value` at the end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """Write a record without its exception."""
        return " ".join(
            [super().formatMessage(record), *(f"{name}={value}" for name, value in _fields(record).items())]
        )


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """Give what a record bears beside its message."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def configure(settings: Settings) -> None:
    """Set the process's log up, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


def formatter(settings: Settings) -> logging.Formatter:
    """Choose how a record is written."""
    return JsonFormatter() if settings.log_format == "json" else TextFormatter()


def wrap(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Log the requests to an app where the settings say so.

    Args:
        app: what answers.
        settings: the format and the switch.

    Returns:
        The app with a layer around it, or the app itself.
    """
    is_on = settings.log_format == "json" if settings.access_log == "auto" else settings.access_log == "on"
    return AccessLog(app) if is_on else app


class AccessLog:
    """ASGI layer that writes a line when a request has been answered: no query, no header, no body.

    Probes and metrics are written where all that is for debugging is.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and write its line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answered: dict[str, Any] = {}
        start_s = time.perf_counter()

        async def send_and_remember(message: Message) -> None:
            if message["type"] == "websocket.accept":
                answered.update(status=101, model=Headers(raw=message["headers"]).get("x-latentd-model"))
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                answered.update(status=message["status"], model=Headers(raw=message["headers"]).get("x-latentd-model"))
            await send(message)

        try:
            await self._app(scope, receive, send_and_remember)
        finally:
            state = scope.get("state", {})
            fields = {
                "method": scope.get("method", "GET"),
                "path": quote(scope["path"]),
                "status": answered.get("status", 500),
                "duration_ms": round((time.perf_counter() - start_s) * 1e3, 2),
                "model": answered.get("model"),
                "rows": state.get("rows"),
                "request_id": state.get("request_id"),
                "key": state.get("key"),
            }
            known = {name: value for name, value in fields.items() if value is not None}
            level = logging.DEBUG if scope["path"] in QUIET_PATHS else logging.INFO
            _ACCESS.log(level, "request", extra={"fields": known})
