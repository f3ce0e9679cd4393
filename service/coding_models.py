"""Which model a container was written with, by the beginnings of hashes that it keeps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from artifact.errors import ArtifactError
from artifact.exact import ExactPart
from artifact.manifest import MANIFEST_FILE, Manifest, read_manifest
from artifact.store import Store
from codec.coded import Coded, salvage_coded
from codec.container import Container
from codec.errors import UnsupportedContainerError
from codec.profile import Profile
from codec.reading import read_any
from service.errors import ParameterError, UnknownModelError, UnknownPriorError

Header = Container | Coded
"""What a container says, of whichever version."""

_SHOWN = 32


class Known(Protocol):
    """Whatever is known of a model, served or in a store."""

    @property
    def reference(self) -> str:
        """Its `name@version`."""
        ...

    @property
    def manifest(self) -> Manifest:
        """What there is to know."""
        ...


@dataclass(frozen=True)
class Shelved:
    """A model in a store, not opened.

    Attributes:
        reference: `name@version`.
        manifest: as it stands there; no file has been verified.
    """

    reference: str
    manifest: Manifest


M = TypeVar("M", bound=Known)


def shelved(store: Path) -> list[Shelved]:
    """List every version of every model of a store, the latest of each first; what cannot be read is left out."""
    models = []
    for name in (shelf := Store(store)).names():
        for version in reversed(shelf.versions(name)):
            try:
                manifest = read_manifest(store / name / str(version) / MANIFEST_FILE)
            except ArtifactError:
                continue
            models.append(Shelved(f"{name}@{version}", manifest))
    return models


def read_header(data: bytes, *, salvage: bool = False) -> Header:
    """Read what a container says.

    Args:
        data: the file.
        salvage: go on where chunks are damaged, of a container that has several.

    Returns:
        Its content; damaged chunks are empty.

    Raises:
        CodecError: it is damaged or unknown.
    """
    return take_apart(data, salvage=salvage)[0]


def take_apart(data: bytes, *, salvage: bool) -> tuple[Header, tuple[int, ...]]:
    """Read a container, and tell which of its chunks are damaged; see `read_header`."""
    if not salvage:
        return read_any(data), ()
    try:
        return salvage_coded(data)
    except UnsupportedContainerError:
        return read_any(data), ()


def find_model(
    models: Sequence[M],
    header: Header,
    wished: str | None,
    elsewhere: Callable[[], Sequence[Known]] = tuple,
) -> M:
    """Find the model that a container was written with.

    Args:
        models: to choose from, the preferred ones first.
        header: read, not yet held against a model.
        wished: `name` or `name@version` that the caller named; None where the container alone decides.
        elsewhere: gives models that cannot be chosen, for the message.

    Returns:
        The model.

    Raises:
        UnknownModelError: no model wrote it.
        UnknownPriorError: one did, with another exact prior than it has now.
        ParameterError: the caller named another, or several models could have written it.
    """
    matching = [model for model in models if model.manifest.model_hash.startswith(header.model_prefix)]
    if not matching:
        known = ", ".join(f"{model.reference} ({model.manifest.model_hash[:_SHOWN]})" for model in models) or "none"
        raise UnknownModelError(
            f"the container was written with the model whose hash begins with {header.model_prefix}, which is not "
            f"served; there are: {known}"
        )
    named = [model for model in matching if wished in (None, model.reference, model.manifest.name)]
    if not named:
        raise ParameterError(
            f"model is {wished!r}, and the container was written with {matching[0].reference}; leave model out"
        )
    if len({model.manifest.model_hash for model in named}) > 1:
        listed = " and ".join(dict.fromkeys(model.reference for model in named))
        raise ParameterError(
            f"the container keeps {header.model_prefix} of its model's hash, as {listed} have; say which with model"
        )
    able = [model for model in named if has_written(model.manifest, header)]
    if not able:
        raise _unknown_prior(named, header, elsewhere())
    return able[0]


def has_written(manifest: Manifest, header: Header) -> bool:
    """Tell whether a model can have written a container: the same model, with the same exact networks."""
    if not manifest.model_hash.startswith(header.model_prefix):
        return False
    return isinstance(header, Container) or any(
        found.startswith(header.prior_prefix) for found in _canonical_hashes(manifest, header.profile)
    )


def _canonical_hashes(manifest: Manifest, profile: Profile) -> Iterator[str]:
    """Give the hashes of the exact networks that a profile is coded under."""
    parts: tuple[ExactPart, ...] = manifest.exact_parts
    if profile is Profile.PRIOR:
        parts = () if manifest.exact_prior is None else (manifest.exact_prior,)
    yield from (part.canonical_hash for part in parts)


def check_writer(model: Known, header: Header) -> None:
    """Refuse a container that a model has not written.

    Raises:
        ParameterError: it is of another model.
        UnknownPriorError: it is of the same model with other exact networks.
    """
    if not model.manifest.model_hash.startswith(header.model_prefix):
        raise ParameterError(
            f"the container is of the model {header.model_prefix}, those before it are of "
            f"{model.manifest.model_hash[: len(header.model_prefix)]} ({model.reference}); send containers of one "
            "model at a time"
        )
    if not has_written(model.manifest, header):
        raise _unknown_prior([model], header, ())


def _unknown_prior(named: Sequence[Known], header: Header, elsewhere: Sequence[Known]) -> UnknownPriorError:
    """Say which version of a model is needed."""
    prefix = header.prior_prefix
    has = "; ".join(f"{model.reference} has {_has(model.manifest, header)}" for model in named)
    needed = [model.reference for model in elsewhere if has_written(model.manifest, header)]
    cure = f"serve {' or '.join(needed)}" if needed else "serve the version that has it"
    return UnknownPriorError(
        f"the container was written under the exact networks whose hash begins with {prefix}, and {has}; {cure}"
    )


def _has(manifest: Manifest, header: Header) -> str:
    profile = header.profile
    return (
        ", ".join(found[: len(header.prior_prefix or "")] for found in _canonical_hashes(manifest, profile)) or "none"
    )
