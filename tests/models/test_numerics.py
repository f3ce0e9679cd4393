"""Special functions against scipy."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from models.numerics import event_sum, log_ndtr, log_normal_bin


def test_log_ndtr_is_scipys_in_both_tails() -> None:
    x = np.linspace(-60.0, 8.0, 20_001)
    np.testing.assert_allclose(log_ndtr(torch.from_numpy(x)).numpy(), special.log_ndtr(x), rtol=1e-9, atol=1e-15)


def test_log_ndtr_has_the_right_gradient() -> None:
    x = torch.linspace(-20.0, 6.0, 101, dtype=torch.float64, requires_grad=True)
    log_ndtr(x).sum().backward()
    expected = np.exp(stats.norm.logpdf(x.detach().numpy()) - special.log_ndtr(x.detach().numpy()))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-7, atol=1e-12)


CLOSED = torch.tensor(False)
OPEN = torch.tensor(True)


@pytest.mark.parametrize("width", [1e-4, 0.01, 0.3, 2.0, 20.0])
@pytest.mark.parametrize("learning", [False, True])
def test_bins_equal_the_integral_of_the_density(width: float, learning: bool) -> None:
    centre = np.linspace(-12.0, 12.0, 241)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    points = centre[:, None] + 0.5 * width * nodes
    log_density = stats.norm.logpdf(points)
    expected = special.logsumexp(log_density, b=weights * 0.5 * width, axis=1)
    given = torch.from_numpy(centre).requires_grad_(learning)
    half = torch.tensor(0.5 * width, dtype=torch.float64)
    found = log_normal_bin(given, half, CLOSED, CLOSED).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_open_bins_are_the_tails() -> None:
    centre, half = np.linspace(-30.0, 30.0, 301), 0.25
    given, width = torch.from_numpy(centre), torch.tensor(half, dtype=torch.float64)
    below, above = (log_normal_bin(given, width, *ends).numpy() for ends in ((OPEN, CLOSED), (CLOSED, OPEN)))
    np.testing.assert_allclose(below, special.log_ndtr(centre + half), rtol=1e-9)
    np.testing.assert_allclose(above, special.log_ndtr(half - centre), rtol=1e-9)


@pytest.mark.parametrize("ends", [(CLOSED, CLOSED), (OPEN, CLOSED), (CLOSED, OPEN)])
def test_bins_have_the_right_gradient(ends: tuple[torch.Tensor, torch.Tensor]) -> None:
    centre = torch.linspace(-9.0, 9.0, 37, dtype=torch.float64, requires_grad=True)
    half = torch.linspace(0.01, 2.0, 37, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *at: log_normal_bin(*at, *ends), (centre, half))


def test_event_sum_keeps_more_digits_than_float32() -> None:
    values = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 10
    exact = values.double().sum((1, 2, 3))
    assert event_sum(values).dtype == torch.float64
    np.testing.assert_allclose(event_sum(values).numpy(), exact.numpy(), rtol=2e-8)
