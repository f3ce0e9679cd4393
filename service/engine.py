"""The engine: the models of the store, loaded and warmed, behind one batcher."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from artifact.manifest import Capability, Graph, Manifest
from artifact.store import Artifact, Store
from service.batcher import Batcher, Key
from service.errors import CapabilityError, ParameterError, UnavailableError, UnknownModelError
from service.runtime import DeviceReport, Session, choose_device
from service.settings import Settings

Arrays = dict[str, NDArray[Any]]
Modality = Literal["image", "audio"]
State = Literal["loading", "ready", "draining", "failed"]

SAMPLES_PER_RUN = 16
"""Importance samples of one row in one `log_weight` run: fixed, so that a row's sums do not depend on the batch."""

_WARM_SIDE = 64


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is loaded and answers.

    Attributes:
        reference: `name@version`.
        manifest: what is known of it.
        sessions: its graphs by role.
    """

    reference: str
    manifest: Manifest
    sessions: Mapping[str, Session]

    @property
    def version(self) -> int:
        """The version in the store."""
        return int(self.reference.rpartition("@")[2])


class Engine:
    """Everything between an operation and a graph.

    Args:
        settings: what to serve, on what, and the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._device = DeviceReport(settings.device, "cpu", "no device is chosen yet")
        self._models: dict[str, ServedModel] = {}
        self._batcher = Batcher(_run, buckets=settings.buckets, max_queue_rows=settings.max_queue_rows)
        self._state: State = "loading"
        self._failure: str | None = None

    async def start(self) -> None:
        """Open and verify the artifacts, build their sessions and warm them, off the event loop.

        Raises:
            UnknownModelError: the store is empty.
            ArtifactError: a model is missing, damaged, or not what its manifest says.
            DeviceError: the device demanded does not work.
        """
        try:
            self._device, models = await asyncio.to_thread(_load, self.settings)
        except Exception as error:
            self._state, self._failure = "failed", str(error)
            raise
        self._models = {model.reference: model for model in models}
        self._state = "ready"

    async def stop(self) -> None:
        """Let the run in progress end and refuse what waits."""
        if self._state != "failed":
            self._state = "draining"
        await self._batcher.stop()

    @property
    def state(self) -> State:
        """Where the engine stands; `failed` also once its worker has died."""
        return "failed" if self._state == "ready" and self._batcher.closed else self._state

    @property
    def failure(self) -> str | None:
        """Why the state is `failed`; None otherwise."""
        return self._failure or (self._batcher.closed if self.state == "failed" else None)

    @property
    def device(self) -> DeviceReport:
        """What the graphs run on, and why."""
        return self._device

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self._batcher.queue_rows

    def models(self) -> list[ServedModel]:
        """List the served models: in the settings' order or, where these name none, by name."""
        return list(self._models.values())

    def model(self, reference: str | None, capability: Capability, modality: Modality | None = None) -> ServedModel:
        """Find the model for a request.

        Args:
            reference: `name`, for the latest version served, or `name@version`; None for the first model that can.
            capability: what it must be able to do.
            modality: what it must take; None where the request does not tell.

        Returns:
            The model.

        Raises:
            UnknownModelError: no such model is served.
            CapabilityError: it cannot do this, or no model can.
            ParameterError: it takes another modality.
        """
        able = [model for model in self._models.values() if _suits(model, capability, modality)]
        cure = f"models that can: {_names(able)}"
        subject = capability if modality is None else f"{capability} {modality}"
        if reference is None:
            if not able:
                raise CapabilityError(f"no served model can {subject}; served are: {_names(self.models())}")
            return able[0]
        model = self._find(reference)
        if capability not in model.manifest.capabilities:
            can = ", ".join(model.manifest.capabilities) or "nothing"
            raise CapabilityError(f"model {model.reference} cannot {capability}, it can: {can}; {cure}")
        if model not in able:
            found = model.manifest.geometry.modality
            raise ParameterError(f"model {model.reference} takes {found}, the request holds {modality}; {cure}")
        return model

    def _find(self, reference: str) -> ServedModel:
        found = [m for m in self._models.values() if reference in (m.reference, m.manifest.name)]
        if not found:
            raise UnknownModelError(f"no model {reference!r} is served; served are: {_names(self.models())}")
        return max(found, key=lambda model: model.version)

    async def run(self, model: ServedModel, graph: str, rows: Arrays) -> Arrays:
        """Run a graph on rows, joined with those of other requests.

        Args:
            model: one of `models()`.
            graph: the graph's role.
            rows: every input by name, `[B, ...]`, B at least 1.

        Returns:
            Every output by name, `[B, ...]`.

        Raises:
            UnavailableError: the engine is not ready, or its worker died.
            OverloadedError: too many rows wait.
        """
        if self.state != "ready":
            raise UnavailableError(self.failure or f"the service is {self.state}; come back in a few seconds")
        return await self._batcher.submit(_ModelKey.of(model, graph, rows), rows)
