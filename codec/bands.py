"""Bands: the grids of an item cut into stretches of whole rows, each of which is coded by itself."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from codec.errors import ContainerLimitError
from codec.layout import Grid

MOST_PLACES = {1: 4096, 2: 16_384}
"""Places of the coarsest grid that one band usually has at most, by the number of axes."""


def usual_rows(grids: Sequence[Grid]) -> int | None:
    """Choose how an item is cut where nobody says.

    Args:
        grids: a grid a level, the coarsest first.

    Returns:
        Rows of the coarsest grid in a band (places, of a sound); None where the item is better left whole.
    """
    height, *across = grids[0].sides
    rows = max(MOST_PLACES[len(grids[0].sides)] // math.prod(across), 1)
    is_cut = rows < height and all(grid.sides[0] % height == 0 for grid in grids)
    return rows if is_cut else None


def cut_grids(grids: Sequence[Grid], rows: int | None) -> tuple[tuple[Grid, ...], ...]:
    """Cut the grids of an item into bands.

    Args:
        grids: a grid a level, the coarsest first.
        rows: of the coarsest grid in a band, at least 1, the last band having what is left; None for a single band.

    Returns:
        The grids of each band, a grid a level.

    Raises:
        ContainerLimitError: one level's rows are no multiple of the coarsest's.
    """
    return tuple(
        tuple(
            Grid(grid.num_codebooks, (stop - start, *grid.sides[1:]))
            for grid, (start, stop) in zip(grids, band, strict=True)
        )
        for band in _bands([grid.sides[0] for grid in grids], rows)
    )


def cut_codes(
    codes: Sequence[Int32[np.ndarray, "..."]], axes: int, rows: int | None
) -> list[tuple[Int32[np.ndarray, "..."], ...]]:
    """Cut the codes of an item into bands, as views.

    Args:
        codes: an array a level, the coarsest first: `[*grid]`, behind other axes if any.
        axes: of a grid: 2 of a picture, 1 of a sound.
        rows: as in `cut_grids`.

    Returns:
        The codes of each band, an array a level.

    Raises:
        ContainerLimitError: as `cut_grids`.
    """
    standing = [np.moveaxis(level, -axes, 0) for level in codes]
    return [
        tuple(np.moveaxis(level[start:stop], 0, -axes) for level, (start, stop) in zip(standing, band, strict=True))
        for band in _bands([len(level) for level in standing], rows)
    ]


def join_codes(bands: Sequence[Sequence[Int32[np.ndarray, "..."]]], axes: int) -> tuple[Int32[np.ndarray, "..."], ...]:
    """Put bands together again.

    Args:
        bands: the codes of each band, at least one, as `cut_codes` gives them.
        axes: as there.

    Returns:
        An array a level.
    """
    return tuple(np.concatenate(level, axis=-axes) for level in zip(*bands, strict=True))


def _bands(heights: Sequence[int], rows: int | None) -> list[list[tuple[int, int]]]:
    """Tell where each band starts and stops at each level."""
    coarsest = heights[0]
    if rows is None:
        return [[(0, height) for height in heights]]
    if any(height % coarsest for height in heights):
        raise ContainerLimitError(
            f"the grids have {', '.join(map(str, heights))} rows, expected multiples of the first: "
            "code them in one chunk"
        )
    return [
        [(start * height // coarsest, min(start + rows, coarsest) * height // coarsest) for height in heights]
        for start in range(0, coarsest, rows)
    ]
