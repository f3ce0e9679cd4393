"""The engine: the models of the store in memory, warmed, behind one batcher."""

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from artifact.errors import ArtifactError
from artifact.manifest import Capability, DiscreteLevel, ImageGeometry, Manifest
from artifact.store import Artifact, Store
from service.engine.batcher import Arrays, Batcher, Key, Load
from service.engine.runtime import DeviceReport, Session, choose_device
from service.engine.sizes import example, row_values
from service.errors import CapabilityError, ServiceError, UnavailableError, UnknownModelError
from service.settings import Settings

Modality = Literal["image", "audio"]
State = Literal["loading", "ready", "draining", "failed"]

_LARGE_VALUES = 2**20
"""Runs whose largest tensor has so many values, such as a picture of 600 x 600, give their memory back."""

SAMPLE_SLICE = 32
"""Importance samples of one run of `log_weight`: whatever the batch, so that a row alone gives the same numbers."""

_READ = {"decode": ("mean",)}
"""The outputs that the service reads of a graph that has more: a mixture's parameters outweigh its mean many times."""


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

    @property
    def code_level(self) -> DiscreteLevel | None:
        """The level of integer codes; None for a model of real-valued latents."""
        level = self.manifest.latent[0]
        return level if isinstance(level, DiscreteLevel) else None


class Engine:
    """Everything between an operation and a graph.

    Args:
        settings: the store, the models, the device and the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._phase: State = "loading"
        self._start_failure: str | None = None
        self.device = DeviceReport(settings.device, "cpu", "nothing is loaded yet")
        self._models: dict[str, ServedModel] = {}
        # Asked several times a run, and a grid of codes is drawn in a thousand runs.
        self._buckets = lru_cache(maxsize=1024)(self._compute_buckets)
        self._row_values = lru_cache(maxsize=1024)(self._compute_row_values)
        self._batcher = Batcher(
            self._run_graph,
            buckets=self._buckets,
            row_values=self._row_values,
            max_queue_rows=settings.max_queue_rows,
            max_queue_values=settings.max_queue_values,
        )

    async def start(self) -> None:
        """Open and verify the artifacts, build their sessions and warm them.

        Raises:
            ArtifactError: the store is empty or an artifact is bad.
            DeviceError: the device demanded does not work.
        """
        try:
            await asyncio.to_thread(self._load)
        except (ServiceError, ArtifactError) as error:
            self._phase, self._start_failure = "failed", str(error)
            raise
        self._phase = "ready"

    async def stop(self) -> None:
        """Finish the run in progress, refuse the waiting ones."""
        if self.state == "ready":
            self._phase = "draining"
        await self._batcher.stop()

    @property
    def state(self) -> State:
        """What the engine is about; a worker that has died shows at once."""
        return "failed" if self._phase == "ready" and self._batcher.closed else self._phase

    @property
    def failure(self) -> str | None:
        """Why the engine is failed; None while it is not."""
        return self._batcher.closed if self._phase == "ready" else self._start_failure

    def check_ready(self) -> None:
        """Refuse to go on before the models are loaded, or after the end.

        Raises:
            UnavailableError: the engine is not ready.
        """
        if self.state != "ready":
            reason = self.failure or "GET /readyz tells when it is ready"
            raise UnavailableError(f"the service is {self.state}: {reason}")

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self._batcher.queue_rows

    @property
    def loads(self) -> dict[tuple[str, str], Load]:
        """What the runs of each graph have come to, by model and role."""
        return dict(self._batcher.loads)

    def models(self) -> list[ServedModel]:
        """List the served models; the first one that can answer is the default of an endpoint."""
        return list(self._models.values())

    def named(self, reference: str) -> list[ServedModel]:
        """Find the served versions of a model, the latest last.

        Args:
            reference: `name`, for all of them, or `name@version`.

        Returns:
            At least one.

        Raises:
            UnknownModelError: there is none.
        """
        found = [model for model in self._models.values() if reference in (model.reference, model.manifest.name)]
        if not found:
            served = ", ".join(self._models) or "none"
            raise UnknownModelError(f"no model {reference[:80]!r} is served; there are: {served}")
        return sorted(found, key=lambda model: model.version)

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
        model = self.named(reference)[-1]
        if model not in able:
            capabilities = ", ".join(model.manifest.capabilities)
            raise CapabilityError(
                f"{model.reference} cannot {capability}, only {capabilities}; models that can: {names}"
            )
        return model

    async def run(self, model: ServedModel, graph: str, rows: Arrays, *, admit: int | None = None) -> Arrays:
        """Run a graph on rows, joined with those of other requests.

        Args:
            model: which.
            graph: the role of its graph.
            rows: every input by name, `[B, ...]`.
            admit: rows of the whole request, which its first run lets in; 0 in its later runs; None where this run is
                the whole request.

        Returns:
            Every output by name, `[B, ...]`; of `decode` the mean alone.

        Raises:
            UnavailableError: the engine is not ready.
            OverloadedError: too many rows or values wait.
        """
        self.check_ready()
        return await self._batcher.submit(Key.of(model.reference, graph, rows), rows, admit=admit)

    def _run_graph(self, key: Key, rows: Arrays) -> Arrays:
        """Run one batch; called in the batcher's thread."""
        rows_run = len(next(iter(rows.values())))
        large = rows_run * self._row_values(key) >= _LARGE_VALUES
        return self._models[key.model].sessions[key.operation].run(rows, give_back=large)

    def _compute_buckets(self, key: Key) -> tuple[int, ...]:
        """Give the batch sizes whose largest tensor stays within the budget; a single row is always run."""
        values = self._row_values(key)
        return tuple(size for size in self.settings.buckets if size * values <= self.settings.max_run_values) or (1,)

    def _compute_row_values(self, key: Key) -> int:
        """Count the values of the largest tensor that one row of a run has."""
        return row_values(self._models[key.model].manifest, key)

    def _load(self) -> None:
        """Open and warm all models, in the order in which they serve as defaults."""
        store = Store(self.settings.store)
        artifacts = [store.open(reference) for reference in self.settings.models or store.names()]
        if not artifacts:
            raise UnknownModelError(
                f"the store {self.settings.store} holds no models; set LATENTD_STORE to a folder of artifacts, "
                "or publish one with python -m training export"
            )
        if not self.settings.models:
            artifacts.sort(key=_takes_one_size)
        first = artifacts[0]
        self.device = choose_device(self.settings.device, first.file(next(iter(first.manifest.graphs))))
        self._models = {artifact.reference: self._open(artifact) for artifact in artifacts}
        for model in self._models.values():
            self._warm(model)

    def _open(self, artifact: Artifact) -> ServedModel:
        """Build the sessions of a model."""
        sessions = {
            role: Session(
                artifact.file(role),
                role,
                graph,
                provider=self.device.provider,
                threads=self.settings.threads,
                read=_READ.get(role),
            )
            for role, graph in artifact.manifest.graphs.items()
        }
        return ServedModel(artifact.reference, artifact.manifest, sessions)

    def _warm(self, model: ServedModel) -> None:
        """Run each graph at every bucket once."""
        for role in model.manifest.graphs:
            row = example(model.manifest, role, SAMPLE_SLICE)
            for bucket in self._buckets(Key.of(model.reference, role, row)):
                model.sessions[role].run({name: np.repeat(array, bucket, axis=0) for name, array in row.items()})


def _takes_one_size(artifact: Artifact) -> bool:
    """Tell models of a fixed size, which are worse defaults than those that take any picture as it is."""
    geometry = artifact.manifest.geometry
    return isinstance(geometry, ImageGeometry) and geometry.height is not None
