"""What a model makes of an extent."""

import pytest

from codec.errors import ContainerLimitError
from codec.layout import MAX_LEVELS, Grid, Layout, LevelLayout

LEVELS = (LevelLayout(6, 1, 64), LevelLayout(20, 2, 32))
CONVOLUTIONAL = Layout(LEVELS, (None, None), multiple_of=64, maximum=500)
FIXED = Layout(LEVELS, (64, 128), multiple_of=1, maximum=4096)
AUDIO = Layout((LevelLayout(512, 1, 320),), (None,), multiple_of=640, maximum=16000)


@pytest.mark.parametrize(
    ("layout", "extent", "sides"),
    [
        (CONVOLUTIONAL, (1, 1), [(1, 1), (2, 2)]),
        (CONVOLUTIONAL, (64, 65), [(1, 2), (2, 4)]),
        (CONVOLUTIONAL, (448, 385), [(7, 7), (14, 14)]),
        (FIXED, (64, 128), [(1, 2), (2, 4)]),
        (FIXED, (1, 1), [(1, 2), (2, 4)]),
        (AUDIO, (1,), [(2,)]),
        (AUDIO, (641,), [(4,)]),
        (AUDIO, (16000,), [(50,)]),
    ],
)
def test_grids_are_those_of_the_padded_size(layout: Layout, extent: tuple[int, ...], sides: list[tuple]) -> None:
    grids = layout.grids(extent)
    assert [grid.sides for grid in grids] == sides
    assert [grid.num_codebooks for grid in grids] == [level.num_codebooks for level in layout.levels]


@pytest.mark.parametrize(
    ("layout", "extent", "message"),
    [
        (CONVOLUTIONAL, (449, 64), "measures 449 x 64, expected 1 to 448 x 448"),
        (CONVOLUTIONAL, (64, 2**31), "expected 1 to 448 x 448"),
        (CONVOLUTIONAL, (0, 64), "measures 0 x 64"),
        (CONVOLUTIONAL, (-1, 64), "measures -1 x 64"),
        (FIXED, (65, 128), "expected 1 to 64 x 128: use another model, or send a smaller item"),
        (AUDIO, (16001,), "measures 16001, expected 1 to 16000"),
        (AUDIO, (1, 1), "the item is a picture, the model takes a sound"),
        (FIXED, (1,), "the item is a sound, the model takes a picture"),
    ],
)
def test_other_extents_are_refused(layout: Layout, extent: tuple[int, ...], message: str) -> None:
    with pytest.raises(ContainerLimitError, match=message):
        layout.grids(extent)


def test_a_grid_knows_its_array() -> None:
    assert (Grid(1, (3, 4)).shape, Grid(1, (3, 4)).count) == ((3, 4), 12)
    assert (Grid(2, (3, 4)).shape, Grid(2, (3, 4)).count) == ((2, 3, 4), 24)
    assert (Grid(8, (5,)).shape, Grid(8, (5,)).count) == ((8, 5), 40)


@pytest.mark.parametrize(
    ("num_embeddings", "bits"), [(2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11), (2**31 - 1, 31), (2**31, 31)]
)
def test_bits_of_a_token(num_embeddings: int, bits: int) -> None:
    assert LevelLayout(num_embeddings, 1, 1).token_bits == bits


@pytest.mark.parametrize(
    ("levels", "sizes", "message"),
    [
        ((), (None,), "0 levels"),
        (LEVELS * MAX_LEVELS, (None,), f"{2 * MAX_LEVELS} levels"),
        (LEVELS, (), "0 axes"),
        (LEVELS, (64, 64, 64), "3 axes"),
        ((LevelLayout(1, 1, 1),), (None,), "expected 2 .. 2.31 embeddings"),
        ((LevelLayout(2**31 + 1, 1, 1),), (None,), "expected 2 .. 2.31 embeddings"),
        ((LevelLayout(2, 0, 1),), (None,), "at least one codebook"),
        ((LevelLayout(2, 1, 48),), (None,), "no multiple of the downsampling"),
        ((LevelLayout(2, 1, 8),), (64, 60), "no multiple of the downsampling"),
    ],
)
def test_layouts_that_no_model_has_are_refused(
    levels: tuple[LevelLayout, ...], sizes: tuple[int | None, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(levels, sizes, multiple_of=64, maximum=500)
