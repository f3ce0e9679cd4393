"""Priors over real vectors against scipy, numpy and numerical minimisation."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch import nn
from torch.optim.swa_utils import AveragedModel

from models.distributions import DiagonalGaussian
from models.families.real_priors import AR1Config, VampConfig
from models.families.vae import MLPConfig, VAEConfig
from models.flows import AffineCoupling, Flow
from models.networks import ImageShape
from models.posteriors import DiagonalGaussianPosterior, FullCovariancePosterior
from models.priors import AR1, FlowPrior, VampPrior

STEPS, ALPHAS = 5, (0.9, -0.4, 0.0)


def covariance(steps: int, alphas: tuple[float, ...]) -> np.ndarray:
    """Give that of the sequence, step after step: alpha^|s - t| within a channel."""
    lags = np.abs(np.subtract.outer(np.arange(steps), np.arange(steps)))
    whole = np.zeros((steps, len(alphas), steps, len(alphas)))
    for channel, alpha in enumerate(alphas):
        whole[:, channel, :, channel] = np.float64(alpha) ** lags
    return whole.reshape(steps * len(alphas), -1)


def test_ar1_is_scipys_normal() -> None:
    prior = AR1(STEPS, ALPHAS)
    z = torch.randn(2, 4, STEPS * len(ALPHAS), generator=torch.Generator().manual_seed(0))
    expected = stats.multivariate_normal(np.zeros(z.shape[-1]), covariance(STEPS, ALPHAS)).logpdf(z.double().numpy())
    np.testing.assert_allclose(prior.log_prob(z), expected, rtol=1e-5)


def test_ar1_samples_have_its_covariance() -> None:
    dimensions = STEPS * len(ALPHAS)
    factor = AR1(STEPS, ALPHAS).sample(torch.eye(dimensions), torch.ones(dimensions))
    np.testing.assert_allclose(factor.T @ factor, covariance(STEPS, ALPHAS), atol=1e-6)
    colder = AR1(STEPS, ALPHAS).sample(torch.eye(dimensions), torch.full((dimensions,), 0.5))
    np.testing.assert_allclose(colder, 0.5 * factor, atol=1e-7)


def test_ar1_kl_is_the_general_one_of_two_normals() -> None:
    generator = torch.Generator().manual_seed(1)
    q = DiagonalGaussian(*torch.randn(2, 3, STEPS * len(ALPHAS), generator=generator))
    normal = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(
        normal(q.mean.double(), torch.diag_embed(q.log_variance.double().exp())),
        normal(torch.zeros(q.mean.shape[1]).double(), torch.from_numpy(covariance(STEPS, ALPHAS))),
    )
    found = AR1(STEPS, ALPHAS).kl(q)
    assert found is not None
    np.testing.assert_allclose(found, expected[:, None], rtol=1e-5)
    full = FullCovariancePosterior(STEPS * len(ALPHAS))
    assert AR1(STEPS, ALPHAS).kl(full.distribution(full.params(torch.zeros(1, full.outputs)))) is None


@pytest.mark.parametrize(("steps", "alphas"), [(2, (0.8,)), (4, (0.95, 0.3))])
def test_ar1_minimum_rate_is_what_a_minimiser_finds(steps: int, alphas: tuple[float, ...]) -> None:
    prior, dimensions = AR1(steps, alphas).double(), steps * len(alphas)

    def rate(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        values = torch.from_numpy(parameters).requires_grad_()
        kl = prior.kl(DiagonalGaussian(*values.view(2, 1, dimensions)))
        assert kl is not None
        (gradient,) = torch.autograd.grad(kl.sum(), values)
        return kl.item(), gradient.numpy()

    start = np.random.default_rng(0).normal(size=2 * dimensions)
    found = optimize.minimize(rate, start, jac=True, method="BFGS")
    assert found.fun == pytest.approx(prior.minimum_rate_nats, abs=1e-6)


@pytest.mark.parametrize("rate", [0.01, 1.0, 8.0])
@pytest.mark.parametrize(("steps", "channels"), [(2, 3), (16, 1)])
def test_ar1_commits_the_rate_that_it_is_asked_for(steps: int, channels: int, rate: float) -> None:
    prior = AR1.committed(steps, channels, rate)
    assert prior.minimum_rate_nats == pytest.approx(rate, rel=1e-9)
    if steps == 2:
        assert prior.alphas[0] == pytest.approx(np.sqrt(1 - np.exp(-2 * rate / channels)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AR1(1, (0.5,)), "at least 2 steps"),
        (lambda: AR1(3, (1.0,)), "-1 < alpha < 1"),
        (lambda: AR1.committed(4, 1, 0.0), "above 0 nats"),
        (lambda: AR1.committed(2, 1, 60.0), "are too much for 2 steps"),
        (AR1Config, "give one of them"),
        (lambda: AR1Config(alpha=0.5, rate_nats=1.0), "give one of them"),
    ],
)
def test_an_ar1_prior_out_of_range_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"latent": 7, "prior": {"kind": "ar1", "channels": 3, "alpha": 0.5}}, "make model.latent a multiple"),
        ({"latent": 1, "prior": {"kind": "flow"}}, "set model.latent to 2 or more"),
        ({"posterior": {"kind": "coupling"}, "prior": {"kind": "vamp"}}, "set model.posterior.kind = 'diagonal'"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(parts: dict[str, object], message: str) -> None:
    config = VAEConfig.model_validate({"network": {"kind": "mlp", "hidden": (4,)}} | parts)
    with pytest.raises(ValueError, match=message):
        config.build(ImageShape(1, 4, 4))


def test_a_flow_prior_integrates_to_one_and_samples_go_its_way_back() -> None:
    torch.manual_seed(0)
    prior = FlowPrior(2, Flow([AffineCoupling(2, 0, 8, even=even) for even in (True, False)]))
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    axis = torch.linspace(-15.0, 15.0, 601)
    density = prior.log_prob(torch.cartesian_prod(axis, axis)).detach().double().exp()
    assert density.sum().item() * 0.05**2 == pytest.approx(1.0, abs=1e-3)
    noise = torch.randn(5, 2)
    z = prior.sample(noise, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0]))
    expected = noise * torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0])[:, None]
    torch.testing.assert_close(prior.flow(z).z, expected, rtol=1e-4, atol=1e-5)


K, D = 7, 3


def vamp() -> tuple[VampPrior, nn.Module]:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(8, 2 * D))
    return VampPrior(encoder, DiagonalGaussianPosterior(D), K, (2, 2, 2)), encoder


def test_the_vamp_prior_is_numpys_mixture() -> None:
    prior, encoder = vamp()
    z = 3.0 * torch.randn(4, 2, D)
    mean, log_variance = np.split(encoder(torch.tanh(prior.logits)).detach().double().numpy(), 2, axis=1)
    by_component = stats.norm.logpdf(z.double().numpy()[:, :, None], mean, np.exp(0.5 * log_variance)).sum(-1)
    expected = special.logsumexp(by_component, axis=-1) - np.log(K)
    np.testing.assert_allclose(prior.log_prob(z).detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(prior.for_export().log_prob(z), expected, rtol=1e-6)


def test_one_number_chooses_the_vamp_priors_component() -> None:
    prior, encoder = vamp()
    noise = torch.randn(200, prior.noise_dimensions)
    component = np.floor(K * stats.norm.cdf(noise[:, 0].double().numpy())).astype(int)
    assert set(component) == set(range(K))
    mean, log_variance = encoder(torch.tanh(prior.logits)).detach()[component].chunk(2, dim=1)
    expected = mean + 0.5 * (0.5 * log_variance).exp() * noise[:, 1:]
    found = prior.for_export().sample(noise, torch.full((200,), 0.5))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_vamp_priors_encoder_is_its_own_models_through_copies_and_averages() -> None:
    config = VAEConfig(latent=2, network=MLPConfig(hidden=(5,)), prior=VampConfig(components=3))
    model, z = config.build(ImageShape(1, 3, 3)), torch.randn(4, 2)
    names = set(model.bottleneck.state_dict())
    assert names == {"prior.logits"}
    assert sum(1 for name, _ in model.named_parameters() if "encoder" in name) == 4
    for copied in (deepcopy(model), AveragedModel(model).module):
        before = copied.bottleneck.prior.log_prob(z)
        assert torch.equal(before, model.bottleneck.prior.log_prob(z))
        with torch.no_grad():
            copied.encoder[-1].bias.add_(1.0)
        assert not torch.equal(copied.bottleneck.prior.log_prob(z), before)
        assert torch.equal(model.bottleneck.prior.log_prob(z), before)
    other = config.build(ImageShape(1, 3, 3))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.bottleneck.prior.log_prob(z), model.bottleneck.prior.log_prob(z))
