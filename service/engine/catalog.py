"""The catalog: which models are served at this moment, and which of them a request means."""

from collections.abc import Mapping
from typing import Literal

from service.engine.abilities import Ability, can, why_not
from service.engine.opening import ServedModel
from service.errors import CapabilityError, UnknownModelError

Modality = Literal["image", "audio"]


class Catalog:
    """The served models, replaced as a whole.

    Attributes:
        generation: how often the models have been replaced.
        problems: why the store's state is not the served one, by `name@version`.
    """

    def __init__(self) -> None:
        self._models: Mapping[str, ServedModel] = {}
        # Every request looks for its model, and there are few that can be found.
        self._found: dict[tuple[str | None, Ability, Modality | None], ServedModel] = {}
        self.problems: Mapping[str, str] = {}
        self.generation = 0

    def replace(self, models: Mapping[str, ServedModel], problems: Mapping[str, str]) -> None:
        """Serve other models from now on; requests that have found theirs keep it.

        Args:
            models: by reference, in the order in which they are defaults.
            problems: see `problems`.
        """
        self._models, self.problems = models, problems
        self._found = {}
        self.generation += 1

    def models(self) -> list[ServedModel]:
        """List the served models; the first one that can answer is the default of an endpoint."""
        return list(self._models.values())

    def by_reference(self) -> Mapping[str, ServedModel]:
        """Give the served models by `name@version`, in the same order."""
        return self._models

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
            problems = "".join(f"; {text}" for text in self.problems_of(reference).values())
            raise UnknownModelError(f"no model {reference[:80]!r} is served; there are: {served}{problems}")
        return sorted(found, key=lambda model: model.version)

    def problems_of(self, reference: str) -> dict[str, str]:
        """Give the problems of a model, by `name@version`.

        Args:
            reference: `name`, for all versions, or `name@version`.
        """
        return {known: text for known, text in self.problems.items() if reference in (known, known.partition("@")[0])}

    def model(self, reference: str | None, ability: Ability, modality: Modality | None = None) -> ServedModel:
        """Find the model for a request.

        Args:
            reference: `name`, for its latest served version, or `name@version`; None for the default.
            ability: what it must be able to do.
            modality: what it must take; None for either.

        Returns:
            The model.

        Raises:
            UnknownModelError: there is no such model.
            CapabilityError: it cannot do that, or none can.
        """
        wish = (reference, ability, modality)
        if (found := self._found.get(wish)) is None:
            found = self._found[wish] = self._find(*wish)
        return found

    def _find(self, reference: str | None, ability: Ability, modality: Modality | None) -> ServedModel:
        """Look for a model, as `model` says."""
        able = [
            model
            for model in self._models.values()
            if can(model.manifest, ability) and modality in (None, model.manifest.geometry.modality)
        ]
        names = ", ".join(model.reference for model in able) or "none"
        if reference is None:
            if not able:
                kind = {"image": " of pictures", "audio": " of sounds", None: ""}[modality]
                raise CapabilityError(f"no served model{kind} can {ability}")
            return able[0]
        model = self.named(reference)[-1]
        if model not in able:
            capabilities = ", ".join(model.manifest.capabilities)
            reason = why_not(model.manifest, ability)
            because = "" if reason is None else f": {reason}"
            raise CapabilityError(
                f"{model.reference} cannot {ability}, only {capabilities}{because}; models that can: {names}"
            )
        return model
