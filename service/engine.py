"""The engine: the models of the store in memory, warmed, behind one batcher."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from artifact.errors import ArtifactError
from artifact.manifest import Capability, Graph, Manifest
from artifact.store import Artifact, Store
from service.batcher import Arrays, Batcher, Key
from service.errors import CapabilityError, ServiceError, UnavailableError, UnknownModelError
from service.runtime import DeviceReport, Session, choose_device
from service.settings import Settings

Modality = Literal["image", "audio"]
State = Literal["loading", "ready", "draining", "failed"]

SAMPLE_SLICE = 32
"""Importance samples of one run of `log_weight`: whatever the batch, so that a row alone gives the same numbers."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is loaded and answers.

    Attributes:
        reference: `name@version`.
        manifest: the artifact's.
        sessions: its graphs by role.
    """

    reference: str
    manifest: Manifest
    sessions: dict[str, Session] = field(repr=False)

    @property
    def version(self) -> int:
        """The version in the store."""
        return int(self.reference.rpartition("@")[2])


class Engine:
    """Everything between an operation and a graph.

    Args:
        settings: the store, the models, the device and the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state: State = "loading"
        self.failure: str | None = None
        self.device = DeviceReport(settings.device, "cpu", "nothing is loaded yet")
        self._models: dict[str, ServedModel] = {}
        self._batcher: Batcher | None = None

    async def start(self) -> None:
        """Open and verify the artifacts, build their sessions and warm them.

        Raises:
            ArtifactError: the store is empty or an artifact is bad.
            DeviceError: the device demanded does not work.
        """
        try:
            self._models = await asyncio.to_thread(self._load)
        except (ServiceError, ArtifactError) as error:
            self.state, self.failure = "failed", str(error)
            raise
        self._batcher = Batcher(
            self._run_graph, buckets=self.settings.buckets, max_queue_rows=self.settings.max_queue_rows
        )
        self.state = "ready"

    async def stop(self) -> None:
        """Finish the run in progress, refuse the waiting ones."""
        if self.state == "ready":
            self.state = "draining"
        if self._batcher is not None:
            await self._batcher.stop()

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self._batcher.queue_rows if self._batcher else 0

    def models(self) -> list[ServedModel]:
        """List the served models; the first one that can answer is the default of an endpoint."""
        return list(self._models.values())

    def model(self, reference: str | None, capability: Capability, modality: Modality | None = None) -> ServedModel:
        """Find the model for a request.

        Args:
            reference: `name`, for its latest served version, or `name@version`; None for the default.
            capability: what it must be able to do.
            modality: what it must take; None for either.

        Returns:
            The model.

        Raises:
            UnknownModelError: there is no such model.
            CapabilityError: it cannot do that, or none can.
        """
        able = [
            model
            for model in self._models.values()
            if capability in model.manifest.capabilities and modality in (None, model.manifest.geometry.modality)
        ]
        names = ", ".join(model.reference for model in able) or "none"
        if reference is None:
            if not able:
                raise CapabilityError(f"no served model can {capability}")
            return able[0]
        found = [m for m in self._models.values() if reference in (m.reference, m.manifest.name)]
        if not found:
            served = ", ".join(self._models) or "none"
            raise UnknownModelError(f"no model {reference!r} is served; there are: {served}")
        model = max(found, key=lambda candidate: candidate.version)
        if model not in able:
            capabilities = ", ".join(model.manifest.capabilities)
            raise CapabilityError(
                f"{model.reference} cannot {capability}, only {capabilities}; models that can: {names}"
            )
        return model

    async def run(self, model: ServedModel, graph: str, rows: Arrays) -> Arrays:
        """Run a graph on rows, joined with those of other requests.

        Args:
            model: which.
            graph: the role of its graph.
            rows: every input by name, `[B, ...]`.

        Returns:
            Every output by name, `[B, ...]`.

        Raises:
            UnavailableError: the engine is not ready.
            OverloadedError: too many rows wait.
        """
        if self._batcher is None or self.state != "ready":
            raise UnavailableError(f"the service is {self.state}: {self.failure or 'come again in a moment'}")
        try:
            return await self._batcher.submit(Key.of(model.reference, graph, rows), rows)
        except UnavailableError:
            if self._batcher.closed and self.state == "ready":
                self.state, self.failure = "failed", self._batcher.closed
            raise

    def _run_graph(self, key: Key, rows: Arrays) -> Arrays:
        """Run one batch; called in the batcher's thread."""
        return self._models[key.model].sessions[key.operation].run(rows)

    def _load(self) -> dict[str, ServedModel]:
        """Open all models, in the order in which they serve as defaults."""
        store = Store(self.settings.store)
        artifacts = [store.open(reference) for reference in self.settings.models or store.names()]
        if not artifacts:
            raise UnknownModelError(
                f"the store {self.settings.store} holds no models; set LATENTD_STORE to a folder of artifacts, "
                "or publish one with python -m training export"
            )
        first = artifacts[0]
        self.device = choose_device(self.settings.device, first.file(next(iter(first.manifest.graphs))))
        return {artifact.reference: self._open(artifact) for artifact in artifacts}

    def _open(self, artifact: Artifact) -> ServedModel:
        """Build the sessions of a model and run each at every bucket once."""
        sessions = {
            role: Session(
                artifact.file(role), role, graph, provider=self.device.provider, threads=self.settings.threads
            )
            for role, graph in artifact.manifest.graphs.items()
        }
        for role, graph in artifact.manifest.graphs.items():
            for bucket in self.settings.buckets:
                sessions[role].run(_example(graph, {"B": bucket, "S": SAMPLE_SLICE}))
        return ServedModel(artifact.reference, artifact.manifest, sessions)


def _example(graph: Graph, sizes: dict[str, int]) -> dict[str, np.ndarray[Any, Any]]:
    """Make inputs of zeros for a graph, unknown axes at one."""
    return {
        tensor.name: np.zeros(
            [sizes.get(axis, 1) if isinstance(axis, str) else axis for axis in tensor.shape], dtype=tensor.dtype
        )
        for tensor in graph.inputs
    }
