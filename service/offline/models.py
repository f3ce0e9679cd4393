"""Which model of a store a file is for, by manifests alone; and an engine that has just the models that are needed."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from artifact.manifest import ImageGeometry, Manifest
from service import coding_models
from service.coding_models import Shelved
from service.engine.catalog import Modality
from service.engine.engine import Engine
from service.engine.lanes import Caller, Lane, as_caller
from service.errors import UnknownModelError
from service.offline.errors import UsageError
from service.settings import Settings


def shelved(store: Path) -> list[Shelved]:
    """List the models of a store.

    Raises:
        UsageError: there is none.
    """
    models = coding_models.shelved(store)
    if not models:
        raise UsageError(f"{store} holds no models that can be read; name a folder of artifacts with --store")
    return models


def named(models: Sequence[Shelved], reference: str) -> Shelved:
    """Find a model by `name`, for its latest version, or `name@version`.

    Raises:
        UnknownModelError: there is none.
    """
    for model in models:
        if reference in (model.reference, model.manifest.name):
            return model
    raise UnknownModelError(
        f"there is no model {reference!r}; there are: {', '.join(each.reference for each in models)}"
    )


def by_default(models: Sequence[Shelved], modality: Modality, can: Callable[[Manifest], bool], task: str) -> Shelved:
    """Choose the model for a kind of media as the service does: one for any size first, then by name.

    Args:
        models: as `shelved` gives them.
        modality: of the media.
        can: whether a model does what is wanted.
        task: what that is, for the message.

    Raises:
        UsageError: no model does.
    """
    latest = {model.manifest.name: model for model in reversed(models)}
    able = [model for model in latest.values() if model.manifest.geometry.modality == modality and can(model.manifest)]
    if not able:
        kind = "pictures" if modality == "image" else "sounds"
        raise UsageError(f"no model of the store {task} {kind}; name another store with --store")
    return min(able, key=lambda model: (_takes_one_size(model.manifest), model.manifest.name))


def _takes_one_size(manifest: Manifest) -> bool:
    return isinstance(manifest.geometry, ImageGeometry) and manifest.geometry.height is not None


@asynccontextmanager
async def running(settings: Settings, references: Collection[str]) -> AsyncIterator[Engine]:
    """Run an engine with some models, for one caller who waits as long as it takes.

    Args:
        settings: the store, the device and the limits.
        references: `name@version` of the models; at least one.

    Yields:
        The engine, ready.

    Raises:
        ArtifactError: an artifact is damaged.
        ServiceError: the device does not work, or a model cannot be loaded.
    """
    # Nothing waits here but one file after the other: batch sizes need not be measured.
    small = {"models": tuple(references), "buckets": settings.buckets or (1,), "slots": 2}
    engine = Engine(settings.model_copy(update=small))
    try:
        await engine.start()
        with as_caller(Caller(Lane.INTERACTIVE)):
            yield engine
    finally:
        await engine.stop()
