"""Several processes behind one port: a parent that keeps them, and children that serve.

Each child has a socket of its own on the port (SO_REUSEPORT), among which the kernel deals connections out evenly; of a
common one the child that wakes first takes nearly all that come at once. The kernel asks none that has died.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from service.engine.driver import count_gpus
from service.engine.runtime import available_cores
from service.errors import UnavailableError
from service.settings import Settings
from service.siblings import Siblings

FLAG = "--child"
"""The flag of a child's place, for the parent's use alone."""

_LOG = logging.getLogger("latentd")

_CANNOT_START = (1, 2)  # the statuses of `service.cli` for what another attempt does not mend
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_CALM_S = 60.0
_PROBE_S = 0.25


def count_workers(settings: Settings) -> int:
    """Give the number of processes that the settings ask for."""
    return settings.workers or max(1, count_gpus())


@dataclass(frozen=True)
class Child:
    """What a child is told by its parent.

    Attributes:
        worker: its number, from 0.
        workers: how many there are.
        folder: of their private sockets.
        family: of the address, as a number.
        address: where all listen.
        lifeline: file descriptor of a pipe that ends with the parent.
        is_late: whether it takes the place of one that has died.
    """

    worker: int
    workers: int
    folder: str
    family: int
    address: tuple[str | int, ...]
    lifeline: int
    is_late: bool

    @classmethod
    def read(cls, word: str) -> "Child":
        """Read what `words` wrote."""
        content = json.loads(word)
        return cls(**content | {"address": tuple(content["address"])})

    def words(self) -> list[str]:
        """Write it as words of a command line."""
        return [FLAG, json.dumps(asdict(self))]

    @property
    def siblings(self) -> Siblings:
        """The processes as the service knows them."""
        return Siblings(self.worker, self.workers, Path(self.folder), self.is_late)

    def settle(self, settings: Settings) -> Settings:
        """Give this child its share of the machine: a GPU of its own as far as there are some, a part of the cores."""
        gpus = count_gpus() if settings.device != "cpu" else 0
        device_id = (settings.device_id + self.worker) % gpus if gpus else settings.device_id
        threads = settings.threads or max(1, available_cores() // self.workers)
        return settings.model_copy(update={"device_id": device_id, "threads": threads})

    def open(self) -> socket.socket:
        """Open a socket on the common port, which nobody is sent to before it listens.

        Raises:
            OSError: the port is in use by somebody else.
        """
        listener = _share(socket.AddressFamily(self.family), self.address)
        self._end_with_parent()
        return listener

    def _end_with_parent(self) -> None:
        """End when the parent does, however that ends."""

        def follow() -> None:
            os.read(self.lifeline, 1)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, name="lifeline", daemon=True).start()


def _share(family: socket.AddressFamily, address: tuple[str | int, ...]) -> socket.socket:
    """Bind a socket to an address that others of this user may share."""
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def supervise(words: Sequence[str], listener: socket.socket, workers: int) -> int:
    """Keep children serving until SIGTERM or SIGINT.

    Args:
        words: of the command line, which the children are given too.
        listener: an open socket, which shows that the port was free; it is closed.
        workers: how many children, at least 2.

    Returns:
        The exit status: 0 after a clean end, 1 where a child could not start.
    """
    address = listener.getsockname()
    listener.close()
    # Bound and not listening, it keeps the port for the children, whoever of them lives.
    with _share(listener.family, address), tempfile.TemporaryDirectory(prefix="latentd-") as folder:
        lifeline, held = os.pipe()
        first = Child(0, workers, folder, listener.family, address, lifeline, is_late=False)
        try:
            return asyncio.run(_Parent(words, first).run())
        finally:
            os.close(held)
            os.close(lifeline)


@dataclass
class _Parent:
    """The children and what is known of them.

    Attributes:
        words: of the command line.
        first: the first child; the others differ by their number.
        processes: those that live, by the child's number.
        ready: numbers of the children that serve.
        ending: whether the end has come.
        has_failed: whether it came because a child could not start, or did not end cleanly.
    """

    words: Sequence[str]
    first: Child
    processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    has_failed: bool = False

    async def run(self) -> int:
        """Start the children and keep them; return when all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        await asyncio.gather(*(self._keep(worker) for worker in range(self.first.workers)))
        return int(self.has_failed)

    def _end(self, number: int) -> None:
        """Let all children end."""
        self.ending.set()
        for worker in self.processes:
            self._send(worker, number)

    def _reload(self) -> None:
        """Let the children read again what may have changed; one that starts reads it anyway."""
        for worker in self.ready & self.processes.keys():
            self._send(worker, signal.SIGHUP)

    def _send(self, worker: int, number: int) -> None:
        """Send a signal to a child, unless it has just ended."""
        with contextlib.suppress(ProcessLookupError):
            self.processes[worker].send_signal(number)

    async def _keep(self, worker: int) -> None:
        """Start a child, and start it again when it dies, until the end."""
        pause_s, is_late = _FIRST_PAUSE_S, False
        while not self.ending.is_set():
            born_s = time.monotonic()
            status = await self._live(worker, is_late=is_late)
            if self.ending.is_set():
                # A child that had not begun dies of the signal.
                self.has_failed |= status not in (0, -signal.SIGTERM, -signal.SIGINT)
                return
            if not self._is_worth_another(worker, status, is_late=is_late):
                return
            if time.monotonic() - born_s > _CALM_S:
                pause_s = _FIRST_PAUSE_S
            _LOG.error("worker %d ended with status %d; it is started again in %.1f s", worker, status, pause_s)
            try:
                await asyncio.wait_for(self.ending.wait(), pause_s)
            except TimeoutError:
                pause_s, is_late = min(2 * pause_s, _LONGEST_PAUSE_S), True

    def _is_worth_another(self, worker: int, status: int, *, is_late: bool) -> bool:
        """Tell whether to start a child that has ended again; where not, all end."""
        was_ready = worker in self.ready
        self.ready.discard(worker)
        if was_ready or status not in _CANNOT_START or (is_late and self.ready):
            return True
        _LOG.error("worker %d cannot start, for the reason above; all end", worker)
        self.has_failed = True
        self._end(signal.SIGTERM)
        return False

    async def _live(self, worker: int, *, is_late: bool) -> int:
        """Run a child from its start to its end, and give its status."""
        child = replace(self.first, worker=worker, is_late=is_late)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", *self.words, *child.words()),
            stdin=subprocess.DEVNULL,
            pass_fds=(child.lifeline,),
            start_new_session=True,  # a terminal's Ctrl-C reaches the parent alone, which passes it on
        )
        self.processes[worker] = process
        if self.ending.is_set():
            self._send(worker, signal.SIGTERM)
        _LOG.info("worker %d of %d is process %d", worker, child.workers, process.pid)
        probing = asyncio.create_task(self._probe(worker))
        try:
            return await process.wait()
        finally:
            probing.cancel()
            del self.processes[worker]

    async def _probe(self, worker: int) -> None:
        """Find out when a child is ready."""
        siblings = self.first.siblings
        while worker not in self.ready:
            await asyncio.sleep(_PROBE_S)
            try:
                if (await siblings.forward(worker, "GET", "/readyz")).status == 200:
                    self.ready.add(worker)
            except UnavailableError:
                continue
