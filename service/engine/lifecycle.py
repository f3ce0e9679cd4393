"""Models come, change and go while others answer."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from artifact import errors as artifact_errors
from artifact.manifest import ImageGeometry
from service.engine.catalog import Catalog
from service.engine.devices import DeviceReport
from service.engine.loading import Loader, Opened, name_of
from service.engine.opening import ServedModel
from service.engine.wishes import Wishes
from service.errors import LoadError, ServiceError, UnknownModelError
from service.settings import Settings

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

_Seen = tuple[str, int, int, int]
"""Path, time of change, inode and size of a file."""


@dataclass(frozen=True)
class Changes:
    """What a change came to.

    Attributes:
        loaded: references of models that are served from now on.
        unloaded: of those that are not any more; one that was replaced under its own reference is in both.
        failed: why a model could not be loaded, by reference; what was served in its place is served still.
    """

    loaded: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


class Lifecycle:
    """Keeps a catalog as the store and the wishes have it.

    Models are opened in a thread, and changes happen one at a time; each replaces the catalog as a whole. Whatever is
    wrong with an artifact, what is served goes on.

    Args:
        settings: the store, the models and the device.
        catalog: to be kept.
        forget: called with each model that is not served any more.

    Attributes:
        failures: how often each model could not be loaded, by name.
    """

    def __init__(self, settings: Settings, catalog: Catalog, forget: Callable[[ServedModel], None]) -> None:
        self.failures: Counter[str] = Counter()
        self._settings = settings
        self._catalog = catalog
        self._forget = forget
        self._loader = Loader(settings)
        self._wishes = Wishes.of(settings.models)
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._seen: list[_Seen] = []

    @property
    def device(self) -> DeviceReport:
        """What the graphs run on."""
        return self._loader.device

    async def start(self) -> None:
        """Serve what the settings say.

        Raises:
            ArtifactError: an artifact is bad.
            ServiceError: the store is empty, or the device demanded does not work.
        """
        async with self._lock:
            self._seen = await asyncio.to_thread(_look, self._settings.store)
            opened = await asyncio.to_thread(self._loader.open, self._wishes, {})
            for reference, failure in opened.failures.items():
                raise failure if _is_foreseen(failure) else LoadError(f"{reference} cannot be loaded: {failure!r}")
            self._serve(opened.models, {}, self._wishes)

    async def reload(self) -> Changes:
        """Compare the store with what is served, and serve what it holds now.

        Returns:
            What has changed, and what could not be loaded.

        Raises:
            LoadError: the store is empty or cannot be read.
        """

        async def change() -> Changes:
            opened = await asyncio.to_thread(self._loader.open, self._wishes, self._catalog.by_reference())
            problems = self._tell(opened)
            return replace(self._serve(opened.models, problems, self._wishes), failed=problems)

        return await self._in_turn(change)

    async def load(self, name: str, version: int | None = None) -> Changes:
        """Serve a model as the store has it now, beside the versions of it that are wished for already.

        Args:
            name: the model's.
            version: None for the latest, now and from now on.

        Returns:
            What has changed.

        Raises:
            UnknownModelError: the store has no such model or version.
            LoadError: it could not be loaded.
        """

        async def change() -> Changes:
            wishes, served = self._wishes.loading(name, version), self._catalog.by_reference()
            opened = await asyncio.to_thread(self._loader.open, wishes, served, name)
            problems = self._other_problems(name) | self._tell(opened)
            for reference, failure in opened.failures.items():
                if version is None or reference == f"{name}@{version}":
                    self._catalog.problems = problems
                    raise _as_service_error(reference, failure)
            others = {known: model for known, model in served.items() if model.manifest.name != name}
            return self._serve(others | dict(opened.models), problems, wishes)

        return await self._in_turn(change)

    async def unload(self, name: str, version: int | None = None) -> Changes:
        """Serve a model no longer, whatever the store holds, until it is loaded again.

        Args:
            name: the model's.
            version: None for all of them.

        Returns:
            What has changed.

        Raises:
            UnknownModelError: it is not served.
        """
        reference = name if version is None else f"{name}@{version}"

        async def change() -> Changes:
            going = self._catalog.named(reference)
            staying = {known: model for known, model in self._catalog.by_reference().items() if model not in going}
            return self._serve(staying, self._other_problems(reference), self._wishes.unloading(name, version))

        return await self._in_turn(change)

    async def shelf(self) -> list[str]:
        """List everything in the store, served or not, by `name@version`."""
        return await asyncio.to_thread(self._loader.references)

    async def refresh(self) -> None:
        """Reload, and tell the log alone how it went."""
        try:
            changes = await self.reload()
        except ServiceError as error:
            _LOG.error("the models stay as they are: %s", error)
        else:
            if not (changes.loaded or changes.unloaded or changes.failed):
                _LOG.info("the models are as the store has them")

    def refresh_soon(self) -> None:
        """Begin to `refresh`; on the event loop."""
        self._keep(asyncio.ensure_future(self.refresh()))

    async def watch(self, every_s: float) -> None:
        """Reload whenever the store has changed and is at rest again.

        Args:
            every_s: seconds between two looks; between them nothing may have changed before it is read.
        """
        known = before = self._seen
        while True:
            await asyncio.sleep(every_s)
            now = await asyncio.to_thread(_look, self._settings.store)
            if now != known and now == before:
                known = now
                await self.refresh()
            before = now

    async def stop(self) -> None:
        """Begin no further change; one that is being made is given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _in_turn(self, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change after those before it, to its end even where whoever asked for it has left."""

        async def alone() -> T:
            async with self._lock:
                return await change()

        task = asyncio.ensure_future(alone())
        self._keep(task)
        return await asyncio.shield(task)

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        """Hold a task until it is done, or `stop` ends it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _serve(self, models: Mapping[str, ServedModel], problems: Mapping[str, str], wishes: Wishes) -> Changes:
        """Swap what is served."""
        before = self._catalog.by_reference()
        self._wishes = wishes
        self._catalog.replace({model.reference: model for model in sorted(models.values(), key=self._place)}, problems)
        changes = Changes(
            tuple(known for known, model in models.items() if before.get(known) is not model),
            tuple(known for known, model in before.items() if models.get(known) is not model),
        )
        for reference in changes.unloaded:
            self._forget(before[reference])
        if before and (changes.loaded or changes.unloaded):
            _LOG.info(
                "now serving %s; loaded %s; unloaded %s", *map(_listed, (models, changes.loaded, changes.unloaded))
            )
        return changes

    def _place(self, model: ServedModel) -> tuple[int, bool, bool, str, int]:
        """Give the place of a model in the order of the defaults: of equal wishes those for pictures of any size first.

        Sounds have defaults of their own; where an empty request could mean either, it means pictures.
        """
        geometry, name = model.manifest.geometry, model.manifest.name
        has_order = bool(self._settings.models)
        takes_one_size = not has_order and isinstance(geometry, ImageGeometry) and geometry.height is not None
        is_sound = not has_order and geometry.modality == "audio"
        return self._wishes.rank(name, model.version), is_sound, takes_one_size, name, -model.version

    def _tell(self, opened: Opened) -> dict[str, str]:
        """Count and log what could not be opened."""
        reasons = {reference: _reason(failure) for reference, failure in opened.failures.items()}
        for reference, reason in reasons.items():
            # A name that there is no model of comes from a caller: metrics must not grow by it, nor logs be forged.
            is_known = not isinstance(opened.failures[reference], artifact_errors.UnknownModelError)
            self.failures[name_of(reference) if is_known else "unknown"] += 1
            _LOG.error("%r could not be loaded, what was served is served still: %s", reference[:80], reason)
        return reasons

    def _other_problems(self, reference: str) -> dict[str, str]:
        """Give the problems of the other models."""
        mine = self._catalog.problems_of(reference)
        return {known: text for known, text in self._catalog.problems.items() if known not in mine}


def _listed(references: Collection[str]) -> str:
    return ", ".join(references) or "none"


def _is_foreseen(failure: Exception) -> bool:
    return isinstance(failure, (artifact_errors.ArtifactError, ServiceError))


def _reason(failure: Exception) -> str:
    """Say what went wrong; an error that was not foreseen says too little by itself."""
    return str(failure) if _is_foreseen(failure) else repr(failure)


def _as_service_error(reference: str, failure: Exception) -> ServiceError:
    if isinstance(failure, artifact_errors.UnknownModelError):
        return UnknownModelError(str(failure))
    return LoadError(f"{reference} could not be loaded: {_reason(failure)}")


def _look(root: Path) -> list[_Seen]:
    """Look at the files of a store without reading any: whatever changes one changes what this gives."""
    seen = []
    for path in sorted(root.glob("[!.]*/[!.]*/*")):
        try:
            stat = path.stat()
        except OSError:
            continue  # it is just going
        seen.append((str(path), stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return seen
