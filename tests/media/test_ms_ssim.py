import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as foreign_ms_ssim
from pytorch_msssim import ssim as foreign_ssim

from media.errors import MediaGeometryError
from media.ms_ssim import ms_ssim, scales_of


def _pictures(height, width, noise, channels=3):
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (2, height // 16, width // 16, channels)).astype(np.float64)
    x = coarse.repeat(16, axis=1).repeat(16, axis=2)
    y = x + noise * random.standard_normal(x.shape)
    return x.astype(np.uint8), np.clip(y, 0, 255).astype(np.uint8)


def _torch(x):
    return torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("noise", [3.0, 30.0, 120.0])
@pytest.mark.parametrize(("height", "width", "channels"), [(192, 256, 3), (176, 176, 1)])
def test_equals_a_foreign_implementation(height, width, channels, noise):
    x, y = _pictures(height, width, noise, channels)

    foreign = foreign_ms_ssim(_torch(x), _torch(y), data_range=255, size_average=False)

    np.testing.assert_allclose(ms_ssim(x, y), foreign.numpy(), atol=2e-5)


def test_one_scale_is_ssim():
    x, y = _pictures(48, 64, 40.0)

    foreign = foreign_ssim(_torch(x), _torch(y), data_range=255, size_average=False, nonnegative_ssim=True)

    np.testing.assert_allclose(ms_ssim(x, y, scales=1), foreign.numpy() ** 1.0001, atol=2e-5)


def test_identical_pictures_are_perfect_and_opposite_ones_are_not():
    x, _ = _pictures(176, 192, 0.0)

    np.testing.assert_allclose(ms_ssim(x, x), 1.0, atol=1e-6)
    assert (ms_ssim(x, 255 - x) < 0.1).all()


@pytest.mark.parametrize(("side", "scales"), [(10, 0), (11, 1), (21, 1), (22, 2), (175, 4), (176, 5), (2000, 5)])
def test_scales_that_a_picture_has(side, scales):
    assert scales_of(side, 3000) == scales


def test_refuses_what_cannot_be_compared():
    x, _ = _pictures(64, 64, 0.0)
    with pytest.raises(MediaGeometryError, match=r"ask for 1 \.\. 3"):
        ms_ssim(x, x)
    with pytest.raises(MediaGeometryError, match="expected at least 11 a side"):
        ms_ssim(x[:, :8], x[:, :8], scales=1)
    with pytest.raises(MediaGeometryError, match="expected equal ones"):
        ms_ssim(x, x[:, :32])
