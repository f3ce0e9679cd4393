"""Servers in processes of their own: started, awaited, watched, and ended with all their children."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_START_S = 120.0
_STOP_S = 20.0


class ServerError(Exception):
    """A server did not start, or answers wrongly; the message says how."""


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool]) -> Iterator[int]:
    """Run a server until the block ends.

    Args:
        command: its program and arguments.
        environment: variables beside those of this process.
        is_ready: whether it answers.

    Yields:
        The number of its first process.

    Raises:
        ServerError: it ended, or was not ready in time.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            end_s = time.perf_counter() + _START_S
            while not is_ready():
                if process.poll() is not None or time.perf_counter() > end_s:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines()[-8:]
                    raise ServerError("\n".join([f"not ready (exit status {process.poll()}):", *lines]))
                time.sleep(0.05)
            yield process.pid
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it started, at first politely."""
    family = [process.pid, *descendants(process.pid)]
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    for number in family:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait(_STOP_S)


def descendants(process: int) -> list[int]:
    """List a process' children, their children and so on."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text("ascii")
    except OSError:
        return []
    children = [int(child) for child in text.split()]
    return children + [below for child in children for below in descendants(child)]


def cpu_s(process: int) -> float:
    """Add up the seconds that a process and its descendants have computed, for themselves and in the kernel."""
    ticks = 0
    for number in (process, *descendants(process)):
        with suppress(OSError):
            fields = Path(f"/proc/{number}/stat").read_text("ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
