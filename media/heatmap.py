"""Numbers as colours: a sequential map, dark to light, in which equal steps look equal."""

import numpy as np
from jaxtyping import Float64, UInt8

# A path through CIELAB (D65) from dark violet over red to pale yellow, cut where the colour difference from one point
# to the next is the same, its lightness rising all the way; in sRGB.
_ANCHORS = np.array(
    [
        (32, 26, 62),
        (66, 34, 85),
        (103, 36, 98),
        (139, 39, 102),
        (169, 43, 99),
        (192, 56, 91),
        (208, 75, 83),
        (220, 96, 74),
        (226, 120, 70),
        (232, 148, 75),
        (235, 176, 89),
        (241, 206, 120),
        (254, 239, 159),
    ],
    dtype=np.float64,
)


def heatmap(
    values: Float64[np.ndarray, "B h w"], *, low: float, high: float, scale: int
) -> UInt8[np.ndarray, "B H W 3"]:
    """Colour maps of numbers, each number a square of one colour.

    Args:
        values: finite.
        low: the number that is darkest; what is below it as well.
        high: the number that is lightest; what is above it as well.
        scale: the side of each square, in pixels, at least 1.

    Returns:
        Pictures in sRGB, `scale` times as high and wide as the maps; all dark where `low` equals `high`.
    """
    extent = high - low
    places = np.clip((values - low) / extent, 0.0, 1.0) if extent > 0.0 else np.zeros_like(values)
    positions = np.linspace(0.0, 1.0, len(_ANCHORS))
    colours = np.stack([np.interp(places, positions, channel) for channel in _ANCHORS.T], axis=-1)
    return np.rint(colours).astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
