"""What is measured of everyone, and how."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import uvloop

from bench.connection import Target
from bench.loops import closed_loop
from bench.measure import free_port
from bench.report import OK, Report
from bench.serving import bare
from bench.serving.contenders import BATCH, Contender, Question, environment
from bench.serving.processes import ServerError, cpu_s, running
from bench.serving.subject import Subject

CONNECTIONS = 32
_BATCH_CONNECTIONS = 4
_IDLE_S = 10.0
_WARM_S = 0.5
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """A column of the table.

    Attributes:
        key: what `--cases` calls it.
        title: with the unit.
        digits: after the point.
    """

    key: str
    title: str
    digits: int


CASES = (
    Case("many", f"{CONNECTIONS} connections, rows/s", 0),
    Case("one", "one connection, p50 ms", 2),
    Case("batches", f"batches of {BATCH}, rows/s", 0),
    Case("png", "PNG, rows/s", 0),
    Case("idle", "idle, % of a core", 2),
)


def of_bare(subject: Subject, case: str, seconds: float) -> float | None:
    """Measure one case of ONNX Runtime with nothing around it.

    Args:
        subject: what is run.
        case: its key.
        seconds: how long.

    Returns:
        The figure: of tensors the best batch size's, of PNG what decoding and runtime allow; None where there is none.
    """
    if case in ("many", "batches"):
        return max(bare.rows_per_s(subject, seconds).values())
    if case == "one":
        return bare.p50_ms(subject, seconds)
    return bare.png_rows_per_s(subject, seconds) if case == "png" else None


@dataclass(frozen=True)
class Served:
    """A contender that runs."""

    contender: Contender
    subject: Subject
    address: str
    process: int

    def measure(self, case: str, seconds: float) -> float | None:
        """Measure one case.

        Args:
            case: its key.
            seconds: how long.

        Returns:
            The figure; None where the contender is not measured in this case.

        Raises:
            ServerError: not every request was answered with 200.
        """
        if case == "idle":
            return None if self.contender.is_peer else self._idle_percent()
        if case not in self.contender.asks:
            return None
        question = self.contender.asks[case](self.subject)
        connections = {"one": 1, "batches": _BATCH_CONNECTIONS}.get(case, CONNECTIONS)
        self._load(question, connections, _WARM_S)
        report = self._load(question, connections, seconds)
        if case == "one":
            return report.answers[OK].p50_ms
        return report.ok / report.seconds * (BATCH if case == "batches" else 1)

    def _idle_percent(self) -> float:
        """Watch the processes while nothing is asked of them."""
        before_s = cpu_s(self.process)
        time.sleep(_IDLE_S)
        return 100 * (cpu_s(self.process) - before_s) / _IDLE_S

    def _load(self, question: Question, connections: int, seconds: float) -> Report:
        """Put load on in a closed loop, all of which must be answered."""
        target = Target.of(self.address + question.path, question.body, question.headers)
        report = uvloop.run(closed_loop(target, connections=connections, seconds=seconds))
        if report.ok != report.sent:
            raise ServerError(f"not every request was answered with 200:\n{report.table()}")
        return report


@contextmanager
def serving(contender: Contender, subject: Subject) -> Iterator[Served]:
    """Start a contender, see that it answers what bare ONNX Runtime does, and end it with the block.

    Args:
        contender: whom.
        subject: what it serves.

    Yields:
        The running server.

    Raises:
        ServerError: it does not start, or answers something else.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    question = contender.asks["one"](subject)

    def answer() -> httpx.Response | None:
        try:
            return httpx.post(
                address + question.path, content=question.body, headers=question.headers, timeout=30, trust_env=False
            )
        except httpx.TransportError:
            return None

    def is_ready() -> bool:
        found = answer()
        return found is not None and found.status_code == OK

    with running(contender.command(subject, port), environment(), is_ready) as process:
        found = answer()
        if found is None:
            raise ServerError("it does not answer any more")
        _check(contender.read(found.content, subject), subject.expected())
        yield Served(contender, subject, address, process)


def _check(found: np.ndarray, expected: np.ndarray[Any, Any]) -> None:
    """Compare an answer with that of bare ONNX Runtime.

    Raises:
        ServerError: they differ.
    """
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ServerError(f"it answers {found.ravel()[:4]}... {found.shape}, expected {expected.ravel()[:4]}...")
