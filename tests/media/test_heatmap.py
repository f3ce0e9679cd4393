"""The heat map: its colours judged by CIELAB, its squares by where they are."""

import numpy as np

from media.heatmap import heatmap

# IEC 61966-2-1 and the D65 white of CIE 15.
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def to_lab(pixels: np.ndarray) -> np.ndarray:
    """Turn sRGB, 0 .. 255, into CIELAB."""
    encoded = pixels / 255.0
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _XYZ.T / _WHITE
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def test_lightness_rises_and_equal_steps_look_equal() -> None:
    steps = np.linspace(0.0, 1.0, 33)
    lab = to_lab(heatmap(steps[None, None], low=0.0, high=1.0, scale=1)[0, 0])
    assert (np.diff(lab[:, 0]) > 0.5).all()
    differences = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    assert differences.max() < 1.4 * differences.min()
    assert lab[-1, 0] - lab[0, 0] > 75


def test_every_number_is_a_square_of_its_own_colour() -> None:
    values = np.array([[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]])
    image = heatmap(values, low=0.0, high=5.0, scale=3)
    assert image.shape == (1, 6, 9, 3)
    squares = image.reshape(2, 3, 3, 3, 3).swapaxes(1, 2)
    assert (squares == squares[:, :, :1, :1]).all()
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 6


def test_numbers_beyond_the_scale_take_its_ends_and_a_flat_map_is_dark() -> None:
    image = heatmap(np.array([[[-9.0, 0.0, 1.0, 9.0]]]), low=0.0, high=1.0, scale=1)[0, 0]
    assert image[0].tolist() == image[1].tolist() == [32, 26, 62]
    assert image[2].tolist() == image[3].tolist() == [254, 239, 159]
    assert (heatmap(np.full((1, 2, 2), 0.7), low=0.7, high=0.7, scale=2) == image[0]).all()
