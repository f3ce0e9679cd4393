"""What a container of version 2 holds, held against its model: the grids of codes of each chunk."""

from codec.bands import cut_grids
from codec.coded import Coded
from codec.errors import ContainerLimitError, MalformedContainerError
from codec.layout import Grid, Layout
from codec.probabilities import PRECISION
from codec.profile import Profile


def fit_coded(coded: Coded, layout: Layout) -> tuple[tuple[Grid, ...], ...]:
    """Give the grids of codes of each chunk; no memory is taken before they are known to be those of the model.

    Args:
        coded: as `codec.coded.read_coded` gives it, of a profile that codes tokens.
        layout: of the model that `coded.model_prefix` names.

    Returns:
        Of each chunk, a grid a level, top first, with the codebooks that are kept.

    Raises:
        ContainerLimitError: extent, chunks or lengths are not ones that the model has.
        MalformedContainerError: the same content has a shorter header.
    """
    grids = _kept(layout.grids(coded.extent), coded.codebooks)
    rows = grids[0].sides[0]
    if coded.chunk_rows is not None:
        if coded.chunk_rows >= rows:
            raise MalformedContainerError(
                f"the container has {coded.chunk_rows} rows a chunk and {rows} in all, expected less: write it anew"
            )
        count = -(-rows // coded.chunk_rows)
        if len(coded.chunks) != count:
            raise ContainerLimitError(
                f"the container has {len(coded.chunks)} chunks of {coded.chunk_rows} rows, expected {count} for the "
                f"model's {rows} rows: read it with the model that it names"
            )
    found = cut_grids(grids, coded.chunk_rows)
    if coded.profile is Profile.PRIOR:
        for chunk, band in zip(coded.chunks, found, strict=True):
            _check_length(chunk.payload, sum(grid.count for grid in band))
    return found


def _kept(grids: tuple[Grid, ...], codebooks: int | None) -> tuple[Grid, ...]:
    """Give the grids with the codebooks that are kept."""
    if codebooks is None:
        return grids
    most = max(grid.num_codebooks for grid in grids)
    if codebooks >= most:
        raise MalformedContainerError(
            f"the container keeps {codebooks} codebooks and the model has {most}, expected less: write it anew"
        )
    return tuple(Grid(min(grid.num_codebooks, codebooks), grid.sides) for grid in grids)


def _check_length(payload: bytes, tokens: int) -> None:
    """Refuse a payload that is longer than the least probable tokens take."""
    most = -(-tokens * PRECISION // 8) + 1
    if len(payload) > most:
        raise ContainerLimitError(
            f"a chunk of {tokens} tokens has {len(payload)} bytes, which take {most} at most: "
            "read it with the model that it names"
        )
