"""The host half of the prior graphs: from logits to code lengths and draws, and the order of the incremental calls."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy.typing import NDArray

from artifact.manifest import Tensor

Arrays = dict[str, NDArray[np.generic]]
Steps = Generator[tuple[str, Arrays], Arrays, Int32[np.ndarray, "B h w"]]
"""Yields the role of a graph and its inputs, is sent its outputs, and returns the codes."""

ROW: Final = "prior_row"
PIXEL: Final = "prior_pixel"
STEP_ROLES = (ROW, PIXEL)
"""The graphs that are run step by step."""

ALL_CODES = int(np.iinfo(np.int64).max)
"""As `top_k`: draw from all codes."""


@runtime_checkable
class Signature(Protocol):
    """Whatever says what a graph takes."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs."""
        ...


def surprise_nats(
    logits: Float32[np.ndarray, "B h w K"], codes: Int32[np.ndarray, "B h w"]
) -> Float64[np.ndarray, "B h w"]:
    """Give -log p of every code given those before it, from the logits of its place.

    Args:
        logits: as `prior` gives them.
        codes: 0 .. K - 1.

    Returns:
        Nats, at least 0.
    """
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(scores, codes[..., None].astype(np.int64), axis=-1)[..., 0]
    nats: NDArray[np.float64] = np.log(np.exp(scores).sum(axis=-1)) - chosen
    return nats


def draw_codes(
    logits: Float32[np.ndarray, "B K"],
    uniform: Float64[np.ndarray, " B"],
    *,
    temperature: float | Float64[np.ndarray, " B"] = 1.0,
    top_k: int | Int64[np.ndarray, " B"] | None = None,
) -> Int32[np.ndarray, " B"]:
    """Draw a code a row by the inverse of the cumulative distribution, in float64.

    p_k is proportional to exp(logit_k / temperature) over the top_k largest logits, of equal ones the first.

    Args:
        logits: as `prior_pixel` gives them.
        uniform: noise in [0, 1).
        temperature: at least 0, of all rows or of each; 0 gives the most probable code.
        top_k: at least 1, likewise; K or more, or None, for all codes.

    Returns:
        Codes; those of a row do not depend on the other rows.
    """
    scores = logits.astype(np.float64)
    divisor = np.broadcast_to(np.float64(temperature), len(scores))
    is_certain = divisor == 0.0
    with np.errstate(over="ignore"):  # what a temperature near 0 makes infinite has no weight, as is right
        weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / np.where(is_certain, 1.0, divisor)[:, None])
    if top_k is not None:
        _keep_largest(weights, scores, np.broadcast_to(np.int64(top_k), len(scores)))
    cumulative = weights.cumsum(axis=1)
    target = uniform * cumulative[:, -1]
    # The first code whose cumulative weight exceeds the target; a product that rounds up to the total takes the last
    # code that has any weight.
    drawn = np.minimum(
        (cumulative <= target[:, None]).sum(axis=1), weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
    )
    if is_certain.any():
        drawn = np.where(is_certain, scores.argmax(axis=1), drawn)
    return drawn.astype(np.int32)


def _keep_largest(
    weights: Float64[np.ndarray, "B K"], scores: Float64[np.ndarray, "B K"], top_k: Int64[np.ndarray, " B"]
) -> None:
    """Take the weight of all but the largest scores of each row away."""
    (cut,) = np.nonzero(top_k < scores.shape[1])
    if not len(cut):
        return
    scores, room = scores[cut], top_k[cut, None]
    place = scores.shape[1] - room
    least = np.take_along_axis(np.partition(scores, np.unique(place), axis=1), place, axis=1)
    larger, equal = scores > least, scores == least
    room = room - larger.sum(axis=1, keepdims=True)
    weights[cut] *= larger | equal & (equal.cumsum(axis=1) <= room)


