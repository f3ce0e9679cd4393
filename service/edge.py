"""The outermost layer of the app: request ids, the count and time of every request, and faults of our own."""

import asyncio
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.requests import REQUEST_ID_HEADER, choose_id

_ID_HEADER = REQUEST_ID_HEADER.encode()


class Edge:
    """ASGI middleware around everything else.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens inside."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        identity = choose_id(_wished_id(scope))
        scope.setdefault("state", {})["request_id"] = identity
        status = 0
        start_s = time.perf_counter()

        async def send_with_identity(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((_ID_HEADER, identity.encode()))
            await send(message)

        try:
            await self.app(scope, receive, send_with_identity)
        except asyncio.CancelledError:
            # The server cuts off what outlasts its grace; the task ends here, and the caller is told.
            if not status:
                await problems.cut_off(Request(scope))(scope, receive, send_with_identity)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a problem and the log the traceback
            response = problems.unexpected(Request(scope), error)
            if not status:
                await response(scope, receive, send_with_identity)
        finally:
            duration_s = time.perf_counter() - start_s
            scope["app"].state.service.metrics.requests.observe(_endpoint(scope), status or 500, duration_s)


def _wished_id(scope: Scope) -> str | None:
    """Find the id that the caller gave the request."""
    for name, value in scope["headers"]:
        if name == _ID_HEADER:
            return str(value.decode("latin-1"))
    return None


def _endpoint(scope: Scope) -> str:
    """Name the route that was taken; one name for all paths that there are not, lest metrics grow without bound."""
    if route := scope.get("route"):
        return str(route.path)
    # Starlette's own routes, of the documentation, leave no route behind; they have no parameters.
    return str(getattr(scope["endpoint"], "path", scope["path"])) if "endpoint" in scope else "unknown"
