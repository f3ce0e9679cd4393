"""Drawing from the links of a prior over codes: which graphs take the steps, and whole draws from them."""

from collections.abc import Callable, Generator, Mapping

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from artifact.code_prior import CodePrior, Link, link_role
from artifact.codes import Arrays, Signature
from artifact.drawing import Drawing
from artifact.line import Line
from artifact.manifest import Manifest
from artifact.memory import Host
from artifact.raster import Raster

DECODE_STEP = "decode_step"
"""Role of the graph that draws one sample of a sound."""

Steps = Generator[tuple[str, Arrays], Arrays, Int32[np.ndarray, "n *grid"]]
"""Yields the role of a graph and its inputs, is sent its outputs, and returns the codes."""


def step_roles(link: Link, index: int) -> tuple[str, ...]:
    """Name the graphs that draw the codes of a link step by step.

    Args:
        link: of a prior.
        index: its place in the chain.

    Returns:
        Roles.
    """
    steps = ("row", "pixel") if link.order == "raster" else ("step",)
    return tuple(f"{link_role(index)}_{step}" for step in steps)


def all_step_roles(prior: CodePrior | None) -> tuple[str, ...]:
    """Name the graphs that are run step by step, of all links of a prior; none where there is no prior."""
    links = prior.links if prior is not None else ()
    return tuple(role for index, link in enumerate(links) for role in step_roles(link, index))


def all_steps(manifest: Manifest) -> tuple[str, ...]:
    """Name all graphs of a model that are run step by step: of its prior, and of a decoder that draws samples."""
    of_decoder = (DECODE_STEP,) if manifest.decoder == "autoregressive" else ()
    return (*all_step_roles(manifest.prior), *of_decoder)


def open_drawing(
    graphs: Mapping[str, Signature],
    link: Link,
    index: int,
    slots: int,
    *,
    host: Host = np.array,
    grid: tuple[int, ...] | None = None,
) -> Drawing:
    """Make the batch in which the grids of a link are drawn.

    Args:
        graphs: signatures by role.
        link: of a prior.
        index: its place in the chain.
        slots: grids at a time.
        host: see `Drawing`.
        grid: of a draw, for a link of any size; None for the link's own.

    Returns:
        The batch, empty.
    """
    roles = step_roles(link, index)
    if link.order == "raster":
        row, pixel = roles
        height, width = grid or link.grid
        made_height, made_width = link.grid
        return Raster(row, pixel, graphs, (height, width), slots, host=host, made_for=(made_height, made_width))
    (step,) = roles
    return Line(step, graphs, link.grid, slots, host=host)


def sample(
    graphs: Mapping[str, Signature], link: Link, rows: Mapping[str, NDArray[np.generic]], *, index: int = 0
) -> Steps:
    """Draw grids of codes side by side from their beginning to their end.

    Args:
        graphs: signatures by role.
        link: of a prior.
        rows: what is asked for each grid, `[n, ...]` by name; see `Drawing.join`.
        index: of the link.

    Yields:
        The role of a graph and its inputs; expects its outputs.

    Returns:
        The codes.
    """
    drawing = open_drawing(graphs, link, index, len(rows["uniform"]))
    for slot in range(len(rows["uniform"])):
        drawing.join(slot, {name: array[slot] for name, array in rows.items()})
    while (drawing.drawn < drawing.places).any():
        drawing.proceed((yield drawing.call()))
    return drawing.codes


def complete(steps: Steps, run: Callable[[str, Arrays], Arrays]) -> Int32[np.ndarray, "n *grid"]:
    """Run steps to their end.

    Args:
        steps: see `sample`.
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
            codes: Int32[np.ndarray, "n ..."] = end.value
            return codes
