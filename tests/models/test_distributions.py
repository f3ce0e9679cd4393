"""Distributions and priors against scipy."""

import math

import numpy as np
import torch
from scipy import special, stats

from models.distributions import DiagonalGaussian, log_mean_exp
from models.priors import StandardNormal


def gaussian() -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(0)
    return DiagonalGaussian(torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator))


def test_log_prob_is_scipys() -> None:
    q, z = gaussian(), torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1))
    expected = stats.norm.logpdf(
        z.numpy(), q.mean.unsqueeze(1).numpy(), (0.5 * q.log_variance).exp().unsqueeze(1).numpy()
    ).sum(-1)
    np.testing.assert_allclose(q.log_prob(z).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_samples_have_the_moments() -> None:
    q, noise = gaussian(), torch.randn(3, 40_000, 5, generator=torch.Generator().manual_seed(2))
    z = q.rsample(noise)
    error = (0.5 * q.log_variance).exp() / math.sqrt(40_000)
    assert ((z.mean(1) - q.mean).abs() < 5 * error).all()


def test_kl_is_the_expectation_of_the_log_ratio() -> None:
    q, noise = gaussian(), torch.randn(3, 100_000, 5, generator=torch.Generator().manual_seed(3))
    z = q.rsample(noise)
    ratio = q.log_prob(z) - StandardNormal(5).log_prob(z)
    error = ratio.std(1) / math.sqrt(100_000)
    assert ((StandardNormal(5).kl(q).sum(1) - ratio.mean(1)).abs() < 5 * error).all()


def test_detach_cuts_the_gradient() -> None:
    q = DiagonalGaussian(torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)).detach()
    assert not q.mean.requires_grad
    assert not q.log_variance.requires_grad


def test_the_standard_normals_samples_are_its_noise() -> None:
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(4))
    temperature = torch.tensor([1.0, 1.0, 0.5, 0.0])
    assert torch.equal(StandardNormal(3).sample(noise, temperature), noise * temperature[:, None])


def test_log_mean_exp_is_scipys() -> None:
    values = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 300
    expected = special.logsumexp(values.numpy(), axis=1) - math.log(9)
    np.testing.assert_allclose(log_mean_exp(values).numpy(), expected, rtol=1e-12)
