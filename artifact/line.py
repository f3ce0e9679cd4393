"""Drawing place by place: one run for the next place of all grids, wherever each of them is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from artifact.choosing import Choice
from artifact.codes import Signature
from artifact.drawing import Drawing
from artifact.memory import Host


class Line(Drawing):
    """Sequences, or grids taken as sequences in raster order: one run of `<role>_step` a place.

    Grids may be at different places, and join and pause between any two steps.

    Args:
        step: role of the graph of a place.
        graphs: signatures by role.
        grid: length, or height and width.
        slots: see `Drawing`.
        host: likewise.
        choice: likewise.
    """

    def __init__(
        self,
        step: str,
        graphs: Mapping[str, Signature],
        grid: tuple[int, ...],
        slots: int,
        *,
        host: Host = np.array,
        choice: Choice | None = None,
    ) -> None:
        super().__init__({step: graphs[step]}, grid, "t" if len(grid) == 1 else "hw", slots, host, choice)
        self._step = step

    @property
    def runs(self) -> Mapping[str, int]:
        """One a place."""
        return {self._step: self.places}

    @property
    def is_between(self) -> bool:
        """Always: a step is a whole place."""
        return True

    def call(self) -> tuple[str, dict[str, Any]]:
        """Give the role of the graph and its inputs; see `Drawing.call`."""
        # At place 0 the graph ignores the code before it.
        given = {name: array[:, 0] for name, array in self._given_next(1).items()}
        memory = self._memory[self._step].feeds
        return self._step, {"code": self._last, "position": self.drawn.copy(), **given, **self._conditions, **memory}

    def proceed(self, outputs: Mapping[str, Any]) -> None:
        """Take the outputs of a step, and draw its codes."""
        self._memory[self._step].take(outputs, self.drawn)
        self._choose(outputs["logits"])
