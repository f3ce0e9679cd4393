"""Drawing row by row: one run for a row of all grids, one for each of its places."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from artifact.choosing import Choice
from artifact.codes import Signature
from artifact.drawing import Drawing
from artifact.memory import Host


class Raster(Drawing):
    """Grids drawn in raster order: one run of `<role>_row` a row, one of `<role>_pixel` a place.

    Grids may be at different rows, and all are at the same column, so that the graph of a row runs once for all of
    them: it costs as much as several places. They join and pause where a row begins.

    Args:
        row: role of the graph of a row.
        pixel: role of the graph of a place.
        graphs: signatures by role.
        grid: height and width.
        slots: see `Drawing`.
        host: likewise.
        choice: likewise.
        made_for: height and width of the grid that the graphs were made for, where that is another one: graphs for any
            size ask a position only whether it is in the first row or column.
    """

    def __init__(
        self,
        row: str,
        pixel: str,
        graphs: Mapping[str, Signature],
        grid: tuple[int, int],
        slots: int,
        *,
        host: Host = np.array,
        choice: Choice | None = None,
        made_for: tuple[int, int] | None = None,
    ) -> None:
        super().__init__({row: graphs[row], pixel: graphs[pixel]}, grid, "hw", slots, host, choice)
        self._row, self._pixel = row, pixel
        self._height, self._width = grid
        self._made_for = made_for or grid
        self._column = 0
        self._context: NDArray[np.generic] | None = None
        self._positions = self._numbered()

    @property
    def runs(self) -> Mapping[str, int]:
        """One a row, one a place."""
        return {self._row: self._height, self._pixel: self.places}

    @property
    def is_between(self) -> bool:
        """Whether no grid is within a row."""
        return self._context is None

    def leave(self, slot: int) -> None:
        """Free a slot, at any time."""
        super().leave(slot)
        if not self.is_active.any():
            self._column, self._context = 0, None

    def call(self) -> tuple[str, dict[str, Any]]:
        """Give the role of the graph to be run next, and its inputs; see `Drawing.call`."""
        if self._context is None:
            rows = self.drawn // self._width
            # In row 0 the graph ignores the codes above, as it ignores the code to the left in column 0.
            above = self.codes[self._slots, rows - 1]
            memory = self._memory[self._row].feeds
            return self._row, {
                "codes": above,
                "position": np.minimum(rows, self._made_for[0] - 1),
                **self._given_next(self._width),
                **self._conditions,
                **memory,
            }
        return self._pixel, {
            "code": self._last,
            "position": self._positions[self._column],
            "context": self._context[:, self._column],
            **self._memory[self._pixel].feeds,
        }

    def _numbered(self) -> Int64[np.ndarray, "columns slots"]:
        """Number the places of the rows that the grids are at, in raster order of the grid the graphs were made for."""
        height, width = self._made_for
        first = np.minimum(self.drawn // self._width, height - 1) * width
        return first + np.minimum(np.arange(self._width), width - 1)[:, None] * self.is_active

    def proceed(self, outputs: Mapping[str, Any]) -> None:
        """Take the outputs of the graph that `call` asked for; after those of a place, draw its codes."""
        if self._context is None:
            self._memory[self._row].take(outputs, self.drawn // self._width)
            self._context, self._positions = outputs["context"], self._numbered()
            return
        self._memory[self._pixel].take(outputs, self.drawn)
        self._choose(outputs["logits"])
        self._column += 1
        if self._column == self._width:
            self._column, self._context = 0, None
