"""Priors p(codes) over grids of codes: the interface that all of them have, in parallel and step by step."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

Conditions = Mapping[str, Int[Tensor, " B"]]
"""What is known of each example, by name: a class, or the number of classes for none. A name left out is none."""
Memory = dict[str, Tensor]
"""What earlier steps left for a step, states and caches by name, batch first."""


@dataclass(frozen=True)
class CodeGrid:
    """A grid of codes that has a prior.

    Attributes:
        num_embeddings: K.
        shape: places: height and width, or the length; of a grid of any size that of a draw.
    """

    num_embeddings: int
    shape: tuple[int, ...]


@dataclass(frozen=True)
class MemoryShapes:
    """Shapes of what steps keep, by name and without the batch.

    Attributes:
        states: replaced as a whole by every step.
        caches: `[R, ...]`; a step gives one entry `[...]`, which whoever calls it writes at `position % R` after it.
    """

    states: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    caches: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class RowStep(NamedTuple):
    """What a step of a row gives: V numbers for each of its places, and the next states by name."""

    context: Float[Tensor, "B w V"]
    states: Memory


class PlaceStep(NamedTuple):
    """What a step of a place gives: the logits of its code, the next states and the entries of caches by name."""

    logits: Float[Tensor, "B K"]
    states: Memory
    entries: Memory


class Features(nn.Module, ABC):
    """What turns earlier grids of codes into features of each place of a later one.

    Attributes:
        channels: G, features of a place.
    """

    channels: int

    @abstractmethod
    def forward(self, *earlier: Int[Tensor, "B *grid"]) -> Float[Tensor, "B *places G"]:
        """Give the features."""


class CodePrior(nn.Module, ABC):
    """p(codes given earlier grids and conditions) over a grid of integers 0 .. K - 1: one link of a chain of priors.

    Args:
        num_embeddings: K.
        conditions: names of what it can be conditioned on, with the number of classes of each.
        earlier: what turns the grids before this one into features of its places; None where it depends on none.
    """

    order: ClassVar[Literal["raster", "sequence"]]
    """Row by row and each row from left to right in two kinds of steps, or place by place in one."""
    any_size: bool = False
    """Whether grids of every size have a probability; else those of one size alone."""

    def __init__(
        self, num_embeddings: int, conditions: Mapping[str, int] | None = None, earlier: Features | None = None
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.conditions = dict(conditions or {})
        self.earlier = earlier

    @abstractmethod
    def forward(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K *grid"]:
        """Give the logits of every place at once, each from the codes before its place alone.

        Args:
            codes: 0 .. K - 1.
            given: as the method of this name makes it; None for a prior that depends on no earlier grids.
            conditions: what is known of each example; None for nothing.

        Returns:
            Logits.
        """

    def given(self, earlier: Sequence[Int[Tensor, "B *grid"]]) -> Float[Tensor, "B *grid G"] | None:
        """Give what the grids before this one say of each of its places; None where it depends on none."""
        if self.earlier is None:
            return None
        features: Tensor = self.earlier(*earlier)
        return features

    def log_prob(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float64[Tensor, " B"]:
        """Give log p(codes) in nats, summed over the grid.

        Args:
            codes: 0 .. K - 1.
            given: as in `forward`.
            conditions: likewise.

        Returns:
            Nats, float64.
        """
        logits = self(codes, given, conditions).float()
        return -functional.cross_entropy(logits, codes.long(), reduction="none").double().flatten(1).sum(1)

    @property
    def dtype(self) -> torch.dtype:
        """The type that it computes in."""
        return next(self.parameters()).dtype

    @property
    def condition_rows(self) -> int:
        """Rows of a table of embeddings that has one for each class of each condition, and for none of it."""
        return sum(classes + 1 for classes in self.conditions.values())

    def rows(self, conditions: Conditions | None, like: Tensor) -> Int[Tensor, "B conditions"] | None:
        """Say which rows of such a table describe each example: one a condition; None for a prior without conditions.

        Args:
            conditions: what is known of each example.
            like: any tensor of as many rows, on the device that counts.
        """
        found, first = [], 0
        for name, classes in self.conditions.items():
            known = (conditions or {}).get(name)
            none = torch.full(like.shape[:1], classes, dtype=torch.int64, device=like.device)
            found.append((none if known is None else known) + first)
            first += classes + 1
        return torch.stack(found, dim=1) if found else None


class RasterPrior(CodePrior):
    """A prior whose steps are a row, once, and then each of its places.

    Attributes:
        context_size: V, numbers that a row tells each of its places.
    """

    order = "raster"
    context_size: int

    @abstractmethod
    def row_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Give the shapes of what rows keep for a grid of some height and width; states alone."""

    @abstractmethod
    def place_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Give the shapes of what places keep."""

    @abstractmethod
    def row(
        self,
        codes: Int[Tensor, "B w"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B w G"] | None = None,
        conditions: Conditions | None = None,
    ) -> RowStep:
        """Take a row.

        Args:
            codes: of the row above; of no matter in row 0.
            position: the row, 0 ...; in row 0 the memory is of no matter either.
            memory: see `row_memory`.
            given: of the row's places.
            conditions: as in `forward`.

        Returns:
            What its places are told, and the next states.
        """

    @abstractmethod
    def place(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        width: int,
        context: Float[Tensor, "B V"],
        memory: Memory,
    ) -> PlaceStep:
        """Take a place.

        Args:
            code: of the place to the left; of no matter in column 0.
            position: row * width + column; states are of no matter in column 0, caches from `position` on.
            width: places in a row.
            context: as `row` gives it for this place.
            memory: see `place_memory`.

        Returns:
            The logits of the place's code, the next states, and what is to be written into the caches.
        """


class SequencePrior(CodePrior):
    """A prior whose steps are the places, one after the other; a grid of rows is read row by row."""

    order = "sequence"

    @abstractmethod
    def memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Give the shapes of what steps keep for a grid of some size."""

    @abstractmethod
    def step(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B G"] | None = None,
        conditions: Conditions | None = None,
    ) -> PlaceStep:
        """Take a place.

        Args:
            code: of the place before; of no matter at position 0.
            position: 0 ...; at 0 the memory is of no matter either, and caches never from `position` on.
            memory: see the method of this name.
            given: of the place.
            conditions: as in `forward`.

        Returns:
            The logits of the place's code, the next states, and what is to be written into the caches.
        """


class UniformCodes(CodePrior):
    """All codes equally probable: -log K each."""

    any_size = True

    def forward(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K *grid"]:
        """Give the same logits everywhere."""
        del given, conditions
        return torch.zeros(codes.shape[0], self.num_embeddings, *codes.shape[1:], device=codes.device)

    def log_prob(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float64[Tensor, " B"]:
        """Give -N log K, N codes that are not absent (-1)."""
        del given, conditions
        return -(codes >= 0).flatten(1).sum(1).double() * math.log(self.num_embeddings)