@dataclass(frozen=True)
class Paused:
    """A grid that has left its batch where a row begins, to join one later.

    Attributes:
        codes: of the rows above; 0 below.
        row: that comes next.
        states: of `prior_row`, by name.
    """

    codes: Int32[np.ndarray, "h w"]
    row: int
    states: Arrays


class Raster:
    """Grids of codes that are drawn together: one run of `prior_row` a row, one of `prior_pixel` a place.

    Each grid has a slot of the batch. Grids may be at different rows, and all are at the same column, so that
    `prior_row` runs once for all of them: it costs as much as several places. Whoever calls runs the graphs, wherever
    they are; the order of calls, the states and the draws are here.

    Args:
        graphs: signatures by role, for the shapes of the states.
        height: rows of a grid.
        width: places in a row.
        slots: grids at a time, the batch size of every run.
        host: copies a state to where it can be written, where runs leave states elsewhere, as on a GPU.

    Attributes:
        codes: drawn so far, by slot.
        rows: that each grid is at; `height` once it is complete, 0 in a free slot.
        is_active: which slots hold a grid.
        column: that all grids are at.
    """

    def __init__(
        self,
        graphs: Mapping[str, Signature],
        height: int,
        width: int,
        slots: int,
        *,
        host: Callable[[Any], NDArray[Any]] = np.array,
    ) -> None:
        self.codes = np.zeros((slots, height, width), dtype=np.int32)
        self.rows = np.zeros(slots, dtype=np.int64)
        self.is_active = np.zeros(slots, dtype=np.bool_)
        self.column = 0
        self._uniform = np.zeros((slots, height * width))
        self._temperature = np.ones(slots)
        self._top_k = np.full(slots, ALL_CODES)
        takes_condition = any(tensor.name == "condition" for tensor in graphs[ROW].inputs)
        self._condition: Arrays = {"condition": np.zeros(slots, dtype=np.int64)} if takes_condition else {}
        self._states: dict[str, dict[str, Any]] = {role: _zero_states(graphs[role], slots) for role in STEP_ROLES}
        self._host = host
        self._context: NDArray[np.generic] | None = None

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """The outputs of each graph that nobody reads but its next run."""
        return {role: tuple(f"next_{name}" for name in states) for role, states in self._states.items()}

    @property
    def is_between_rows(self) -> bool:
        """Whether grids may join: none is within a row."""
        return self._context is None

    def join(
        self,
        slot: int,
        uniform: Float64[np.ndarray, " places"],
        condition: int = 0,
        *,
        temperature: float = 1.0,
        top_k: int = ALL_CODES,
        paused: Paused | None = None,
    ) -> None:
        """Put a grid into a free slot, between two rows.

        Args:
            slot: which.
            uniform: noise in [0, 1), of each place in raster order.
            condition: class; ignored by a prior that takes none.
            temperature: see `draw_codes`.
            top_k: likewise.
            paused: where it goes on; None for its beginning.
        """
        self.is_active[slot] = True
        self._uniform[slot], self._temperature[slot], self._top_k[slot] = uniform, temperature, top_k
        for array in self._condition.values():
            array[slot] = condition
        self.codes[slot], self.rows[slot] = (0, 0) if paused is None else (paused.codes, paused.row)
        for role in STEP_ROLES:
            for name, array in self._hosted(role).items():
                # A place's state holds nothing where a row begins.
                array[slot] = 0 if paused is None or role == PIXEL else paused.states[name]

    def pause(self, slot: int) -> Paused:
        """Take a grid out of its slot between two rows, to join again later."""
        states = {name: array[slot].copy() for name, array in self._hosted(ROW).items()}
        paused = Paused(self.codes[slot].copy(), int(self.rows[slot]), states)
        self.leave(slot)
        return paused

    def leave(self, slot: int) -> None:
        """Free a slot, at any time."""
        self.is_active[slot] = False
        self.rows[slot] = 0
        if not self.is_active.any():
            self.column, self._context = 0, None

    def call(self) -> tuple[str, dict[str, Any]]:
        """Give the role of the graph to be run next, and its inputs, `[slots, ...]`; free slots hold anything."""
        slots = np.arange(len(self.rows))
        if self._context is None:
            # In row 0 the graph ignores the codes above, as it ignores the code to the left in column 0.
            above = self.codes[slots, self.rows - 1]
            return ROW, {"codes": above, "position": self.rows, **self._condition, **self._states[ROW]}
        left = self.codes[slots, self.rows, self.column - 1]
        context = self._context[:, self.column]
        return PIXEL, {"code": left, "position": self._places(), "context": context, **self._states[PIXEL]}

    def proceed(self, outputs: Mapping[str, Any]) -> None:
        """Take the outputs of the graph that `call` asked for; after those of a place, draw its codes."""
        if self._context is None:
            self._states[ROW], self._context = _next_states(outputs), outputs["context"]
            return
        self._states[PIXEL] = _next_states(outputs)
        (slots,) = np.nonzero(self.is_active)
        self.codes[slots, self.rows[slots], self.column] = draw_codes(
            outputs["logits"][slots],
            self._uniform[slots, self._places()[slots]],
            temperature=self._temperature[slots],
            top_k=self._top_k[slots],
        )
        self.column += 1
        if self.column == self.codes.shape[2]:
            self.column, self._context = 0, None
            self.rows += self.is_active

    def _hosted(self, role: str) -> Arrays:
        """Give the states of a graph where they can be written."""
        states = self._states[role]
        for name, state in states.items():
            if not isinstance(state, np.ndarray):
                states[name] = self._host(state)
        return states

    def _places(self) -> Int64[np.ndarray, " slots"]:
        """Number the places that the grids are at, in raster order."""
        return self.rows * self.codes.shape[2] + self.column


