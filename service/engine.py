"""The engine: the models of the store in memory, warmed, behind one batcher."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from artifact.manifest import Capability, Manifest
from service.runtime import DeviceReport
from service.settings import Settings

Modality = Literal["image", "audio"]
State = Literal["loading", "ready", "draining", "failed"]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is loaded and answers."""

    reference: str
    manifest: Manifest

    @property
    def version(self) -> int:
        """The version in the store."""
        return int(self.reference.rpartition("@")[2])


class Engine:
    """Everything between an operation and a graph."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def start(self) -> None:
        """Open and verify the artifacts, build their sessions and warm them."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Finish the run in progress, refuse the waiting ones."""
        raise NotImplementedError

    @property
    def state(self) -> State:
        """Where the engine stands."""
        raise NotImplementedError

    @property
    def failure(self) -> str | None:
        """Why the state is `failed`; None otherwise."""
        raise NotImplementedError

    @property
    def device(self) -> DeviceReport:
        """What the graphs run on, and why."""
        raise NotImplementedError

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        raise NotImplementedError

    def models(self) -> list[ServedModel]:
        """List the served models."""
        raise NotImplementedError

    def model(self, reference: str | None, capability: Capability, modality: Modality | None = None) -> ServedModel:
        """Find the model for a request."""
        raise NotImplementedError

    async def run(
        self, model: ServedModel, graph: str, rows: dict[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Run a graph on rows, joined with those of other requests."""
        raise NotImplementedError
