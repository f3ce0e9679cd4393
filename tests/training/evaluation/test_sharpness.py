"""Sharpness against scipy's filters, on blurred pictures, and its standard error against repeated draws."""

import numpy as np
import pytest
from scipy import ndimage

from training.evaluation.sharpness import gradient_energy, laplacian_variance, relative

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)


def test_both_figures_are_those_of_scipys_filters() -> None:
    for index, picture in enumerate(PICTURES.astype(np.float64)):
        kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
        inner = [ndimage.convolve(picture[..., channel], kernel)[1:-1, 1:-1] for channel in range(3)]
        assert laplacian_variance(PICTURES)[index] == pytest.approx(np.stack(inner).var())
        steps = [ndimage.correlate1d(picture, [-1, 1], axis=axis, origin=-1) for axis in (0, 1)]
        expected = 0.5 * (np.square(steps[0][:-1]).mean() + np.square(steps[1][:, :-1]).mean())
        assert gradient_energy(PICTURES)[index] == pytest.approx(expected)


def test_blurred_pictures_are_less_sharp_and_even_ones_not_at_all() -> None:
    sharp = np.repeat(np.repeat(PICTURES, 4, 1), 4, 2)
    blurred = ndimage.gaussian_filter(sharp.astype(np.float64), (0, 1.5, 1.5, 0)).round().astype(np.uint8)
    for measure in (gradient_energy, laplacian_variance):
        assert (measure(blurred) < 0.5 * measure(sharp)).all()
        assert not measure(np.full_like(sharp, 77)).any()


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    random = np.random.default_rng(1)
    ratios = [relative(random.gamma(3.0, 2.0, 50), random.gamma(5.0, 1.0, 80)) for _ in range(2000)]
    values = np.array([ratio.value for ratio in ratios])
    assert values.mean() == pytest.approx(6.0 / 5.0, rel=0.01)
    assert values.std() == pytest.approx(np.mean([ratio.standard_error for ratio in ratios]), rel=0.1)
