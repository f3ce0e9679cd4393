"""From the store into memory: artifacts verified, opened, warm, and compared with their golden outputs."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from artifact import golden
from artifact.errors import ArtifactError
from artifact.store import Artifact, Store
from service.engine.devices import DeviceReport, GpuOptions
from service.engine.exactness import exact_fault
from service.engine.opening import READ, ServedModel, open_model
from service.engine.runtime import choose_device
from service.engine.wishes import Wishes
from service.errors import LoadError
from service.settings import Settings

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """What became of the artifacts that are to be served.

    Attributes:
        models: by reference; where one could not be opened, those that are served in its place.
        failures: why an artifact could not be opened, by reference.
    """

    models: Mapping[str, ServedModel]
    failures: Mapping[str, Exception]


class Loader:
    """Opens models; what it does takes seconds and happens in a thread, one call at a time.

    Args:
        settings: the store, the models and the device.

    Attributes:
        device: what the graphs run on.
    """

    def __init__(self, settings: Settings) -> None:
        self.device = DeviceReport(settings.device, "cpu", "nothing is loaded yet")
        self._settings = settings
        self._store = Store(settings.store)
        self._has_device = False

    def open(self, wishes: Wishes, served: Mapping[str, ServedModel], only: str | None = None) -> Opened:
        """Open what is wished for and not served as the store has it.

        Args:
            wishes: what is to be served.
            served: what is, by reference; a model that has not changed is taken from here.
            only: name of the model that is looked after; None for all.

        Returns:
            The models, and what went wrong.

        Raises:
            LoadError: the store is empty or cannot be read.
            DeviceError: the device demanded does not work.
        """
        artifacts, failures = self._verify(wishes, only)
        if artifacts and not self._has_device:
            self._choose_device(next(iter(artifacts.values())))
        models: dict[str, ServedModel] = {}
        for reference, artifact in artifacts.items():
            known = served.get(reference)
            if known is not None and known.manifest == artifact.manifest:
                models[reference] = known
                continue
            try:
                models[reference] = self._open(artifact)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with an artifact, the others are served
                failures[reference] = error
        for reference in failures:
            models.update(_standing_in(reference, served))
        return Opened(models, failures)

    def references(self) -> list[str]:
        """List everything in the store, served or not, by `name@version`."""
        return [f"{name}@{version}" for name in self._store.names() for version in self._store.versions(name)]

    def _verify(self, wishes: Wishes, only: str | None) -> tuple[dict[str, Artifact], dict[str, Exception]]:
        """Find and verify the artifacts that are wished for."""
        try:
            is_empty, targets = not self._store.names(), wishes.targets(self._store)
        except OSError as error:
            raise LoadError(f"the store {self._settings.store} cannot be read: {error}") from error
        if is_empty:
            raise LoadError(
                f"the store {self._settings.store} holds no models; set LATENTD_STORE to a folder of artifacts, "
                "or publish one with python -m training export"
            )
        artifacts: dict[str, Artifact] = {}
        failures: dict[str, Exception] = {}
        for reference in targets:
            if only in (None, name_of(reference)):
                try:
                    artifacts[reference] = self._store.open(reference)
                except (ArtifactError, OSError) as error:
                    failures[reference] = error
        return artifacts, failures

    def _choose_device(self, artifact: Artifact) -> None:
        """Find out what graphs can run on, by one of them."""
        probe = artifact.file(next(iter(artifact.manifest.graphs)))
        self.device = choose_device(self._settings.device, probe, GpuOptions.of(self._settings))
        self._has_device = True

    def _open(self, artifact: Artifact) -> ServedModel:
        """Open an artifact, and compare what it gives with what it gave when it was exported."""
        model = open_model(artifact, self.device, self._settings)
        report = golden.read(artifact).check(
            lambda role, inputs: model.sessions[role].run(inputs), precision=model.precision, read=READ
        )
        _LOG.info("%s is loaded; %s", artifact.reference, report)
        fault = exact_fault(artifact, lambda role, inputs: model.sessions[role].run(inputs))
        return model if fault is None else replace(model, exact_fault=fault)


def name_of(reference: str) -> str:
    """Give the name of `name` or `name@version`."""
    return reference.partition("@")[0]


def _standing_in(reference: str, served: Mapping[str, ServedModel]) -> dict[str, ServedModel]:
    """Give what is served in place of an artifact that could not be opened."""
    if reference in served:
        return {reference: served[reference]}
    return {known: model for known, model in served.items() if name_of(known) == name_of(reference)}
