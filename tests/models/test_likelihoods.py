"""Likelihoods against closed forms and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from models.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretizedGaussian,
    Gaussian,
    GreyLevelGaussian,
    Likelihood,
    LogisticMixture,
)

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


@pytest.mark.parametrize("variance", ["fixed", "shared", "learned", "optimal"])
def test_only_shared_and_learned_scales_are_parameters(variance: str) -> None:
    count = len(list(Gaussian(variance, 1.0).parameters()))
    assert count == (1 if variance in ("shared", "learned") else 0)


@pytest.mark.parametrize("kind", [GreyLevelGaussian, DiscretizedGaussian])
def test_the_optimal_scale_of_a_batch_is_the_best_of_all_scales(kind: type[Gaussian]) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(50, 3, 4, 4, generator=generator) - 0.5
    x = (127.5 + 127.5 * h + 9.0 * torch.randn(h.shape, generator=generator)).permute(0, 2, 3, 1).round().clamp(0, 255)
    likelihood = kind("optimal", 40.0)
    found = likelihood.log_prob(x, likelihood.params(h)).sum().item()
    scales = np.linspace(8.5, 9.5, 101)
    fixed = [kind("fixed", scale) for scale in scales]
    totals = [other.log_prob(x, other.params(h)).sum().item() for other in fixed]
    assert found == pytest.approx(max(totals), rel=1e-6)
    assert found >= max(totals) - 1e-3
    best = scales[int(np.argmax(totals))]
    for _ in range(200):
        likelihood.log_prob(x, likelihood.params(h))
    kept = likelihood.eval().params(h)["log_scale"].exp() * 127.5
    assert kept.min() == kept.max()
    assert kept[0, 0, 0, 0].item() == pytest.approx(best, abs=0.011)


def test_the_average_of_the_optimal_scale_moves_in_training_alone() -> None:
    likelihood = GreyLevelGaussian("optimal", 40.0).eval()
    h, x = torch.zeros(2, 1, 3, 3), torch.full((2, 3, 3, 1), 100, dtype=torch.uint8)
    before = likelihood.log_prob(x, likelihood.params(h))
    assert torch.equal(likelihood.log_prob(x, likelihood.params(h)), before)
    assert before[0].item() == pytest.approx(stats.norm.logpdf(100, 127.5, 40.0) * 9, rel=1e-6)
    likelihood.train().log_prob(x, likelihood.params(h))
    assert likelihood.eval().params(h)["log_scale"].exp()[0, 0, 0, 0].item() * 127.5 < 40.0


MIXTURE = torch.tensor([0.3, -1.0, 0.8, -0.95, 0.1, 1.02, -2.0, -4.0, -7.5])
"""Logits, locations and log-scales of three components: two near the ends, one narrower than a value."""


def mixture_probabilities(params: dict[str, torch.Tensor]) -> np.ndarray:
    """Give P(0) .. P(255) of the mixture of one pixel by scipy."""
    logits, location, log_scale = (
        params[name][0, 0, 0, 0].double().numpy() for name in ("logits", "location", "log_scale")
    )
    logistic = stats.logistic(127.5 + 127.5 * location[:, None], 127.5 * np.exp(log_scale)[:, None])
    below = logistic.cdf(np.arange(255.0) + 0.5)
    edges = np.concatenate([np.zeros((3, 1)), below, np.ones((3, 1))], axis=1)
    return special.softmax(logits) @ np.diff(edges, axis=1)


def test_logistic_mixture_sums_to_one_and_equals_scipy() -> None:
    likelihood = LogisticMixture(3)
    params = likelihood.params(MIXTURE.reshape(1, 9, 1, 1))
    found = likelihood.log_prob(ALL_VALUES, params).numpy()
    assert special.logsumexp(found) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(np.exp(found), mixture_probabilities(params), rtol=1e-9, atol=1e-13)


def test_logistic_mixture_has_a_mixture_for_each_channel() -> None:
    likelihood = LogisticMixture(2)
    h = torch.randn(4, 18, 3, 5, generator=torch.Generator().manual_seed(0))
    x = torch.randint(0, 256, (4, 3, 5, 3), generator=torch.Generator().manual_seed(1)).byte()
    apart = [likelihood.log_prob(x[..., c : c + 1], likelihood.params(h[:, 6 * c : 6 * c + 6])) for c in range(3)]
    np.testing.assert_allclose(likelihood.log_prob(x, likelihood.params(h)), sum(apart), rtol=1e-6)


def test_far_values_of_a_narrow_mixture_stay_finite_and_have_gradients() -> None:
    likelihood = LogisticMixture(1)
    h = torch.tensor([0.0, 1.0, -30.0]).reshape(1, 3, 1, 1).requires_grad_()
    log_p = likelihood.log_prob(torch.full((1, 1, 1, 1), 3, dtype=torch.uint8), likelihood.params(h))
    log_p.sum().backward()
    assert -3000 < log_p.item() < -2000
    assert torch.isfinite(h.grad).all()


def test_categorical_probabilities_are_the_softmax() -> None:
    likelihood = Categorical()
    h = 3 * torch.randn(1, 512, 1, 1, generator=torch.Generator().manual_seed(0))
    both = ALL_VALUES.expand(256, 1, 1, 2)
    found = likelihood.element_log_prob(both, likelihood.params(h.expand(256, 512, 1, 1)))
    expected = special.log_softmax(h.double().numpy().reshape(2, 256), axis=1)
    np.testing.assert_allclose(found[:, 0, 0].numpy(), expected.T, rtol=1e-12)
    assert special.logsumexp(found[:, 0, 0, 0].numpy()) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "h"),
    [
        (LogisticMixture(3), MIXTURE.reshape(1, 9, 1, 1)),
        (Categorical(), torch.linspace(-3, 3, 256).sin().mul(4).reshape(1, 256, 1, 1)),
    ],
)
def test_samples_are_the_inverse_of_the_cumulative_distribution(likelihood: Likelihood, h: torch.Tensor) -> None:
    params = likelihood.params(h)
    p = np.exp(likelihood.log_prob(ALL_VALUES, likelihood.params(h.expand(256, -1, 1, 1))).numpy())
    noise = torch.arange(4096).reshape(-1, 1, 1, 1) / 4096
    drawn = likelihood.sample({name: value.expand(4096, *value.shape[1:]) for name, value in params.items()}, noise)
    assert drawn.dtype == torch.uint8
    expected = np.searchsorted(np.cumsum(p), noise.flatten().double().numpy(), side="right")
    np.testing.assert_array_equal(drawn.flatten().numpy(), expected)
    assert likelihood.mean(params).item() == pytest.approx(p @ np.arange(256), abs=0.02)


def test_a_scale_below_the_floor_is_refused() -> None:
    with pytest.raises(ValueError, match="standard deviation above"):
        DiscretizedGaussian("fixed", 0.05)


@pytest.mark.parametrize(
    ("likelihood", "h"),
    [
        (Bernoulli(), torch.full((1, 1, 1, 1), 0.8)),
        (DiscretizedGaussian("fixed", 20.0), torch.full((1, 1, 1, 1), 0.2)),
        (Gaussian("fixed", 0.5), torch.full((1, 1, 1, 1), 0.2)),
        (LogisticMixture(1), torch.tensor([0.0, 0.3, -2.0]).reshape(1, 3, 1, 1)),
    ],
)
def test_samples_have_the_mean_that_is_promised(likelihood: Likelihood, h: torch.Tensor) -> None:
    params = {name: value.expand(20_000, *value.shape[1:]) for name, value in likelihood.params(h).items()}
    noise = torch.rand(20_000, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    drawn = likelihood.sample(params, noise).double()
    error = drawn.std() / math.sqrt(len(drawn))
    assert abs(drawn.mean() - likelihood.mean(params)[0].double().item()).item() < 4 * error


def test_network_input_is_centred() -> None:
    x = torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1)
    for likelihood in (Bernoulli(), DiscretizedGaussian("fixed", 3.0), LogisticMixture(2), Categorical()):
        assert likelihood.network_input(x).flatten().tolist() == pytest.approx([-1.0, 1.0])
