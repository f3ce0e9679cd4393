"""Likelihoods of sounds: probabilities of 16-bit values that sum to one, by numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from models.sound_likelihoods import MuLawCategorical, SoundGaussian, SoundLikelihood, mu_law

LEVELS = torch.arange(-32768, 32768).float()


@pytest.mark.parametrize(
    "likelihood", [SoundGaussian("learned", 0.05), SoundGaussian("shared", 0.2), MuLawCategorical()]
)
def test_the_16_bit_values_have_probabilities_that_sum_to_one(likelihood: SoundLikelihood) -> None:
    torch.manual_seed(0)
    h = 3.0 * torch.randn(1, likelihood.outputs_per_channel, 1)
    params = {name: value.expand(65536, *value.shape[1:]) for name, value in likelihood.params(h).items()}
    log_p = likelihood.pixel_log_prob(LEVELS[:, None] / 32768.0, params)
    assert log_p.shape == (65536, 1)
    assert log_p.dtype == torch.float64
    assert (log_p <= 0).all()
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-9)


def test_a_normal_is_integrated_over_each_bin() -> None:
    likelihood = SoundGaussian("learned", 0.9)
    h = torch.randn(2, 2, 7, generator=torch.Generator().manual_seed(0))
    params = likelihood.params(h)
    x = torch.tensor([[0.0, 0.1, -0.3, 1.0, -1.0, 1e-6, 0.5]] * 2)
    location = 0.125 * params["location"].double().numpy(force=True)
    scale = 0.125 * params["log_scale"].double().exp().numpy(force=True)
    level = np.clip(np.rint(x.numpy() * 32768.0), -32768, 32767)
    above, below = (level + 0.5) / 32768.0, (level - 0.5) / 32768.0
    above[level == 32767], below[level == -32768] = np.inf, -np.inf
    # The tail that is smaller, of which the difference is known to more digits.
    upper = norm.sf(below, location, scale) - norm.sf(above, location, scale)
    lower = norm.cdf(above, location, scale) - norm.cdf(below, location, scale)
    expected = np.log(np.where(below > location, upper, lower))
    assert likelihood.pixel_log_prob(x, params).numpy(force=True) == pytest.approx(expected, rel=1e-6)
    assert likelihood.log_prob(x, params).numpy(force=True) == pytest.approx(expected.sum(1), rel=1e-6)


def test_mu_law_classes_are_those_of_the_standard_curve() -> None:
    x = np.linspace(-1.0, 32767 / 32768, 999)
    bent = np.sign(x) * np.log(1.0 + 255.0 * np.abs(x)) / np.log(256.0)
    expected = np.rint((bent + 1.0) / 2.0 * 255.0)
    assert np.array_equal(mu_law(torch.from_numpy(x * 32768.0)).numpy(), expected)
    assert mu_law(LEVELS).unique().tolist() == list(range(256))


def test_mu_law_draws_what_its_logits_say() -> None:
    likelihood = MuLawCategorical()
    logits = torch.full((1, 256, 4000), -30.0)
    logits[:, 10], logits[:, 200] = 1.0, 1.0 + np.log(3.0)
    params = likelihood.params(logits)
    noise = (torch.arange(4000) + 0.5) / 4000.0
    drawn = likelihood.sample(params, noise[None])[0]
    found = mu_law(drawn * 32768.0)
    assert torch.bincount(found)[[10, 200]].tolist() == [1000, 3000]
    assert torch.equal(drawn * 32768.0, (drawn * 32768.0).round())
    assert likelihood.mean(params)[0, 0].item() == pytest.approx(drawn.mean().item(), abs=1e-3)


@pytest.mark.parametrize("likelihood", [SoundGaussian("learned", 0.05), MuLawCategorical()])
def test_samples_follow_the_mean(likelihood: SoundLikelihood) -> None:
    h = torch.randn(1, likelihood.outputs_per_channel, 1, generator=torch.Generator().manual_seed(1))
    params = likelihood.params(h.expand(-1, -1, 20_000))
    noise = (torch.arange(20_000) + 0.5) / 20_000.0
    drawn = likelihood.sample(params, noise[None])
    assert drawn.mean().item() == pytest.approx(likelihood.mean(params)[0, 0].item(), abs=2e-3)
    assert drawn.abs().max() <= 1.0
