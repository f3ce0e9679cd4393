"""How the codes of an item are cut into chunks, and which grids an exact prior codes of each."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from artifact.code_prior import Link
from artifact.exact import ExactPrior
from codec.bands import cut_grids, usual_rows
from codec.layout import Grid, Layout, LevelLayout
from service.engine.opening import ServedModel
from service.levels import input_sides, levels_of
from service.limits import longest_side
from service.settings import Settings

MOST_PLACES = 2**16
"""Places of the coarsest grid that are coded at once: four times what a chunk usually has."""

Levels = tuple[Int32[np.ndarray, "..."], ...]
"""The codes of one item, an array a level, top first: of the codebooks that are kept, without their axis for one."""

Grids = tuple[Grid, ...]
"""Of one item, a grid a level, with the codebooks that are kept."""


def layout_of(model: ServedModel, settings: Settings) -> Layout:
    """Tell the codec what grids a model makes of an input."""
    return Layout(
        levels=tuple(
            LevelLayout(level.num_embeddings, level.num_codebooks, level.downsampling)
            for level in levels_of(model).values()
        ),
        sizes=input_sides(model),
        multiple_of=model.manifest.geometry.multiple_of,
        maximum=longest_side(settings, model.manifest),
    )


def why_not_covered(prior: ExactPrior, grids: Grids, rows: int | None) -> str | None:
    """Say why a prior does not cover the codes of an item; None where it does.

    Args:
        prior: which.
        grids: of the item.
        rows: of the coarsest grid in a chunk; None for a single one.
    """
    links = links_of(prior, grids)
    if prior.links[: len(links)] != links or len(links) != sum(grid.num_codebooks for grid in grids):
        return "it codes later grids given all codebooks of those before, some of which are left out"
    for chunk in dict.fromkeys(cut_grids(grids, rows)):
        if (places := math.prod(chunk[0].sides)) > MOST_PLACES and any(link.any_size for link in links):
            return f"a chunk of {places} places is more than {MOST_PLACES}, which take too much memory at once"
        for link in links:
            sides = chunk[link.level].sides
            if not link.any_size and sides != link.grid:
                return f"it is over {_measures(link.grid)} codes alone, and here are {_measures(sides)}"
    return None


def usual_chunk_rows(prior: ExactPrior, grids: Grids) -> int | None:
    """Choose how an item is cut where nobody says: not at all under a prior over one size."""
    return usual_rows(grids) if all(link.any_size for link in prior.links) else None


def links_of(prior: ExactPrior, grids: Grids) -> tuple[Link, ...]:
    """Give the links that code the codebooks that are kept."""
    return tuple(
        link for link in prior.links if link.level < len(grids) and link.codebook < grids[link.level].num_codebooks
    )


def shapes_of(prior: ExactPrior, grids: Grids) -> list[tuple[int, ...]]:
    """Give the shape of the grid of each link that is coded."""
    return [grids[link.level].sides for link in links_of(prior, grids)]


def to_links(prior: ExactPrior, grids: Grids, chunks: Sequence[Levels]) -> list[Int32[np.ndarray, "n *grid"]]:
    """Put the codes of chunks of one shape side by side, link by link.

    Args:
        prior: that codes them.
        grids: of each chunk.
        chunks: their codes.

    Returns:
        The codes of each link, of all chunks.
    """
    return [
        np.stack([_codebook(chunk[link.level], grids[link.level], link.codebook) for chunk in chunks])
        for link in links_of(prior, grids)
    ]


def to_levels(prior: ExactPrior, grids: Grids, coded: Sequence[Int32[np.ndarray, "n *grid"]], row: int) -> Levels:
    """Put the codes of the links of one chunk together again.

    Args:
        prior: that coded them.
        grids: of the chunk.
        coded: the codes of each link, of all chunks.
        row: which chunk.

    Returns:
        The codes of each level.
    """
    levels = tuple(np.empty(grid.shape, dtype=np.int32) for grid in grids)
    for link, codes in zip(links_of(prior, grids), coded, strict=True):
        _codebook(levels[link.level], grids[link.level], link.codebook)[:] = codes[row]
    return levels


def _codebook(level: Int32[np.ndarray, "..."], grid: Grid, codebook: int) -> Int32[np.ndarray, "*grid"]:
    """Give the part of a level's codes that one codebook has."""
    return level[codebook] if grid.num_codebooks > 1 else level


def _measures(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))
