"""Shared by the benchmarks: a service in a process of its own, and medians."""

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(*flags: str) -> Iterator[tuple[str, float]]:
    """Run the service until the block ends.

    Args:
        flags: of `python -m service`.

    Yields:
        Its address, and the seconds from the start of the process until `/readyz` said yes.

    Raises:
        RuntimeError: it ended, or was not ready within a minute.
    """
    port = free_port()
    command = [sys.executable, "-m", "service", "--port", str(port), "--log-level", "error", *flags]
    address = f"http://127.0.0.1:{port}"
    start_s = time.perf_counter()
    process = subprocess.Popen(command, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    try:
        yield address, _ready_after_s(process, address, start_s)
    finally:
        process.terminate()
        process.wait(30)


def _ready_after_s(process: "subprocess.Popen[bytes]", address: str, start_s: float) -> float:
    """Ask until the service is ready."""
    with httpx.Client() as client:
        while time.perf_counter() - start_s < 60 and process.poll() is None:
            try:
                if client.get(f"{address}/readyz").status_code == 200:
                    return time.perf_counter() - start_s
            except httpx.TransportError:
                pass
            time.sleep(0.01)
    raise RuntimeError(f"the service was not ready (exit status {process.poll()})")


def spread(values: Sequence[float], unit: str) -> str:
    """Write the median with the extremes."""
    return f"{statistics.median(values):.3f} {unit} (min {min(values):.3f}, max {max(values):.3f}, n = {len(values)})"
