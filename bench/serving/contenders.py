"""Who is measured: the service and its peers, how each is started, asked and understood."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.load import NPY, npy
from bench.serving.environments import ROOT, python_of
from bench.serving.subject import PICTURE, Subject

BATCH = 64
"""Rows of a client's batch."""


@dataclass(frozen=True)
class Question:
    """One request: its path, body and headers."""

    path: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Contender:
    """A server.

    Attributes:
        name: as the table has it, unique.
        group: what `--only` calls it, and the name of its environment.
        command: starts it on a port.
        asks: the request of each case that it is measured in, by the case's key.
        read: understands the answer to one picture.
    """

    name: str
    group: str
    command: Callable[[Subject, int], list[str]]
    asks: dict[str, Callable[[Subject], Question]]
    read: Callable[[bytes, Subject], NDArray[Any]]

    @property
    def is_peer(self) -> bool:
        """Whether it needs an environment of its own."""
        return self.group != LATENTD


LATENTD = "latentd"


def _latentd_command(subject: Subject, port: int) -> list[str]:
    command = [sys.executable, "-m", "service", "--store", str(subject.store), "--port", str(port)]
    return [*command, "--device", "cpu", "--threads", str(subject.threads), "--log-level", "error"]


def _to_latentd(content: Callable[[Subject], bytes], media_type: str) -> Callable[[Subject], Question]:
    def ask(subject: Subject) -> Question:
        headers = {"Content-Type": media_type, "Accept": NPY}
        return Question(f"/encode?model={subject.model}", content(subject), headers)

    return ask


_LATENTD_ASKS = {
    "many": _to_latentd(lambda subject: npy(subject.image), NPY),
    "one": _to_latentd(lambda subject: npy(subject.image), NPY),
    "batches": _to_latentd(lambda subject: npy(np.repeat(subject.image, BATCH, axis=0)), NPY),
    "png": _to_latentd(lambda _: PICTURE.read_bytes(), "image/png"),
}


def _peer(name: str, group: str, path: str, *arguments: str) -> Contender:
    """Describe a peer: raw bytes of a picture go in, raw bytes of the graph's output come out."""

    def command(subject: Subject, port: int) -> list[str]:
        words = (str(subject.graph), subject.output, str(subject.threads), str(port), *arguments)
        return [str(python_of(group)), "-m", f"bench.serving.peers.{group}", *words]

    def ask(subject: Subject) -> Question:
        return Question(path, subject.image.tobytes(), {"Content-Type": "application/octet-stream"})

    def read(content: bytes, subject: Subject) -> NDArray[Any]:
        expected = subject.expected()
        return np.frombuffer(content, expected.dtype).reshape(expected.shape)

    return Contender(name, group, command, {"many": ask, "one": ask}, read)


CONTENDERS = (
    Contender(
        LATENTD,
        LATENTD,
        _latentd_command,
        _LATENTD_ASKS,
        lambda content, _: np.load(io.BytesIO(content), allow_pickle=False),
    ),
    _peer("mosec, 2 ms", "mosec", "/inference", "2"),
    _peer("mosec, 10 ms", "mosec", "/inference", "10"),
    _peer("LitServe", "litserve", "/predict"),
    _peer("BentoML", "bentoml", "/encode"),
    _peer("Ray Serve", "ray", "/"),
)


def environment() -> dict[str, str]:
    """Give the variables that servers are started with, beside those of this process."""
    silent = {"BENTOML_DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **silent}
