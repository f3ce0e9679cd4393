"""What a step learns from, against the pictures themselves."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from training.data import Examples, ImageArray, Photographs
from training.errors import DataError

CROP = 8
SIZES = [(8, 8), (8, 13), (20, 8), (11, 17), (30, 25)]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


PHOTOGRAPHS = [noise(*size, 3, seed=index) for index, size in enumerate(SIZES)]
ARRAY = ImageArray(noise(6, 4, 5, 3))


def step(number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[3, number]))


def places(window: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Find a window in a picture by comparing it with all of them."""
    windows = sliding_window_view(picture, window.shape)[:, :, 0]
    found = (windows == window).all(axis=(2, 3, 4))
    return [(int(top), int(left)) for top, left in np.argwhere(found)]


def test_an_array_gives_its_rows() -> None:
    indices = np.array([5, 0, 5])
    assert ARRAY.shape == (4, 5, 3)
    assert (len(ARRAY), ARRAY.uniform, ARRAY.labels) == (6, True, None)
    assert np.array_equal(ARRAY.batch(indices, step(0)), np.stack([ARRAY[5], ARRAY[0], ARRAY[5]]))
    assert np.array_equal(ARRAY.batch(indices, step(0)), ARRAY.batch(indices, step(1)))
    assert np.array_equal(ARRAY.fixed(), ARRAY.images)
    assert np.array_equal(ARRAY.fixed(2), ARRAY.images[:2])


def test_a_crop_is_a_window_of_its_picture() -> None:
    examples = Photographs(PHOTOGRAPHS, CROP)
    assert (examples.shape, examples.uniform, len(examples)) == ((CROP, CROP, 3), False, 5)
    indices = np.array([4, 1, 2, 0, 3, 3])
    for number in range(20):
        batch = examples.batch(indices, step(number))
        assert batch.shape == (6, CROP, CROP, 3)
        for index, window in zip(indices, batch, strict=True):
            assert len(places(window, PHOTOGRAPHS[index])) == 1


def test_crops_cover_the_whole_picture_evenly() -> None:
    picture = noise(CROP + 2, CROP + 3, 1)
    crops = Photographs([picture], CROP).batch(np.zeros(6000, dtype=np.int64), step(0))
    corners, counts = np.unique([places(crop, picture)[0] for crop in crops], axis=0, return_counts=True)
    assert corners.tolist() == [[top, left] for top in range(3) for left in range(4)]
    # Each of the 12 places is met 500 times on average, with a standard deviation of 21.
    assert np.abs(counts - 500).max() < 107


def test_the_fixed_crop_is_at_the_centre() -> None:
    fixed = Photographs(PHOTOGRAPHS, CROP).fixed()
    for (height, width), window, picture in zip(SIZES, fixed, PHOTOGRAPHS, strict=True):
        assert places(window, picture) == [((height - CROP) // 2, (width - CROP) // 2)]
    assert np.array_equal(Photographs(PHOTOGRAPHS, CROP).fixed(2), fixed[:2])
    assert Photographs(PHOTOGRAPHS, CROP).fixed(0).shape == (0, CROP, CROP, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_picture_is_enlarged_to_the_crop(channels: int) -> None:
    picture = noise(4, 6, channels)
    examples = Photographs([picture], CROP)
    planes = [Image.fromarray(picture[..., c]).resize((12, 8), Image.Resampling.LANCZOS) for c in range(channels)]
    enlarged = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    assert np.array_equal(examples.fixed()[0], enlarged[:, 2:10])
    assert np.array_equal(examples[0], picture)
    for crop in examples.batch(np.zeros(10, dtype=np.int64), step(0)):
        assert places(crop, enlarged)


@pytest.mark.parametrize("size", [(3, 1000), (1000, 3), (7, 7), (7, 8)])
def test_no_small_picture_ends_below_the_crop(size: tuple[int, int]) -> None:
    assert Photographs([noise(*size, 3)], CROP).fixed().shape == (1, CROP, CROP, 3)


@pytest.mark.parametrize("examples", [ImageArray(ARRAY.images, flip=True), Photographs(PHOTOGRAPHS, CROP, flip=True)])
def test_a_step_gives_the_same_batch_again(examples: Examples) -> None:
    indices = np.arange(64) % len(examples)
    batches = [examples.batch(indices, step(number)) for number in (0, 0, 1)]
    assert np.array_equal(batches[0], batches[1])
    assert not np.array_equal(batches[0], batches[2])


def test_half_of_the_pictures_are_mirrored() -> None:
    indices = np.arange(1000) % len(ARRAY)
    plain = ARRAY.images[indices]
    batch = ImageArray(ARRAY.images, flip=True).batch(indices, step(0))
    as_it_is = (batch == plain).all(axis=(1, 2, 3))
    mirrored = (batch == plain[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (as_it_is ^ mirrored).all()
    # The standard deviation of the count is 16.
    assert abs(mirrored.sum() - 500) < 80
    assert np.array_equal(ImageArray(ARRAY.images, flip=True).fixed(), ARRAY.images)


def test_a_batch_is_the_callers_own() -> None:
    images, photographs = ARRAY.images.copy(), [picture.copy() for picture in PHOTOGRAPHS]
    for examples in (ImageArray(images, flip=True), Photographs(photographs, CROP)):
        examples.batch(np.arange(5), step(0))[:] = 0
    assert np.array_equal(images, ARRAY.images)
    assert all(np.array_equal(one, two) for one, two in zip(photographs, PHOTOGRAPHS, strict=True))


def test_labels_are_one_a_picture() -> None:
    assert ImageArray(ARRAY.images, conditions={"label": np.arange(6)}).labels.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="found 5 examples and 6 labels"):
        Photographs(PHOTOGRAPHS, CROP, conditions={"label": np.arange(6)})
