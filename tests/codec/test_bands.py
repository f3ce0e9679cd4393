"""Bands of rows, the conditions' number, and a container's claims held against its model."""

import dataclasses
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from codec.bands import cut_codes, cut_grids, join_codes, usual_rows
from codec.coded import Chunk, Coded
from codec.conditions import read_conditions, write_conditions
from codec.errors import CodecError, ContainerLimitError, MalformedContainerError
from codec.fitting import fit_coded
from codec.layout import Grid, Layout, LevelLayout
from codec.profile import Profile

LAYOUT = Layout((LevelLayout(6, 1, 8), LevelLayout(20, 3, 4)), (None, None), multiple_of=8, maximum=2**31 - 1)


@pytest.mark.parametrize(
    ("sides", "rows"),
    [
        ((128, 128), None),
        ((129, 128), 128),
        ((1000, 100), 163),
        ((3, 20_000), 1),
        ((1, 20_000), None),
        ((4096,), None),
        ((4097,), 4096),
    ],
)
def test_an_item_is_cut_where_it_has_too_many_places(sides: tuple[int, ...], rows: int | None) -> None:
    finer = Grid(2, tuple(4 * side for side in sides))
    assert usual_rows([Grid(1, sides), finer]) == rows
    assert usual_rows([Grid(1, sides), Grid(1, (sides[0] + 1, *sides[1:]))]) is None


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 100, None])
@pytest.mark.parametrize("axes", [1, 2])
def test_codes_are_cut_and_joined(rows: int | None, axes: int) -> None:
    rng = np.random.default_rng(0)
    grids = [Grid(1, (7, 3)[:axes]), Grid(2, (28, 6)[:axes])]
    codes = [rng.integers(0, 99, grid.shape).astype(np.int32) for grid in grids]
    bands, shapes = cut_codes(codes, axes, rows), cut_grids(grids, rows)

    assert [tuple(level.shape for level in band) for band in bands] == [
        tuple(grid.shape for grid in band) for band in shapes
    ]
    assert len(bands) == (1 if rows is None else -(-7 // rows))
    for whole, joined in zip(codes, join_codes(bands, axes), strict=True):
        assert np.array_equal(whole, joined)
    if rows == 2 and axes == 2:
        assert np.array_equal(bands[1][0], codes[0][2:4])
        assert np.array_equal(bands[1][1], codes[1][:, 8:16])


def test_levels_that_do_not_divide_are_not_cut() -> None:
    with pytest.raises(ContainerLimitError, match="have 2, 3 rows, expected multiples of the first: code them in one"):
        cut_grids([Grid(1, (2, 2)), Grid(1, (3, 3))], 1)


def test_conditions_and_numbers_are_one_to_one() -> None:
    classes = (10, 1, 3)
    choices = itertools.product(*([None, *range(count)] for count in classes))
    found = {write_conditions(chosen, classes): chosen for chosen in choices}

    assert sorted(found) == list(range(11 * 2 * 4))
    assert found[0] == (None, None, None)
    assert found[3 + 11 * (1 + 2 * 2)] == (2, 0, 1)
    assert all(read_conditions(number, classes) == chosen for number, chosen in found.items())
    with pytest.raises(MalformedContainerError, match="number 88, which the prior's 3 conditions do not reach"):
        read_conditions(88, classes)
    with pytest.raises(ContainerLimitError, match=r"condition 1 has the class 1, expected 0 .. 0"):
        write_conditions((0, 1, 0), classes)


ITEM = Coded(Profile.PRIOR, "00" * 8, "00" * 4, (17, 9), (Chunk(0, b""),))


def test_grids_of_chunks_are_those_of_the_model() -> None:
    assert fit_coded(ITEM, LAYOUT) == ((Grid(1, (3, 2)), Grid(3, (6, 4))),)
    cut = dataclasses.replace(ITEM, chunks=ITEM.chunks * 2, chunk_rows=2, codebooks=2)
    assert fit_coded(cut, LAYOUT) == (
        (Grid(1, (2, 2)), Grid(2, (4, 4))),
        (Grid(1, (1, 2)), Grid(2, (2, 4))),
    )


@pytest.mark.parametrize(
    ("claims", "error", "message"),
    [
        ({"extent": (100,)}, ContainerLimitError, "the item is a sound, the model takes a picture"),
        ({"codebooks": 3}, MalformedContainerError, "keeps 3 codebooks and the model has 3, expected less"),
        ({"chunks": 2, "chunk_rows": 3}, MalformedContainerError, "has 3 rows a chunk and 3 in all"),
        ({"chunks": 2, "chunk_rows": 1}, ContainerLimitError, "has 2 chunks of 1 rows, expected 3 for the model's 3"),
        (
            {"extent": (2**31 - 8, 1), "chunks": 2, "chunk_rows": 1},
            ContainerLimitError,
            "expected 268435455 for the model's 268435455 rows",
        ),
    ],
)
def test_claims_that_the_model_does_not_fit_take_no_memory(
    claims: dict[str, Any], error: type[CodecError], message: str
) -> None:
    fields = {**claims, "chunks": ITEM.chunks * claims.get("chunks", 1)}
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message):
            fit_coded(dataclasses.replace(ITEM, **fields), LAYOUT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18


def test_a_payload_is_no_longer_than_its_tokens_can_take() -> None:
    # One token at the top, four places of three below.
    small = dataclasses.replace(ITEM, extent=(8, 8), chunks=(Chunk(0, bytes(40)),))
    assert fit_coded(small, LAYOUT)
    longer = dataclasses.replace(small, chunks=(Chunk(0, bytes(41)),))
    with pytest.raises(ContainerLimitError, match="a chunk of 13 tokens has 41 bytes, which take 40 at most"):
        fit_coded(longer, LAYOUT)
    # The residual of a lossless container has a length of its own.
    assert fit_coded(dataclasses.replace(longer, profile=Profile.LOSSLESS_VQ), LAYOUT)
