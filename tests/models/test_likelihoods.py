"""Likelihoods against closed forms and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from models.likelihoods import Bernoulli, DiscretizedGaussian, Gaussian, Likelihood

ALL_VALUES = torch.arange(256, dtype=torch.uint8).reshape(256, 1, 1, 1)


def one_pixel(value: float, count: int = 256) -> torch.Tensor:
    return torch.full((count, 1, 1, 1), value)


def test_bernoulli_probabilities_are_the_logistic_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, 3, 1, generator=generator) * 4
    x = (torch.rand(5, 4, 3, 1, generator=generator) > 0.5).to(torch.uint8) * 255
    p = special.expit(logits.double().numpy())
    expected = stats.bernoulli.logpmf(x.numpy() // 255, p).sum((1, 2, 3))
    np.testing.assert_allclose(Bernoulli().log_prob(x, {"logits": logits}).numpy(), expected, rtol=1e-5)


def test_bernoulli_probabilities_of_both_values_sum_to_one() -> None:
    x = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    total = Bernoulli().log_prob(x, {"logits": torch.full((2, 1, 1, 1), 1.7)}).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.5, 90.0])
@pytest.mark.parametrize("location", [-1.4, -1.0, 0.013, 0.9])
def test_discretized_gaussian_sums_to_one_and_equals_scipy(scale: float, location: float) -> None:
    likelihood = DiscretizedGaussian("fixed", scale)
    h = torch.full((256, 1, 1, 1), location)
    found = likelihood.log_prob(ALL_VALUES, likelihood.params(h)).numpy()
    assert special.logsumexp(found) == pytest.approx(0.0, abs=1e-9)
    normal = stats.norm(127.5 + 127.5 * np.float64(np.float32(location)), scale)
    x = np.arange(256.0)
    upper, lower = np.append(normal.cdf(x[:-1] + 0.5), 1.0), np.append(0.0, normal.cdf(x[1:] - 0.5))
    p = upper - lower
    central = p > 1e-6
    np.testing.assert_allclose(found[central], np.log(p[central]), rtol=1e-5, atol=1e-6)


def test_far_tails_stay_finite_and_have_gradients() -> None:
    likelihood = DiscretizedGaussian("learned", 1.0)
    h = torch.tensor([[1.0, -6.0]]).reshape(1, 2, 1, 1).requires_grad_()
    log_p = likelihood.log_prob(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), likelihood.params(h))
    log_p.sum().backward()
    assert math.isfinite(log_p.item())
    assert torch.isfinite(h.grad).all()


def test_gaussian_density_is_scipys() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 2, 2, 3, generator=generator)
    h = torch.randn(6, 6, 2, 2, generator=generator)
    likelihood = Gaussian("learned", 0.7)
    params = likelihood.params(h)
    expected = stats.norm.logpdf(
        x.double().numpy(), params["location"].double().detach().numpy(), params["log_scale"].double().detach().exp()
    ).sum((1, 2, 3))
    np.testing.assert_allclose(likelihood.log_prob(x, params).detach().numpy(), expected, rtol=1e-5)


def test_density_scales_with_its_unit() -> None:
    """The density of an intensity is that of a network unit divided by 127.5: the log-determinant of the scaling."""

    class Intensity(Gaussian):
        half_range, centre = 127.5, 127.5

    x = torch.full((1, 1, 1, 1), 200.0)
    likelihood = Intensity("fixed", 12.0)
    found = likelihood.log_prob(x, likelihood.params(torch.full((1, 1, 1, 1), 0.5))).item()
    assert found == pytest.approx(stats.norm.logpdf(200.0, 127.5 * 1.5, 12.0), rel=1e-5)


def test_fixed_scale_is_exactly_the_promised_one() -> None:
    params = Gaussian("fixed", 0.25).params(torch.zeros(1, 1, 1, 1))
    assert params["log_scale"].exp().item() == pytest.approx(0.25, rel=1e-6)


@pytest.mark.parametrize("variance", ["fixed", "shared", "learned"])
def test_only_shared_and_learned_scales_are_parameters(variance: str) -> None:
    count = len(list(Gaussian(variance, 1.0).parameters()))
    assert count == (0 if variance == "fixed" else 1)


def test_a_scale_below_the_floor_is_refused() -> None:
    with pytest.raises(ValueError, match="standard deviation above"):
        DiscretizedGaussian("fixed", 0.05)


@pytest.mark.parametrize(
    ("likelihood", "h"),
    [
        (Bernoulli(), torch.full((1, 1, 1, 1), 0.8)),
        (DiscretizedGaussian("fixed", 20.0), torch.full((1, 1, 1, 1), 0.2)),
        (Gaussian("fixed", 0.5), torch.full((1, 1, 1, 1), 0.2)),
    ],
)
def test_samples_have_the_mean_that_is_promised(likelihood: Likelihood, h: torch.Tensor) -> None:
    params = {name: value.expand(20_000, 1, 1, 1) for name, value in likelihood.params(h).items()}
    noise = torch.rand(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    drawn = likelihood.sample(params, noise).double()
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(drawn.mean() - likelihood.mean(params)[0].double().item()).item() < 4 * error


def test_network_input_is_centred() -> None:
    x = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1)
    for likelihood in (Bernoulli(), DiscretizedGaussian("fixed", 3.0)):
        assert likelihood.network_input(x).flatten().tolist() == pytest.approx([-1.0, 1.0])
