"""Grids of codes drawn together, step by step: what all orders of drawing share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from artifact.choosing import TO_DRAW as TO_DRAW
from artifact.choosing import Choice, Draws
from artifact.codes import Arrays, Signature
from artifact.memory import Host, Memory

_OWN_INPUTS = {"codes", "code", "position", "context", "given"}
_OWN_PREFIXES = ("state_", "cache_")


@dataclass(frozen=True)
class Paused:
    """A grid that has left its batch, to join one later.

    Attributes:
        codes: drawn so far; 0 elsewhere.
        drawn: how many.
        memory: of each graph, by role.
    """

    codes: Int32[np.ndarray, "*grid"]
    drawn: int
    memory: Mapping[str, Arrays]


class Drawing(ABC):
    """Grids of codes that are drawn together, each in a slot of the batch.

    Whoever calls runs the graphs, wherever they are: `call` says which one and on what, `proceed` takes what it gave.
    The order of the runs and the memory between them are here. A grid leaves once it is complete.

    Args:
        graphs: signatures by role, of all graphs that are run.
        grid: places of a grid along its axes.
        axes: symbols of those axes.
        slots: grids at a time, the batch size of every run.
        host: copies a state to where it can be written, where runs leave states elsewhere, as on a GPU.
        choice: chooses the codes; None to draw them.

    Attributes:
        codes: drawn so far, by slot.
        drawn: how many, of each slot; 0 in a free slot.
        is_active: which slots hold a grid.
        places: of a grid.
    """

    def __init__(
        self,
        graphs: Mapping[str, Signature],
        grid: tuple[int, ...],
        axes: str,
        slots: int,
        host: Host,
        choice: Choice | None = None,
    ) -> None:
        self.codes = np.zeros((slots, *grid), dtype=np.int32)
        self.drawn = np.zeros(slots, dtype=np.int64)
        self.is_active = np.zeros(slots, dtype=np.bool_)
        self.places = math.prod(grid)
        self._slots, self._taken = np.arange(slots), np.arange(0)
        self._flat = self.codes.reshape(slots, self.places)
        self._firsts = self._slots * self.places
        self._last = np.zeros(slots, dtype=np.int32)
        sizes = {"B": slots} | dict(zip(axes, grid, strict=True))
        self._memory = {role: Memory(graph, sizes, host) for role, graph in graphs.items()}
        first = next(iter(graphs.values()))
        self._choice = choice or Draws(slots, self.places)
        self._conditions = no_conditions(first, slots)
        self._unconditional = {name: array[0] for name, array in no_conditions(first, 1).items()}
        features = next((tensor.shape[-1] for tensor in first.inputs if tensor.name == "given"), None)
        self._nothing = np.zeros((self.places, int(features or 0)), dtype=np.float32)
        self._given: list[Float32[np.ndarray, "places G"]] = [self._nothing] * slots
        self._takes_given = features is not None

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """The outputs of each graph that nobody reads but its next run."""
        return {role: memory.kept for role, memory in self._memory.items()}

    @property
    @abstractmethod
    def runs(self) -> Mapping[str, int]:
        """How often each graph is run for a grid, by role."""

    @property
    @abstractmethod
    def is_between(self) -> bool:
        """Whether grids may join and pause now."""

    @abstractmethod
    def call(self) -> tuple[str, dict[str, Any]]:
        """Give the role of the graph to be run next, and its inputs, `[slots, ...]`; free slots hold anything."""

    @abstractmethod
    def proceed(self, outputs: Mapping[str, Any]) -> None:
        """Take the outputs of the graph that `call` asked for, and draw the codes that they are the logits of."""

    def join(self, slot: int, row: Mapping[str, Any], paused: Paused | None = None) -> None:
        """Put a grid into a free slot, where `is_between`.

        Args:
            slot: which.
            row: what is asked for, by name: to draw, `uniform`, noise in [0, 1) of each place in the order of drawing,
                and where it is not as usual `temperature`, `top_k` and `top_p` (see `draw_codes`), and `known [*grid]`,
                the codes that are not drawn but taken, `TO_DRAW` elsewhere; `given [*grid, G]`, which is zeros as
                usual, and the prior's conditions by the names of their inputs, none as usual. Other names are of no
                matter.
            paused: where it goes on; None for its beginning.
        """
        self._seat(slot, is_active=True)
        self._choice.join(slot, row)
        for name, array in self._conditions.items():
            array[slot] = np.reshape(row.get(name, self._unconditional[name]), array.shape[1:])
        self._given[slot] = np.reshape(row["given"], self._nothing.shape) if self._is_given(row) else self._nothing
        self.codes[slot], self.drawn[slot] = (0, 0) if paused is None else (paused.codes, paused.drawn)
        self._last[slot] = self._flat[slot, self.drawn[slot] - 1]
        for role, memory in self._memory.items():
            memory.write(slot, None if paused is None else paused.memory[role])

    def pause(self, slot: int) -> Paused:
        """Take a grid out of its slot where `is_between`, to join again later."""
        memory = {role: memory.read(slot) for role, memory in self._memory.items()}
        paused = Paused(self.codes[slot].copy(), int(self.drawn[slot]), memory)
        self.leave(slot)
        return paused

    def leave(self, slot: int) -> None:
        """Free a slot, at any time."""
        self._seat(slot, is_active=False)
        self.drawn[slot] = 0
        self._given[slot] = self._nothing

    def _is_given(self, row: Mapping[str, Any]) -> bool:
        return self._takes_given and "given" in row

    def _given_next(self, places: int) -> Arrays:
        """Give the features of so many places from where each grid is, as an input; none where the graph has none."""
        if not self._takes_given:
            return {}
        ahead = zip(self._given, self.drawn, strict=True)
        return {"given": np.stack([given[place : place + places] for given, place in ahead])}

    def _choose(self, logits: Float32[np.ndarray, "slots K"]) -> None:
        """Choose the next code of every grid."""
        if len(self._taken) == len(self._slots):
            self._last = self._choice.choose(self._slots, self.drawn, logits)
            self.codes.reshape(-1)[self._firsts + self.drawn] = self._last
            self.drawn += 1
            return
        slots = self._taken
        places = self.drawn[slots]
        self._last[slots] = self._choice.choose(slots, places, logits[slots])
        self._flat[slots, places] = self._last[slots]
        self.drawn[slots] += 1

    def _seat(self, slot: int, *, is_active: bool) -> None:
        """Note whether a slot holds a grid."""
        self.is_active[slot] = is_active
        (self._taken,) = np.nonzero(self.is_active)


def no_conditions(graph: Signature, slots: int) -> Arrays:
    """Give the inputs of a graph that name classes, each with the number of the one for none."""
    return {
        tensor.name: np.full(slots, int(tensor.maximum or 0), dtype=np.int64)
        for tensor in graph.inputs
        if tensor.name not in _OWN_INPUTS and not tensor.name.startswith(_OWN_PREFIXES)
    }
