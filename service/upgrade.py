"""Connections that become WebSockets: uvicorn's, for one path, with the limits of this service."""

import asyncio
import logging
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

LIVE_PATH = "/encode/live"
"""Where a request to become a WebSocket is heeded; anywhere else it is answered as if it had not been asked."""

MAX_MESSAGE_BYTES = 2**20
"""Of a message that comes in; one more waits while one is worked on, and the sender of others is held up."""

_QUIET = logging.getLogger("latentd.websocket")
_QUIET.setLevel(logging.WARNING)


class LiveConnection(WebSocketsSansIOProtocol):
    """One WebSocket; uvicorn's own lines of log, which have the query in them, are not written."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = self.conn.logger = _QUIET


def is_live(url: bytes) -> bool:
    """Tell whether a request target is the one that becomes a WebSocket."""
    return url.partition(b"?")[0] == LIVE_PATH.encode()


OPTIONS: dict[str, Any] = {
    "ws": LiveConnection,
    "ws_max_size": MAX_MESSAGE_BYTES,
    # Sound hardly shrinks, and what is small may unpack to something large.
    "ws_per_message_deflate": False,
}
"""What uvicorn's configuration needs."""
