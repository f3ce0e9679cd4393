"""What is to be served, whatever the store holds at the moment."""

from dataclasses import dataclass, field, replace

from artifact.store import Store

ALL = "*"
"""The wish for the latest version of every model in the store."""


@dataclass(frozen=True)
class Wishes:
    """Which models are to be served.

    Attributes:
        wanted: `ALL`, `name` for its latest version, or `name@version`, in the order in which they are defaults.
        unwanted: `name` or `name@version` that `ALL` and a wish for a latest version do not bring.
    """

    wanted: tuple[str, ...]
    unwanted: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, models: tuple[str, ...]) -> "Wishes":
        """Take the wishes of the settings; none is the wish for all."""
        return cls(models or (ALL,))

    def loading(self, name: str, version: int | None) -> "Wishes":
        """Wish for a model, too.

        Args:
            name: the model's.
            version: None for the latest, and to follow it.
        """
        reference = name if version is None else f"{name}@{version}"
        wanted = self.wanted if reference in self.wanted else (*self.wanted, reference)
        lifted = {other for other in self.unwanted if other == reference or (version is None and _name(other) == name)}
        return replace(self, wanted=wanted, unwanted=self.unwanted - lifted)

    def unloading(self, name: str, version: int | None) -> "Wishes":
        """Wish for a model no longer, until it is wished for again.

        Args:
            name: the model's.
            version: None for all versions, also those that are still to come.
        """
        if version is not None:
            reference = f"{name}@{version}"
            wanted = tuple(other for other in self.wanted if other != reference)
            return Wishes(wanted, self.unwanted | {reference})
        wanted = tuple(other for other in self.wanted if _name(other) != name)
        unwanted = frozenset(other for other in self.unwanted if _name(other) != name)
        return Wishes(wanted, unwanted | {name})

    def targets(self, store: Store) -> list[str]:
        """Give the `name@version` of every wish; a bare `name` where the store has no version of it."""
        found: dict[str, None] = {}
        for wish in self.wanted:
            if "@" in wish:
                found[wish] = None
                continue
            for name in store.names() if wish == ALL else [wish]:
                reference = next((f"{name}@{version}" for version in reversed(store.versions(name))), name)
                if name not in self.unwanted and reference not in self.unwanted:
                    found[reference] = None
        return list(found)

    def rank(self, name: str, version: int) -> int:
        """Give the place of a served model in the order of the defaults; several may share one."""
        meant = (ALL, name, f"{name}@{version}")
        return next((place for place, wish in enumerate(self.wanted) if wish in meant), len(self.wanted))


def _name(reference: str) -> str:
    return reference.partition("@")[0]
