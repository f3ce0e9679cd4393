"""The host half of the prior graphs: from logits to code lengths and draws, and the order of the incremental calls."""

from collections.abc import Callable, Generator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy.typing import NDArray

from artifact.manifest import Tensor

Arrays = dict[str, NDArray[np.generic]]
Steps = Generator[tuple[str, Arrays], Arrays, Int32[np.ndarray, "B h w"]]
"""Yields the role of a graph and its inputs, is sent its outputs, and returns the codes."""


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
    temperature: float = 1.0,
    top_k: int | None = None,
) -> Int32[np.ndarray, " B"]:
    """Draw a code a row by the inverse of the cumulative distribution, in float64.

    p_k is proportional to exp(logit_k / temperature) over the top_k largest logits, of equal ones the first.

    Args:
        logits: as `prior_pixel` gives them.
        uniform: noise in [0, 1).
        temperature: at least 0; 0 gives the most probable code.
        top_k: 1 .. K; None for all.

    Returns:
        Codes.
    """
    scores = logits.astype(np.float64)
    if temperature == 0.0:
        return scores.argmax(axis=1).astype(np.int32)
    with np.errstate(over="ignore"):  # what a temperature near 0 makes infinite has no weight, as is right
        weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    if top_k is not None and top_k < scores.shape[1]:
        least = np.partition(scores, -top_k, axis=1)[:, -top_k, None]
        larger, equal = scores > least, scores == least
        room = top_k - larger.sum(axis=1, keepdims=True)
        weights[~(larger | equal & (equal.cumsum(axis=1) <= room))] = 0.0
    cumulative = weights.cumsum(axis=1)
    target = uniform * cumulative[:, -1]
    # The first code whose cumulative weight exceeds the target; a product that rounds up to the total takes the last
    # code that has any weight.
    drawn = np.minimum(
        (cumulative <= target[:, None]).sum(axis=1), weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)
    )
    return drawn.astype(np.int32)


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
    """Draw grids of codes row by row and place by place: one `prior_row` a row, one `prior_pixel` a place.

    Whoever iterates runs the graphs, wherever they are: the order of calls and the bookkeeping of states are here.

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
    batch = len(uniform)
    given: Arrays = {} if condition is None else {"condition": condition}  # it reaches the places through the context
    codes = np.zeros((batch, height, width), dtype=np.int32)
    row_states, pixel_states = (_zero_states(graphs[role], batch) for role in ("prior_row", "prior_pixel"))
    for row in range(height):
        above = codes[:, row - 1]  # in row 0 the graph ignores it
        answer = yield "prior_row", {"codes": above, "position": np.full(batch, row), **given, **row_states}
        row_states = _next_states(answer)
        context = answer["context"]
        for column in range(width):
            place = row * width + column
            left = codes[:, row, column - 1]  # likewise in column 0
            feeds = {"code": left, "position": np.full(batch, place), "context": context[:, column]}
            answer = yield "prior_pixel", {**feeds, **pixel_states}
            pixel_states = _next_states(answer)
            codes[:, row, column] = draw_codes(
                answer["logits"], uniform[:, place], temperature=temperature, top_k=top_k
            )
    return codes


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


def _next_states(outputs: Arrays) -> Arrays:
    """Read a graph's next states as its states."""
    return {name.removeprefix("next_"): value for name, value in outputs.items() if name.startswith("next_state_")}
