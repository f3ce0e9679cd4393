"""The graphs of a prior over codes, link by link: of all places at once, and step by step (see `artifact.sampling`)."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int, Int32, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from artifact import manifest as schema
from artifact.golden import Run
from artifact.noise import batch_uniform, codes_stream
from artifact.sampling import complete, sample
from models.chain import Chain, LinkGrid
from models.code_priors import CodePrior, Conditions, Memory, MemoryShapes, RasterPrior, SequencePrior
from training.graphs.spec import GraphSpec, run_modules

Grid = Int32[np.ndarray, "B *grid"]

_CONTEXT_UNIT = "hidden"


class _LinkGraph(nn.Module):
    """A graph of a link; what it takes besides its own inputs stands last: features of earlier grids, conditions."""

    def __init__(self, prior: CodePrior) -> None:
        super().__init__()
        self.prior = prior

    def besides(self, inputs: Sequence[Tensor]) -> tuple[Tensor | None, Conditions]:
        """Read those last inputs, as the prior computes."""
        given = None if self.prior.earlier is None else inputs[0].to(self.prior.dtype)
        names = self.prior.conditions
        return given, dict(zip(names, inputs[len(inputs) - len(names) :], strict=True))

    def memory(self, names: Sequence[str], inputs: Sequence[Tensor]) -> Memory:
        """Read memory, as the prior computes."""
        return {name: value.to(self.prior.dtype) for name, value in zip(names, inputs, strict=True)}


class Prior(_LinkGraph):
    """`codes, given, conditions -> logits` of every place."""

    def forward(self, codes: Int[Tensor, "B *grid"], *besides: Tensor) -> Tensor:
        """Give the logits, codes last."""
        logits: Tensor = self.prior(codes, *self.besides(besides))
        return logits.movedim(1, -1).float()


class Given(_LinkGraph):
    """`codes of the earlier links -> given`, features of every place."""

    def forward(self, *earlier: Int[Tensor, "B *grid"]) -> Tensor:
        """Give the features."""
        given = self.prior.given(earlier)
        if given is None:
            raise TypeError("a prior that depends on no earlier grids has no features of them")
        return given.float()


class PriorRow(_LinkGraph):
    """`codes of the row above, row, states, given, conditions -> context of the row, next states`."""

    prior: RasterPrior

    def __init__(self, prior: RasterPrior, states: Sequence[str]) -> None:
        super().__init__(prior)
        self.states = tuple(states)

    def forward(self, codes: Int[Tensor, "B w"], position: Int[Tensor, " B"], *rest: Tensor) -> tuple[Tensor, ...]:
        """Take a row."""
        count = len(self.states)
        step = self.prior.row(codes, position, self.memory(self.states, rest[:count]), *self.besides(rest[count:]))
        return step.context.float(), *(step.states[name].float() for name in self.states)


class PriorPlace(_LinkGraph):
    """`code to the left, place, context, states, caches -> logits, next states, entries`."""

    prior: RasterPrior

    def __init__(self, prior: RasterPrior, width: int, shapes: MemoryShapes) -> None:
        super().__init__(prior)
        self.width, self.states, self.caches = width, tuple(shapes.states), tuple(shapes.caches)

    def forward(
        self, code: Int[Tensor, " B"], position: Int[Tensor, " B"], context: Tensor, *memory: Tensor
    ) -> tuple[Tensor, ...]:
        """Take a place."""
        found = self.memory(self.states + self.caches, memory)
        logits, states, entries = self.prior.place(code, position, self.width, context.to(self.prior.dtype), found)
        kept = [states[name] for name in self.states] + [entries[name] for name in self.caches]
        return logits.float(), *(value.float() for value in kept)


class PriorStep(_LinkGraph):
    """`code before, place, states, caches, given, conditions -> logits, next states, entries`."""

    prior: SequencePrior

    def __init__(self, prior: SequencePrior, shapes: MemoryShapes) -> None:
        super().__init__(prior)
        self.states, self.caches = tuple(shapes.states), tuple(shapes.caches)

    def forward(self, code: Int[Tensor, " B"], position: Int[Tensor, " B"], *rest: Tensor) -> tuple[Tensor, ...]:
        """Take a place."""
        names = self.states + self.caches
        found = self.memory(names, rest[: len(names)])
        logits, states, entries = self.prior.step(code, position, found, *self.besides(rest[len(names) :]))
        kept = [states[name] for name in self.states] + [entries[name] for name in self.caches]
        return logits.float(), *(value.float() for value in kept)


def links(chain: Chain, *, any_size: bool) -> tuple[schema.Link, ...]:
    """Describe the links of a prior.

    Args:
        chain: the prior.
        any_size: whether the model takes data of any size.
    """
    return tuple(_link(prior, grid, any_size) for prior, grid in zip(chain, chain.grids, strict=True))


def _link(prior: CodePrior, grid: LinkGrid, any_size: bool) -> schema.Link:
    return schema.Link(
        level=grid.level,
        codebook=grid.codebook,
        order=prior.order,
        grid=grid.shape,
        any_size=any_size and prior.any_size,
    )


def graphs(
    chain: Chain, strides: tuple[int, ...], *, any_size: bool, prefix: str = schema.PRIOR
) -> tuple[GraphSpec, ...]:
    """List the graphs of a prior.

    Args:
        chain: in evaluation mode.
        strides: of the model's bottleneck.
        any_size: whether the model takes data of any size, so that links that can do so should as well.
        prefix: how their roles begin.

    Returns:
        Those of every link.
    """
    return tuple(
        spec
        for index, prior in enumerate(chain)
        for spec in link_graphs(prior, chain.grids[: index + 1], strides, any_size=any_size, prefix=prefix)
    )


def link_graphs(
    prior: CodePrior,
    grids: Sequence[LinkGrid],
    strides: tuple[int, ...],
    *,
    any_size: bool,
    prefix: str = schema.PRIOR,
) -> tuple[GraphSpec, ...]:
    """List the graphs of one link.

    Args:
        prior: the link.
        grids: its own, last, and those before it.
        strides: as in `graphs`.
        any_size: likewise.
        prefix: likewise.

    Returns:
        Its graphs.
    """
    signature = _Signature(prior, _link(prior, grids[-1], any_size), grids, strides)
    return tuple(signature.all(schema.link_role(len(grids) - 1, prefix)))


class _Signature:
    """What the graphs of one link take and give.

    Args:
        prior: the link.
        link: what the manifest says of it.
        grids: its own, last, and those before it.
        strides: of the model's bottleneck.
    """

    def __init__(
        self, prior: CodePrior, link: schema.Link, grids: Sequence[LinkGrid], strides: tuple[int, ...]
    ) -> None:
        self.prior, self.link, self.grids, self.strides = prior, link, grids, strides
        axes = "hw" if len(link.grid) == 2 else "t"
        self.grid: tuple[int | str, ...] = tuple(axes) if link.any_size else link.grid
        self.features = 0 if prior.earlier is None else prior.earlier.channels
        self.conditions = tuple(
            schema.Tensor(
                name=schema.condition_input(name), dtype="int64", shape=("B",), minimum=0, maximum=classes, unit="class"
            )
            for name, classes in prior.conditions.items()
        )

    def all(self, role: str) -> Iterator[GraphSpec]:
        """List the graphs whose roles begin so."""
        K, besides = self.prior.num_embeddings, self.besides(*self.grid)
        logits = _numbers("logits", *self.grid, K, unit="logit")
        yield GraphSpec(role, Prior(self.prior), (_codes("codes", K, *self.grid), *besides), (logits,))
        if self.features:
            yield self.given(role)
        if isinstance(self.prior, RasterPrior):
            yield from self.raster(role, self.prior)
        elif isinstance(self.prior, SequencePrior):
            yield self.sequence(role, self.prior)

    def given(self, role: str) -> GraphSpec:
        """Declare the graph of the features, whose grids are of several levels."""
        shapes = [self.level_grid(grid) for grid in self.grids]
        earlier = tuple(
            _codes(f"codes_{index}", grid.num_embeddings, *shape)
            for index, (grid, shape) in enumerate(zip(self.grids[:-1], shapes[:-1], strict=True))
        )
        given = _numbers("given", *shapes[-1], self.features)
        return GraphSpec(f"{role}_given", Given(self.prior), earlier, (given,), strides=self.strides)

    def raster(self, role: str, prior: RasterPrior) -> Iterator[GraphSpec]:
        """Declare the graphs of a row and of a place."""
        K, (height, width) = prior.num_embeddings, self.link.grid
        rows, places = prior.row_memory(self.link.grid), prior.place_memory(self.link.grid)
        columns = self.grid[1]
        states = {name: (*shape[:-1], columns) for name, shape in rows.states.items()}
        yield GraphSpec(
            f"{role}_row",
            PriorRow(prior, tuple(states)),
            (_codes("codes", K, columns), _position(height), *_taken(states, {}), *self.besides(columns)),
            (_numbers("context", columns, prior.context_size), *_left(states, {})),
        )
        yield GraphSpec(
            f"{role}_pixel",
            PriorPlace(prior, width, places),
            (
                _codes("code", K),
                _position(height * width),
                _numbers("context", prior.context_size),
                *_taken(places.states, places.caches),
            ),
            (_numbers("logits", K, unit="logit"), *_left(places.states, places.caches)),
        )

    def sequence(self, role: str, prior: SequencePrior) -> GraphSpec:
        """Declare the graph of a step."""
        K, shapes = prior.num_embeddings, prior.memory(self.link.grid)
        return GraphSpec(
            f"{role}_step",
            PriorStep(prior, shapes),
            (
                _codes("code", K),
                _position(math.prod(self.link.grid)),
                *_taken(shapes.states, shapes.caches),
                *self.besides(),
            ),
            (_numbers("logits", K, unit="logit"), *_left(shapes.states, shapes.caches)),
        )

    def besides(self, *places: int | str) -> tuple[schema.Tensor, ...]:
        """Declare the inputs that stand last: features of some places, and conditions."""
        given = (_numbers("given", *places, self.features),) if self.features else ()
        return (*given, *self.conditions)

    def level_grid(self, grid: LinkGrid) -> tuple[int | str, ...]:
        """Give the axes of a link's grid beside those of other levels."""
        if not self.link.any_size:
            return grid.shape
        return tuple(f"{axis}_{grid.level}" if len(self.strides) > 1 else str(axis) for axis in self.grid)


