"""Sprites with known factors, drawn here: every combination of shape, scale, orientation and place, once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from training.data.config import DataConfig
from training.data.draw import draw
from training.data.splits import ImageArray, Splits

Plane = Float64[np.ndarray, "scale angle H W"]
Inside = Bool[np.ndarray, "scale angle H W"]


def _square(u: Plane, v: Plane) -> Inside:
    """Whether points lie in a square of half-diagonal 1."""
    return np.maximum(np.abs(u), np.abs(v)) <= np.sqrt(0.5)


def _ellipse(u: Plane, v: Plane) -> Inside:
    """Whether points lie in an ellipse twice as long as it is wide."""
    return np.square(u) + np.square(2.0 * v) <= 1.0


def _heart(u: Plane, v: Plane) -> Inside:
    """Whether points lie in a heart, (a^2 + b^2 - 1)^3 <= a^2 b^3."""
    a, b = 1.25 * u, 0.1 - 1.25 * v
    return (np.square(a) + np.square(b) - 1.0) ** 3 <= np.square(a) * b**3


_SHAPES: dict[str, Callable[[Plane, Plane], Inside]] = {
    "square": _square,
    "ellipse": _ellipse,
    "heart": _heart,
}
_SCALES = (0.14, 0.17, 0.2, 0.23)
"""Radius, in sides of the picture."""
_ANGLES = 8
_PLACES = 16

FACTORS: dict[str, tuple[str, ...]] = {
    "shape": tuple(_SHAPES),
    "scale": tuple(f"{scale:g}" for scale in _SCALES),
    # A square looks the same after a quarter turn: within one, each picture tells its angle.
    "orientation": tuple(f"{90.0 * angle / _ANGLES:g}" for angle in range(_ANGLES)),
    "x": tuple(map(str, range(_PLACES))),
    "y": tuple(map(str, range(_PLACES))),
}
"""The values of each factor: scale in sides of the picture, orientation in degrees, places from left and top."""


@dataclass(frozen=True)
class Sprites:
    """All sprites.

    Attributes:
        images: white on black, 0 or 255.
        factors: the index of each factor's value, by name.
    """

    images: UInt8[np.ndarray, "N side side 1"]
    factors: dict[str, Int64[np.ndarray, " N"]]


def draw_sprites(side: int) -> Sprites:
    """Draw every combination of the factors once.

    Args:
        side: pixels, a multiple of 32, so that places are whole pixels apart.

    Returns:
        24,576 pictures, the last factor varying fastest.
    """
    grid = np.indices([len(values) for values in FACTORS.values()]).reshape(len(FACTORS), -1)
    factors = dict(zip(FACTORS, grid.astype(np.int64), strict=True))
    step = side // (2 * _PLACES)
    # Each is drawn once at the last place of a larger sheet, out of which the others are cut.
    windows = np.lib.stride_tricks.sliding_window_view(_sheets(side, step), (side, side), axis=(3, 4))
    right, down = (step * (_PLACES - 1 - factors[name]) for name in ("x", "y"))
    cut = windows[factors["shape"], factors["scale"], factors["orientation"], down, right]
    return Sprites(cut[..., None].astype(np.uint8) * 255, factors)


def _sheets(side: int, step: int) -> Bool[np.ndarray, "shape scale angle H W"]:
    """Tell which pixels' centres lie within each sprite at the last place, on a sheet that all places fit into."""
    reach = step * (_PLACES - 1)
    centre = side * (0.25 + 0.5 * (_PLACES - 0.5) / _PLACES)
    offset = (np.arange(side + reach) + 0.5 - centre) / side
    scale = np.array(_SCALES)[:, None, None, None]
    right, down = offset[None, None, None, :] / scale, offset[None, None, :, None] / scale
    angle = (0.5 * np.pi * np.arange(_ANGLES) / _ANGLES)[None, :, None, None]
    u, v = np.cos(angle) * right + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * right
    return np.stack([contains(u, v) for contains in _SHAPES.values()])


def read_sprites(config: DataConfig) -> Splits:
    """Draw the sprites and divide them at random.

    Args:
        config: the `[data]` table; `size` is the side in pixels.

    Returns:
        The splits, each with the factors of its pictures as conditions.
    """
    sprites = draw_sprites(config.size or 32)
    fractions = config.test_fraction, config.validation_fraction
    test, validation, train = (
        ImageArray(
            np.ascontiguousarray(sprites.images[indices]),
            conditions={name: values[indices] for name, values in sprites.factors.items()},
        )
        for indices in draw(len(sprites.images), fractions, config.split_seed)
    )
    return Splits(
        train, validation, test, name="sprites", source="drawn by this project", licence="CC0-1.0", conditions=FACTORS
    )
