"""The engine: the served models behind one batcher."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Int32

from artifact.drawing import Drawing
from artifact.errors import ArtifactError
from artifact.line import Line
from artifact.manifest import CodePrior
from artifact.sampling import DECODE_STEP, open_drawing
from service.engine.abilities import Ability
from service.engine.batcher import Batcher, Key, Limits
from service.engine.catalog import Catalog, Modality
from service.engine.devices import DeviceReport
from service.engine.errand import Errand, Turns
from service.engine.lanes import Caller
from service.engine.lifecycle import Lifecycle
from service.engine.opening import ServedModel
from service.engine.queues import Kernel, Load
from service.engine.runtime import Session
from service.engine.sampler import Sampler
from service.engine.sizes import example_values, row_bytes, row_values, slots
from service.engine.staging import Staging
from service.engine.work import Arrays, Waiting
from service.errors import ServiceError, UnavailableError
from service.settings import Settings

T = TypeVar("T")

State = Literal["loading", "ready", "draining", "failed"]

_Grid = int | tuple[int, tuple[int, ...]]
"""A link of a prior; with the grid to be drawn where it is not the link's own."""
_OF_DECODER = -1
"""In place of a link: the decoder, whose grids are samples of sounds."""
_OTHER_GRIDS = 8
"""So many batches of other grids are kept for a model."""

_LARGE_VALUES = 2**20
"""Runs whose largest tensor has so many values, such as a picture of 600 x 600, give their memory back."""


