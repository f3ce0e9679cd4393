"""The endpoints that run a model, reached without the framework's routing, which costs more than a small run."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.endpoint import Endpoint
from service.express import Express
from service.v2.infer import Inference


class Tensors:
    """ASGI layer that answers the POSTs that run a model itself and leaves everything else to the app.

    The app has the same routes, for the documentation and for other methods.

    Args:
        app: what answers everything else.
        endpoints: those that are answered here, beside the inference of the Open Inference Protocol.

    Attributes:
        app: likewise.
        express: answers `/encode`.
    """

    def __init__(self, app: ASGIApp, endpoints: Sequence[Endpoint[Any]]) -> None:
        self.app = app
        self._endpoints = {endpoint.path: endpoint for endpoint in endpoints}
        self.express = Express(self._endpoints["/encode"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = self._find(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        scope["endpoint"] = endpoint
        try:
            if endpoint is self.express.endpoint:
                response = await self.express.handle(scope, receive)
            else:
                response = await endpoint.handle(Request(scope, receive))
        except problems.KNOWN as error:
            response = problems.answer_known(Request(scope), error)
        except ClientDisconnect as error:
            response = problems.answer_nobody(Request(scope), error)
        await response(scope, receive, send)

    def _find(self, path: str) -> Endpoint[Any] | Inference | None:
        return self._endpoints.get(path) or Inference.at(path)
