"""Drawing from the links of a prior over codes: which graphs take the steps, and whole draws from them."""

from collections.abc import Callable, Generator, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Int32
from numpy.typing import NDArray

from artifact.choosing import Choice
from artifact.code_prior import EXACT_PRIOR, PRIOR, CodePrior, Link
from artifact.code_prior import step_roles as step_roles
from artifact.codes import Arrays, Signature
from artifact.drawing import Drawing
from artifact.line import Line
from artifact.manifest import Manifest
from artifact.memory import Host
from artifact.raster import Raster

DECODE_STEP = "decode_step"
"""Role of the graph that draws one sample of a sound."""

T = TypeVar("T")

Steps = Generator[tuple[str, Arrays], Arrays, T]
"""Yields the role of a graph and its inputs, is sent its outputs, and returns what all that is for."""


def all_step_roles(prior: CodePrior | None) -> tuple[str, ...]:
    """Name the graphs that are run step by step, of all links of a prior; none where there is no prior."""
    links = prior.links if prior is not None else ()
    return tuple(role for index, link in enumerate(links) for role in step_roles(link, index))


def all_steps(manifest: Manifest) -> tuple[str, ...]:
    """Name all graphs of a model that are run step by step: of its prior, and of a decoder that draws samples."""
    of_decoder = (DECODE_STEP,) if manifest.decoder == "autoregressive" else ()
    return (*all_step_roles(manifest.prior), *of_decoder)


def all_exact_steps(manifest: Manifest) -> tuple[str, ...]:
    """Name all exact graphs that are run step by step: of a model's prior, and those of its latents."""
    links = manifest.exact_prior.links if manifest.exact_prior is not None else ()
    of_latents = manifest.exact_latents.graphs if manifest.exact_latents is not None else ()
    return (*(role for i, link in enumerate(links) for role in step_roles(link, i, EXACT_PRIOR)), *of_latents)


def open_drawing(
    graphs: Mapping[str, Signature],
    link: Link,
    index: int,
    slots: int,
    *,
    host: Host = np.array,
    grid: tuple[int, ...] | None = None,
    choice: Choice | None = None,
    prior: str = PRIOR,
) -> Drawing:
    """Make the batch in which the grids of a link are drawn, or chosen otherwise.

    Args:
        graphs: signatures by role.
        link: of a prior.
        index: its place in the chain.
        slots: grids at a time.
        host: see `Drawing`.
        grid: of a draw, for a link of any size; None for the link's own.
        choice: see `Drawing`.
        prior: how the roles of the prior begin.

    Returns:
        The batch, empty.
    """
    roles = step_roles(link, index, prior)
    if link.order == "raster":
        row, pixel = roles
        height, width = grid or link.grid
        made_height, made_width = link.grid
        made_for = made_height, made_width
        return Raster(row, pixel, graphs, (height, width), slots, host=host, choice=choice, made_for=made_for)
    (step,) = roles
    return Line(step, graphs, grid or link.grid, slots, host=host, choice=choice)


def sample(
    graphs: Mapping[str, Signature], link: Link, rows: Mapping[str, NDArray[np.generic]], *, index: int = 0
) -> Steps[Int32[np.ndarray, "n *grid"]]:
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


def complete(steps: Steps[T], run: Callable[[str, Arrays], Arrays]) -> T:
    """Run steps to their end.

    Args:
        steps: such as those of `sample`.
        run: from the role of a graph and its inputs to its outputs.

    Returns:
        What they are for.
    """
    answer: Arrays | None = None
    while True:
        try:
            role, feeds = next(steps) if answer is None else steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = run(role, feeds)
