"""The server's life: it sweeps its connections, reads files again on SIGHUP, and drains before its end."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from service.familiar import Familiar
from service.protocol import Connections, Limits

_SWEEP_S = 1.0
_LOG = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM listens on for a while before it finishes what it has accepted.

    In that while `/readyz` says no, requests are answered, and each answer ends its connection. SIGINT, or a second
    SIGTERM, ends the while at once; what has been accepted is finished all the same.

    Args:
        config: uvicorn's, with `Connection` as its protocol.
        limits: of the connections.
        drain: tells the service that the end is near; returns whether it was answering requests until now.
        drain_s: how long to listen on.
        is_busy: whether there is work that somebody will ask after, for which to listen on longer.
        busy_s: how much longer at most.
        reload: reads again what may have changed; called on SIGHUP.
        familiar: the requests that go the short way; None where none does.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: Limits,
        *,
        drain: Callable[[], bool],
        drain_s: float,
        reload: Callable[[], None],
        is_busy: Callable[[], bool] = lambda: False,
        busy_s: float = 0.0,
        familiar: Familiar | None = None,
    ) -> None:
        super().__init__(config)
        self.server_state: Connections = Connections(limits, familiar)
        self._drain, self._drain_s, self._reload = drain, drain_s, reload
        self._is_busy, self._busy_s = is_busy, busy_s
        self._stops: list[int] = []
        self._is_reload_asked = False
        self._end_s: float | None = None
        self._patience_end_s = 0.0
        self._sweeping: asyncio.Task[None] | None = None

    def handle_signals(self) -> None:
        """Take the process's signals from now on, also before the server runs and after its end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        signal.signal(signal.SIGHUP, self._ask_reload)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Remember a signal; uvicorn would raise it anew after its end, and so kill the process."""
        del frame
        self._stops.append(sig)

    def _ask_reload(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        self._is_reload_asked = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._sweeping = asyncio.create_task(self._sweep())

    async def on_tick(self, counter: int) -> bool:
        """Do what the signals ask for, ten times a second.

        Args:
            counter: of the ticks.

        Returns:
            Whether to stop.
        """
        if self._is_reload_asked:
            self._is_reload_asked = False
            self._reload()
        if self._stops:
            self.should_exit = self.should_exit or self._is_drained()
        return await super().on_tick(counter)

    def _is_drained(self) -> bool:
        """Begin to drain, or tell whether that has gone on for long enough."""
        if self._end_s is None:
            was_answering = self._drain()
            self.server_state.draining = True
            wait_s = self._drain_s if was_answering else 0.0
            self._end_s = time.monotonic() + wait_s
            self._patience_end_s = time.monotonic() + self._busy_s
            _LOG.info("draining: not ready from now on, listening for another %g s", wait_s)
        now_s = time.monotonic()
        if self._is_busy() and now_s < self._patience_end_s:
            # What is done last can be asked after for as long as everything else.
            self._end_s = now_s + self._drain_s
        is_hurried = len(self._stops) > 1 or signal.SIGINT in self._stops
        return is_hurried or now_s >= self._end_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and finish what has been accepted."""
        self.server_state.draining = True
        await super().shutdown(sockets)
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep(self) -> None:
        """End connections whose time is over, for as long as there are any."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.server_state.sweep()
