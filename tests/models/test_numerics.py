"""Special functions against scipy."""

import numpy as np
import pytest
import torch
from scipy import special, stats

from models.numerics import event_sum, log_ndtr, log_normal_interval


def test_log_ndtr_is_scipys_in_both_tails() -> None:
    x = np.linspace(-60.0, 8.0, 20_001)
    np.testing.assert_allclose(log_ndtr(torch.from_numpy(x)).numpy(), special.log_ndtr(x), rtol=1e-9, atol=1e-15)


def test_log_ndtr_has_the_right_gradient() -> None:
    x = torch.linspace(-20.0, 6.0, 101, dtype=torch.float64, requires_grad=True)
    log_ndtr(x).sum().backward()
    expected = np.exp(stats.norm.logpdf(x.detach().numpy()) - special.log_ndtr(x.detach().numpy()))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("width", [1e-4, 0.01, 0.3, 2.0, 20.0])
def test_intervals_equal_the_integral_of_the_density(width: float) -> None:
    centre = np.linspace(-12.0, 12.0, 241)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    points = centre[:, None] + 0.5 * width * nodes
    log_density = stats.norm.logpdf(points)
    expected = special.logsumexp(log_density, b=weights * 0.5 * width, axis=1)
    found = log_normal_interval(torch.from_numpy(centre), torch.tensor(width, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_event_sum_keeps_more_digits_than_float32() -> None:
    values = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 10
    exact = values.double().sum((1, 2, 3))
    assert event_sum(values).dtype == torch.float64
    np.testing.assert_allclose(event_sum(values).numpy(), exact.numpy(), rtol=2e-8)