class Engine:
    """Everything between an operation and a graph.

    Args:
        settings: the store, the models, the device and the limits.

    Attributes:
        catalog: which models are served.
        lifecycle: changes which.
        loads: what the runs of each graph have come to, by model and role, since the start.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalog = Catalog()
        self.loads: defaultdict[tuple[str, str], Load] = defaultdict(Load)
        self._samplers: WeakKeyDictionary[ServedModel, dict[_Grid, Sampler]] = WeakKeyDictionary()
        self._phase: State = "loading"
        self._start_failure: str | None = None
        self.batcher = Batcher(
            self._kernel,
            limits=Limits(settings.max_queue_rows, settings.max_queue_bytes),
            runners=settings.runners,
        )
        self.lifecycle = Lifecycle(settings, self.catalog, self.batcher.forget)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open and verify the artifacts, build their sessions and warm them.

        Raises:
            ArtifactError: the store is empty or an artifact is bad.
            DeviceError: the device demanded does not work.
        """
        try:
            await self.lifecycle.start()
        except (ServiceError, ArtifactError) as error:
            self._phase, self._start_failure = "failed", str(error)
            raise
        self.batcher.start()
        self._phase = "ready"
        if self.settings.watch_s:
            self._watching = asyncio.create_task(self.lifecycle.watch(self.settings.watch_s))

    def drain(self) -> None:
        """Tell that the end is near: `state` says so from now on, and what comes is still answered."""
        if self._phase == "ready":
            self._phase = "draining"

    async def stop(self) -> None:
        """Finish the runs in progress, refuse the waiting ones."""
        self.drain()
        if self._watching is not None:
            self._watching.cancel()
        await self.lifecycle.stop()
        await self.batcher.stop()

    @property
    def state(self) -> State:
        """What the engine is about; a runner that has died shows at once, until another has taken its place."""
        return "failed" if self._phase == "ready" and self.batcher.fault else self._phase

    @property
    def failure(self) -> str | None:
        """Why the engine is failed; None while it is not."""
        return self.batcher.fault if self._phase == "ready" else self._start_failure

    def check_ready(self) -> None:
        """Refuse to go on before the models are loaded, or where that has failed.

        Raises:
            UnavailableError: the engine is not ready.
        """
        if self._phase not in ("ready", "draining"):
            reason = self.failure or "GET /readyz tells when it is ready"
            raise UnavailableError(f"the service is {self.state}: {reason}")

    @property
    def device(self) -> DeviceReport:
        """What the graphs run on."""
        return self.lifecycle.device

    @property
    def queue_rows(self) -> int:
        """Rows that wait for their run."""
        return self.batcher.queue_rows

    def models(self) -> list[ServedModel]:
        """List the served models; the first one that can answer is the default of an endpoint."""
        return self.catalog.models()

    def named(self, reference: str) -> list[ServedModel]:
        """Find the served versions of a model; see `Catalog.named`."""
        return self.catalog.named(reference)

    def model(self, reference: str | None, ability: Ability, modality: Modality | None = None) -> ServedModel:
        """Find the model for a request; see `Catalog.model`."""
        return self.catalog.model(reference, ability, modality)

    def takes(self, modality: Modality) -> bool:
        """Tell whether any model of a modality is served."""
        return any(model.manifest.geometry.modality == modality for model in self.catalog.models())

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
            OverloadedError: too much waits.
            DeadlineError: the caller's deadline passed while the rows waited.
        """
        self.check_ready()
        return await self.batcher.submit(Key.of(model, graph, rows), rows, admit=admit)

    def post(self, model: ServedModel, graph: str, rows: Arrays, caller: Caller, answer: Waiting) -> None:
        """Run a graph on rows as `run` does, for somebody who does not await it; see `Batcher.post`.

        Args:
            model: which.
            graph: the role of its graph.
            rows: every input by name, `[B, ...]`.
            caller: for whom.
            answer: told what has become of them.

        Raises:
            UnavailableError: the engine is not ready.
            OverloadedError: too much waits.
        """
        self.check_ready()
        self.batcher.post(Key.of(model, graph, rows), rows, caller, answer)

    async def draw(
        self,
        model: ServedModel,
        rows: Arrays,
        *,
        link: int = 0,
        grid: tuple[int, ...] | None = None,
        admit: int | None = None,
    ) -> Int32[np.ndarray, "n *grid"]:
        """Draw grids of codes from a learned prior, step by step together with those of other requests.

        Args:
            model: which.
            rows: see `Draw`.
            link: of the prior's chain.
            grid: to be drawn from a link of any size; None for the link's own.
            admit: see `run`.

        Returns:
            The codes.

        Raises:
            UnavailableError: the engine is not ready.
            OverloadedError: too much waits.
            DeadlineError: the caller's deadline passed before they were complete.
        """
        self.check_ready()
        sampler = self._sampler(model, link, grid or model.prior.links[link].grid)
        return await sampler.draw(rows, admit=admit)

    async def draw_sound(
        self, model: ServedModel, rows: Arrays, *, admit: int | None = None
    ) -> Int32[np.ndarray, "n T"]:
        """Draw sounds sample by sample, together with those of the same length of other requests.

        Args:
            model: whose decoder is autoregressive.
            rows: see `Draw`; as many samples as the noise has numbers.
            admit: see `run`.

        Returns:
            Classes of the mu-law scale.

        Raises:
            ServiceError: see `draw`.
        """
        self.check_ready()
        grid = rows["uniform"].shape[1:]

        def make() -> Sampler:
            size = slots(model.manifest, self.settings)
            return self._over(model, Line(DECODE_STEP, model.manifest.graphs, grid, size, host=Session.host))

        return await self._kept(model, (_OF_DECODER, grid), make).draw(rows, admit=admit)

    async def follow(
        self, model: ServedModel, steps: Turns[T], *, rows: int = 1, seconds: float = 0.0, admit: int | None = None
    ) -> T:
        """Run graphs one after the other, as steps ask for them, between the turns of other requests.

        Args:
            model: which.
            steps: such as `artifact.coding.read_codes`; they go on in a runner's thread. See `Turns`.
            rows: of each run.
            seconds: that they may take, for the queue.
            admit: see `run`.

        Returns:
            What the steps are for.

        Raises:
            UnavailableError: the engine is not ready.
            OverloadedError: too much waits.
            DeadlineError: the caller's deadline passed before the end.
        """
        self.check_ready()
        sessions = model.sessions
        loads = {role: self.loads[model.reference, role] for role in sessions}
        errand = Errand(
            self.batcher, steps, lambda role, feeds: sessions[role].run(feeds), loads, rows=rows, seconds=seconds
        )
        return await errand.follow(admit=admit)

    def _sampler(self, model: ServedModel, link: int, grid: tuple[int, ...]) -> Sampler:
        """Find the sampler of a link, or make it and those of the links after it."""
        key = link if grid == model.prior.links[link].grid else (link, grid)
        return self._kept(model, key, lambda: self._make_sampler(model, link, grid))

    def _kept(self, model: ServedModel, key: _Grid, make: Callable[[], Sampler]) -> Sampler:
        """Find a sampler, or make it."""
        samplers = self._samplers.setdefault(model, {})
        if (sampler := samplers.pop(key, None)) is None:
            sampler = make()
        samplers[key] = sampler
        others = [other for other in samplers if isinstance(other, tuple)]
        if len(others) > _OTHER_GRIDS:
            # The one that was asked for least lately; whoever still draws with it has it until then.
            del samplers[others[0]]
        return sampler

    def _make_sampler(self, model: ServedModel, link: int, grid: tuple[int, ...]) -> Sampler:
        """Make the sampler of a link."""
        manifest, prior = model.manifest, model.prior
        size = slots(manifest, self.settings)
        drawing = open_drawing(manifest.graphs, prior.links[link], link, size, host=Session.host, grid=grid)
        is_last = link + 1 == len(prior.links)
        return self._over(
            model, drawing, None if is_last else self._sampler(model, link + 1, _next_grid(prior, link, grid))
        )

    def _over(self, model: ServedModel, drawing: Drawing, later: Sampler | None = None) -> Sampler:
        """Make the sampler of a batch: it holds the graphs and not the model, and so ends with it."""
        sessions, kept = model.sessions, drawing.kept
        return Sampler(
            self.batcher,
            drawing,
            lambda role, feeds: sessions[role].run(feeds, keep=kept[role]),
            {role: self.loads[model.reference, role] for role in drawing.runs},
            {role: model.plans[role].seconds[model.plans[role].largest] for role in drawing.runs},
            later,
        )

    def _kernel(self, key: Key[ServedModel]) -> Kernel:
        """Give a graph with the batch sizes that rows of this shape are run at."""
        model, role = key.model, key.operation
        session, manifest = model.sessions[role], model.manifest
        values = row_values(manifest, key)
        plan = model.plans[role].capped(self.settings.max_run_values // values)

        def run(feeds: Arrays) -> Arrays:
            rows = len(next(iter(feeds.values())))
            return session.run(feeds, give_back=rows * values >= _LARGE_VALUES)

        return Kernel(
            run,
            plan.scaled(values / example_values(manifest, role)),
            Staging(session.empty, always=session.provider != "cpu"),
            row_bytes(manifest, key),
            self.loads[model.reference, role],
        )


def _next_grid(prior: CodePrior, link: int, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Give the grid of the next link beside one that may be of another size than the link's own."""
    own, following = prior.links[link].grid, prior.links[link + 1].grid
    return tuple(side * after // before for side, after, before in zip(grid, following, own, strict=True))