Shapes = Mapping[str, tuple[int | str, ...]]


def _codes(name: str, num_embeddings: int, *grid: int | str) -> schema.Tensor:
    return schema.Tensor(
        name=name, dtype="int32", shape=("B", *grid), minimum=0, maximum=num_embeddings - 1, unit="code"
    )


def _numbers(name: str, *shape: int | str, unit: str = _CONTEXT_UNIT) -> schema.Tensor:
    return schema.Tensor(name=name, dtype="float32", shape=("B", *shape), unit=unit)


def _position(places: int) -> schema.Tensor:
    return schema.Tensor(name="position", dtype="int64", shape=("B",), minimum=0, maximum=places - 1, unit="place")


def _taken(states: Shapes, caches: Shapes) -> tuple[schema.Tensor, ...]:
    """Declare the memory that a step takes."""
    return (
        *(_numbers(f"state_{name}", *shape) for name, shape in states.items()),
        *(_numbers(f"cache_{name}", *shape) for name, shape in caches.items()),
    )


def _left(states: Shapes, caches: Shapes) -> tuple[schema.Tensor, ...]:
    """Declare the memory that a step leaves."""
    return (
        *(_numbers(f"next_state_{name}", *shape) for name, shape in states.items()),
        *(_numbers(f"entry_{name}", *shape[1:]) for name, shape in caches.items()),
    )


