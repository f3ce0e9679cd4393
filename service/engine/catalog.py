"""The catalog: which models are served, and which of them a request means."""

from typing import Literal

from artifact.manifest import Capability, ImageGeometry
from artifact.store import Artifact, Store
from service.engine.opening import ServedModel, open_model
from service.engine.runtime import DeviceReport, choose_device
from service.errors import CapabilityError, UnknownModelError
from service.settings import Settings

Modality = Literal["image", "audio"]


class Catalog:
    """The served models.

    Args:
        settings: the store, the models and the device.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = DeviceReport(settings.device, "cpu", "nothing is loaded yet")
        self._models: dict[str, ServedModel] = {}

    def load(self) -> None:
        """Open all models, in the order in which they serve as defaults.

        Raises:
            ArtifactError: an artifact is bad.
            UnknownModelError: the store is empty, or has no such model.
            DeviceError: the device demanded does not work.
        """
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
        self._models = {artifact.reference: open_model(artifact, self.device, self.settings) for artifact in artifacts}

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


def _takes_one_size(artifact: Artifact) -> bool:
    """Tell models of a fixed size, which are worse defaults than those that take any picture as it is."""
    geometry = artifact.manifest.geometry
    return isinstance(geometry, ImageGeometry) and geometry.height is not None