def sample_raster(
    graphs: Mapping[str, Signature],
    height: int,
    width: int,
    uniform: Float64[np.ndarray, "B places"],
    condition: Int64[np.ndarray, " B"] | None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Steps:
    """Draw grids of codes side by side from their beginning to their end; see `Raster`.

    Args:
        graphs: signatures by role, for the shapes of the states.
        height: rows of the grid.
        width: places in a row.
        uniform: noise in [0, 1), of each place in raster order.
        condition: classes; None for a prior that takes none.
        temperature: see `draw_codes`.
        top_k: likewise.

    Yields:
        The role of a graph and its inputs; expects its outputs.

    Returns:
        The codes.
    """
    raster = Raster(graphs, height, width, len(uniform))
    for slot, noise in enumerate(uniform):
        raster.join(
            slot,
            noise,
            0 if condition is None else int(condition[slot]),
            temperature=temperature,
            top_k=top_k or ALL_CODES,
        )
    while (raster.rows < height).any():
        raster.proceed((yield raster.call()))
    return raster.codes


def complete(steps: Steps, run: Callable[[str, Arrays], Arrays]) -> Int32[np.ndarray, "B h w"]:
    """Run steps to their end.

    Args:
        steps: see `sample_raster`.
        run: from the role of a graph and its inputs to its outputs.

    Returns:
        The codes.
    """
    role, feeds = next(steps)
    while True:
        answer = run(role, feeds)
        try:
            role, feeds = steps.send(answer)
        except StopIteration as end:
            codes: Int32[np.ndarray, "B h w"] = end.value
            return codes


def _zero_states(graph: Signature, batch: int) -> Arrays:
    """Give the states with which a graph starts."""
    return {
        tensor.name: np.zeros([batch if axis == "B" else int(axis) for axis in tensor.shape], dtype=tensor.dtype)
        for tensor in graph.inputs
        if tensor.name.startswith("state_")
    }


def _next_states(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Read a graph's next states as its states."""
    return {name.removeprefix("next_"): value for name, value in outputs.items() if name.startswith("next_state_")}
