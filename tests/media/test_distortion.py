import numpy as np
import pytest

from media.distortion import mse, psnr_db
from media.errors import MediaGeometryError


def batch(seed):
    return np.random.default_rng(seed).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)


def test_mse_is_the_mean_of_squared_differences():
    x, y = batch(0), batch(1)
    expected = [
        sum((int(a) - int(b)) ** 2 for a, b in zip(p.flat, q.flat, strict=True)) / p.size
        for p, q in zip(x, y, strict=True)
    ]

    assert mse(x, y).dtype == np.float64
    assert mse(x, y).tolist() == pytest.approx(expected, rel=1e-12)


def test_extremes_do_not_wrap():
    black, white = np.zeros((1, 4, 4, 1), dtype=np.uint8), np.full((1, 4, 4, 1), 255, dtype=np.uint8)

    assert mse(black, white).item() == mse(white, black).item() == 255.0**2
    assert psnr_db(black, white).item() == pytest.approx(0.0)


def test_psnr_follows_the_peak():
    x = np.zeros((2, 4, 4, 1), dtype=np.uint8)
    y = x.copy()
    y[1, 0, 0, 0] = 4

    assert psnr_db(x, y).tolist() == pytest.approx([np.inf, 10 * np.log10(255**2)])
    assert psnr_db(x, y, peak=1.0)[1] == pytest.approx(0.0)


def test_shapes_must_agree():
    with pytest.raises(MediaGeometryError, match="expected equal ones"):
        mse(batch(0), batch(1)[:1])