@dataclass(frozen=True)
class Asked:
    """What is asked for grids that are drawn side by side.

    Attributes:
        seed: of the noise, which is the service's: the same seed draws the same codes.
        count: of the grids; grid i has index first_index + i.
        conditions: classes by name, `[count]` each; a name left out is none.
        first_index: of the first grid.
    """

    seed: int
    count: int
    conditions: Mapping[str, Int64[np.ndarray, " B"]] = field(default_factory=dict)
    first_index: int = 0

    def rows(self, index: int, grid: LinkGrid) -> dict[str, NDArray[np.generic]]:
        """Give the rows of a link; see `artifact.drawing.Drawing.join`."""
        places, stream = math.prod(grid.shape), codes_stream(index)
        rows = {schema.condition_input(name): classes for name, classes in self.conditions.items()}
        return rows | {"uniform": batch_uniform(self.seed, self.first_index, self.count, places, stream=stream)}


def draw_link(
    prior: CodePrior, grids: Sequence[LinkGrid], earlier: Sequence[Grid], asked: Asked
) -> Int32[np.ndarray, "B *grid"]:
    """Draw codes from a link in torch, by the steps that its graphs will take.

    Args:
        prior: in evaluation mode, on the CPU.
        grids: its own, last, and those before it.
        earlier: the codes of those.
        asked: of each row.

    Returns:
        The codes.
    """
    index, link = len(grids) - 1, _link(prior, grids[-1], any_size=False)
    specs = link_graphs(prior, grids, (1,), any_size=False)
    run, roles = run_modules(specs), {spec.role: spec for spec in specs}
    rows = asked.rows(index, grids[-1]) | features(run, roles, index, earlier)
    return complete(sample(roles, link, rows, index=index), run)


def draw(chain: Chain, asked: Asked) -> list[Grid]:
    """Draw codes of all links; see `draw_link`."""
    drawn: list[Grid] = []
    for index, prior in enumerate(chain):
        drawn.append(draw_link(prior, chain.grids[: index + 1], drawn, asked))
    return drawn


def features(run: Run, roles: Collection[str], index: int, earlier: Sequence[Grid]) -> dict[str, NDArray[np.generic]]:
    """Give what earlier grids say of each place of a link, as the input `given`; nothing where it takes none.

    Args:
        run: of the graphs.
        roles: that there are.
        index: of the link.
        earlier: the codes of the links before it.
    """
    role = f"{schema.link_role(index)}_given"
    return run(role, {f"codes_{i}": codes for i, codes in enumerate(earlier)}) if role in roles else {}
