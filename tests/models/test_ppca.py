"""Probabilistic PCA against scipy: its density, its optimum, and the bound that its exact posterior makes tight."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from models.families.ppca import PPCAConfig
from models.networks import ImageShape
from models.ppca import PPCA, LinearGaussian, closed_form, em_step

SHAPE, PIXELS, LATENT = ImageShape(3, 2, 2), 12, 3


def some_data(count: int = 400, seed: int = 0) -> np.ndarray:
    """Give vectors with a few strong directions, as pictures have."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(5, PIXELS)) * np.array([[2.0], [1.0], [0.8], [0.4], [0.3]])
    return (
        random.normal(size=(count, 5)) @ mixing + 0.3 * random.normal(size=(count, PIXELS)) + random.normal(size=PIXELS)
    )


def moments(data: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(data.mean(0)), torch.tensor(np.cov(data.T, bias=True))


def covariance_of(found: LinearGaussian) -> np.ndarray:
    weight = found.weight.numpy()
    return weight @ weight.T + found.variance.item() * np.eye(len(weight))


def mean_logpdf(found: LinearGaussian, data: np.ndarray) -> float:
    return stats.multivariate_normal(found.location.numpy(), covariance_of(found)).logpdf(data).mean()


@pytest.fixture
def model() -> PPCA:
    torch.manual_seed(0)
    return PPCAConfig(family="ppca", latent=LATENT).build(SHAPE).eval().requires_grad_(False)


def test_mean_log_prob_of_moments_is_that_of_the_data() -> None:
    data = some_data()
    mean, covariance = moments(data)
    found = LinearGaussian(torch.randn(PIXELS, LATENT).double(), mean, torch.tensor(0.7).double())
    assert found.mean_log_prob(covariance) == pytest.approx(mean_logpdf(found, data), abs=1e-9)


def test_closed_form_is_the_maximum_that_an_optimiser_finds() -> None:
    data = some_data()
    mean, covariance = moments(data)
    best = closed_form(mean, covariance, LATENT)

    def read(numbers: np.ndarray) -> LinearGaussian:
        weight = torch.tensor(numbers[:-1]).reshape(PIXELS, LATENT)
        return LinearGaussian(weight, mean, torch.tensor(numbers[-1]).exp())

    start = np.append(np.random.default_rng(1).normal(size=PIXELS * LATENT), 0.0)
    found = optimize.minimize(lambda numbers: -mean_logpdf(read(numbers), data), start, tol=1e-10)
    assert -found.fun == pytest.approx(best.mean_log_prob(covariance), abs=1e-5)
    np.testing.assert_allclose(covariance_of(read(found.x)), covariance_of(best), atol=5e-3)


def test_em_never_falls_and_ends_at_the_closed_form() -> None:
    data = some_data()
    mean, covariance = moments(data)
    now = LinearGaussian(
        torch.randn(PIXELS, LATENT, generator=torch.Generator().manual_seed(2)).double(), mean, mean.new_ones(())
    )
    reached = [mean_logpdf(now, data)]
    for _ in range(300):
        now = em_step(now, covariance)
        reached.append(mean_logpdf(now, data))
    assert (np.diff(reached) > -1e-10).all()
    assert reached[-1] - reached[0] > 1.0
    assert reached[-1] == pytest.approx(closed_form(mean, covariance, LATENT).mean_log_prob(covariance), abs=1e-3)


def test_an_em_step_is_the_maximum_of_the_expected_log_probability() -> None:
    """Against the M-step of a regression of x on z, its moments taken by many samples of the posterior."""
    data = some_data(60)
    mean, covariance = moments(data)
    now = LinearGaussian(
        torch.randn(PIXELS, LATENT, generator=torch.Generator().manual_seed(3)).double(), mean, mean.new_ones(())
    )
    inverse = np.linalg.inv(now.weight.numpy().T @ now.weight.numpy() + np.eye(LATENT))
    residual = data - mean.numpy()
    z = residual @ now.weight.numpy() @ inverse
    second = len(data) * inverse + z.T @ z
    weight = residual.T @ z @ np.linalg.inv(second)
    error = (residual**2).sum() - 2 * (residual * (z @ weight.T)).sum() + np.trace(second @ weight.T @ weight)
    found = em_step(now, covariance)
    np.testing.assert_allclose(found.weight.numpy(), weight, rtol=1e-9)
    assert found.variance.item() == pytest.approx(error / residual.size, rel=1e-9)


def test_dimensions_that_leave_no_noise_are_refused() -> None:
    mean, covariance = moments(some_data())
    with pytest.raises(ValueError, match="give z fewer"):
        closed_form(mean, covariance, PIXELS)
    with pytest.raises(ValueError, match="without noise"):
        closed_form(mean, torch.diag(torch.tensor([1.0, 2.0] + [0.0] * 10)).double(), LATENT)
    with pytest.raises(ValueError, match="use fewer dimensions"):
        PPCAConfig(family="ppca", latent=PIXELS).build(SHAPE)


def pictures(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 2, 2, 3), generator=torch.Generator().manual_seed(4)).byte()


def test_exact_log_prob_is_scipys_density_over_grey_levels(model: PPCA) -> None:
    x = pictures(20)
    given = model.parameters_of_x()
    mean = given.location.numpy() * 127.5 + 127.5
    expected = stats.multivariate_normal(mean, covariance_of(given) * 127.5**2)
    flat = x.permute(0, 3, 1, 2).flatten(1).numpy().astype(np.float64)
    found = model.exact_log_prob(x)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected.logpdf(flat), rtol=1e-9)


def test_elbo_with_the_exact_posterior_is_log_p_for_any_noise(model: PPCA) -> None:
    model.put(replace(model.parameters_of_x(), weight=torch.randn(PIXELS, LATENT).double()))
    x = pictures(20)
    for size in (1.0, 3.0):
        noise = size * torch.randn(20, 4, LATENT, generator=torch.Generator().manual_seed(int(size)))
        bound, exact = model.bound(x, noise), model.exact_log_prob(x)
        np.testing.assert_allclose(bound.log_weights.numpy(), exact.unsqueeze(1).expand(20, 4).numpy(), atol=2e-3)
        np.testing.assert_allclose(bound.iwae.numpy(), exact.numpy(), atol=2e-3)


def test_parameters_that_are_put_are_those_that_it_has(model: PPCA) -> None:
    given = LinearGaussian(
        torch.randn(PIXELS, LATENT).double(), torch.randn(PIXELS).double(), torch.tensor(0.02).double()
    )
    model.put(given)
    found = model.parameters_of_x()
    np.testing.assert_allclose(found.weight, given.weight, rtol=1e-6)
    np.testing.assert_allclose(found.location, given.location, rtol=1e-6)
    assert found.variance.item() == pytest.approx(0.02, rel=1e-5)


def test_the_gradient_of_the_bound_is_that_of_log_p(model: PPCA) -> None:
    x = pictures(6)
    model.requires_grad_(True)
    torch.autograd.backward(model.bound(x, torch.randn(6, 1, LATENT)).log_weights.sum())
    by_bound = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.exact_log_prob(x).sum().backward()
    for one, other in zip(by_bound, model.parameters(), strict=True):
        np.testing.assert_allclose(one, other.grad, rtol=1e-2, atol=1e-2 * other.grad.abs().max())
