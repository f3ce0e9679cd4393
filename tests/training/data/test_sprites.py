"""Sprites: every combination of the factors once, and each factor seen in the picture."""

import numpy as np
import pytest
from pydantic import ValidationError

from training.data import DataConfig, load
from training.data.sprites import FACTORS, Sprites, draw_sprites
from training.errors import DataError


@pytest.fixture(scope="module")
def sprites() -> Sprites:
    return draw_sprites(32)


def test_every_combination_is_there_once(sprites: Sprites) -> None:
    assert len(sprites.images) == np.prod([len(values) for values in FACTORS.values()])
    combined = np.stack(list(sprites.factors.values()), axis=1)
    assert len(np.unique(combined, axis=0)) == len(combined)
    assert np.unique(sprites.images).tolist() == [0, 255]


def test_pictures_show_their_factors(sprites: Sprites) -> None:
    white = sprites.images[..., 0] > 0
    area = white.sum((1, 2))
    assert area.min() >= 16
    down, right = (np.arange(32) + 0.5)[:, None], (np.arange(32) + 0.5)[None, :]
    for name, axis in (("x", right), ("y", down)):
        centre = (white * axis).sum((1, 2)) / area
        place = 32 * (0.25 + 0.5 * (sprites.factors[name] + 0.5) / 16)
        assert np.abs(centre - place).max() < 1.5
    means = [area[sprites.factors["scale"] == scale].mean() for scale in range(4)]
    np.testing.assert_allclose(np.array(means) / means[0], (np.array([0.14, 0.17, 0.2, 0.23]) / 0.14) ** 2, rtol=0.05)
    ellipse = (sprites.factors["shape"] == 1) & (sprites.factors["scale"] == 3)
    lying = white[ellipse & (sprites.factors["orientation"] == 0)]
    assert (lying.any(1).sum(1) > lying.any(2).sum(1)).all(), "at angle 0 it is wider than high"


def test_the_source_gives_splits_with_factors() -> None:
    splits = load(DataConfig(source="sprites", channels=1))
    assert splits.train.shape == (32, 32, 1)
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 24_576
    assert set(splits.conditions) == set(splits.test.conditions) == set(FACTORS)
    assert max(splits.test.conditions["orientation"]) == len(splits.conditions["orientation"]) - 1


def test_what_sprites_do_not_take_is_told() -> None:
    with pytest.raises(ValidationError, match="32 or 64 pixels a side"):
        DataConfig(source="sprites", channels=1, size=40)
    with pytest.raises(DataError, match="channels = 3; set it to 1"):
        load(DataConfig(source="sprites"))
