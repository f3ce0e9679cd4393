"""A model whose log p(x) is known: x = W z + b + noise with orthogonal columns, so that its posterior is diagonal."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from models.continuous import VectorBottleneck
from models.likelihoods import Gaussian
from models.model import LatentVariableModel
from models.posteriors import DiagonalGaussianPosterior
from models.priors import StandardNormal

DATA, LATENT, SCALE = 12, 4, 0.6


class Constant(nn.Module):
    """A linear encoder with a constant log-variance: W h + b for the mean."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, log_variance: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.log_variance = weight, bias, log_variance

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.flatten(1) @ self.weight.T + self.bias
        return torch.cat([mean, self.log_variance.expand_as(mean)], dim=1)


def linear_gaussian(shift: float = 0.0) -> tuple[LatentVariableModel, np.ndarray, np.ndarray]:
    """Compose the model with its exact posterior, its mean moved by `shift`; with p(x)'s mean and covariance."""
    random = np.random.default_rng(5)
    orthogonal = np.linalg.qr(random.normal(size=(DATA, LATENT)))[0]
    w = orthogonal * np.array([2.0, 1.3, 0.7, 0.2])
    b = random.normal(size=DATA)
    variance = 1.0 / (1.0 + (w**2).sum(0) / SCALE**2)
    gain = variance[:, None] * w.T / SCALE**2

    def tensor(value: np.ndarray) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float32)

    encoder = Constant(tensor(gain), tensor(shift - gain @ b), tensor(np.log(variance)))
    decoder = nn.Sequential(nn.Linear(LATENT, DATA), nn.Unflatten(1, (DATA, 1, 1)))
    with torch.no_grad():
        decoder[0].weight.copy_(tensor(w))
        decoder[0].bias.copy_(tensor(b))
    bottleneck = VectorBottleneck(DiagonalGaussianPosterior(LATENT), StandardNormal(LATENT))
    model = LatentVariableModel(encoder, bottleneck, decoder, Gaussian("fixed", SCALE)).eval()
    model.requires_grad_(False)
    return model, b, w @ w.T + SCALE**2 * np.eye(DATA)


def data(count: int, mean: np.ndarray, covariance: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    x = np.random.default_rng(6).multivariate_normal(mean, covariance, size=count).astype(np.float32)
    exact = stats.multivariate_normal(mean, covariance).logpdf(x.astype(np.float64))
    return torch.from_numpy(x).reshape(count, 1, 1, DATA), exact


def test_elbo_with_the_exact_posterior_is_log_p_for_any_noise() -> None:
    model, mean, covariance = linear_gaussian()
    x, exact = data(200, mean, covariance)
    for seed in range(5):
        noise = torch.randn(200, 3, LATENT, generator=torch.Generator().manual_seed(seed)) * (1 + seed)
        bound = model.bound(x, noise)
        np.testing.assert_allclose(bound.log_weights.numpy(), np.repeat(exact[:, None], 3, 1), atol=1e-4)
        np.testing.assert_allclose((bound.reconstruction - bound.sampled_rate).numpy(), exact, atol=1e-4)
        np.testing.assert_allclose(bound.iwae.numpy(), exact, atol=1e-4)


def test_elbo_in_closed_form_is_log_p_on_average() -> None:
    model, mean, covariance = linear_gaussian()
    x, exact = data(50, mean, covariance)
    noise = torch.randn(50, 4000, LATENT, generator=torch.Generator().manual_seed(1))
    bound = model.bound(x, noise)
    error = bound.log_p_x_given_z.std(1).numpy() / math.sqrt(4000)
    assert (np.abs(bound.elbo.numpy() - exact) < 5 * error).all()


def test_iwae_approaches_log_p_from_below() -> None:
    model, mean, covariance = linear_gaussian(shift=0.4)
    x, exact = data(400, mean, covariance)
    gaps = []
    for samples in (1, 5, 50, 500):
        noise = torch.randn(400, samples, LATENT, generator=torch.Generator().manual_seed(samples))
        gap = exact - model.bound(x, noise).iwae.numpy()
        gaps.append(gap.mean())
        assert gap.mean() > -4 * gap.std() / math.sqrt(len(gap))
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.5
    assert gaps[-1] < 0.05


def test_log_weight_equals_the_bound_of_the_same_noise() -> None:
    model, mean, covariance = linear_gaussian(shift=0.2)
    x, _ = data(7, mean, covariance)
    noise = torch.randn(7, 6, LATENT, generator=torch.Generator().manual_seed(2))
    weights, bound = model.log_weight(x, model.encode(x), noise), model.bound(x, noise)
    assert all(term.dtype == torch.float64 for term in weights)
    assert weights.log_p_x_given_z.tolist() == bound.log_p_x_given_z.tolist()
    assert (weights.log_p_z - weights.log_q).flatten().tolist() == pytest.approx(
        (bound.log_p_z - bound.log_q).flatten().tolist(), abs=1e-5
    )
