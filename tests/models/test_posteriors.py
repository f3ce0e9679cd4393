"""Posteriors against scipy, other implementations, and integrals over a grid."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from models.continuous import VectorBottleneck
from models.distributions import DiagonalGaussian
from models.flows import AffineCoupling, Flow, InverseAutoregressive, Planar, Radial
from models.posteriors import FlowPosterior, FullCovariancePosterior
from models.posteriors.flow import FlowDistribution
from models.posteriors.full_covariance import FullCovarianceGaussian
from models.priors import StandardNormal

D, C = 4, 3


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def full_covariance() -> FullCovarianceGaussian:
    posterior = FullCovariancePosterior(D)
    params = posterior.params(torch.randn(3, posterior.outputs, generator=generator(0)))
    return posterior.distribution({name: value.double() for name, value in params.items()})


def flow_posterior(*, planar: bool = False, dimensions: int = D, scale: float = 0.3) -> FlowPosterior:
    torch.manual_seed(0)
    steps = [
        InverseAutoregressive(dimensions, C, 12, backwards=True),
        Radial(dimensions, C),
        AffineCoupling(dimensions, C, 12, even=True),
    ]
    posterior = FlowPosterior(dimensions, C, Flow([*steps, Planar(dimensions, C)] if planar else steps))
    with torch.no_grad():
        for weight in posterior.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return posterior


def test_full_covariance_log_q_is_scipys() -> None:
    q, noise = full_covariance(), torch.randn(3, 6, D, generator=generator(1)).double()
    z, log_q = q.draw(noise)
    for row in range(3):
        covariance = (q.factor[row] @ q.factor[row].T).numpy()
        expected = stats.multivariate_normal(q.mean[row].numpy(), covariance).logpdf(z[row].numpy())
        np.testing.assert_allclose(log_q[row], expected, rtol=1e-5)
        np.testing.assert_allclose(q.log_prob(z)[row], expected, rtol=1e-5)


def test_full_covariance_kl_is_the_general_one_of_two_normals() -> None:
    q = full_covariance()
    normal = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(
        normal(q.mean, scale_tril=q.factor), normal(torch.zeros(D), torch.eye(D))
    )
    found = StandardNormal(D).kl(q)
    assert found is not None
    assert found.shape == (3, 1)
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_full_covariance_factor_has_every_output_in_its_place() -> None:
    posterior = FullCovariancePosterior(3)
    mean, log_variance, below = [1.0, 2.0, 3.0], [0.0, 2 * np.log(2.0), 2 * np.log(4.0)], [5.0, 6.0, 7.0]
    params = posterior.params(torch.tensor([mean + log_variance + below]))
    assert params["mean"].tolist() == [mean]
    expected = [[1.0, 0.0, 0.0], [2.0 * 5.0, 2.0, 0.0], [4.0 * 6.0, 4.0 * 7.0, 4.0]]
    np.testing.assert_allclose(params["factor"][0], expected, rtol=1e-6)


def test_a_flows_log_q_is_that_of_the_way_back() -> None:
    posterior = flow_posterior()
    q = posterior.distribution(posterior.params(torch.randn(2, posterior.outputs, generator=generator(2))))
    z, log_q = q.draw(torch.randn(2, 5, D, generator=generator(3)))
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-4, atol=1e-4)
    assert q.kl_from_standard_normal() is None


def test_a_flows_density_integrates_to_one() -> None:
    posterior = flow_posterior(dimensions=2, scale=0.2)
    q = posterior.distribution(posterior.params(0.3 * torch.randn(1, posterior.outputs, generator=generator(4))))
    axis = torch.linspace(-12.0, 12.0, 241)
    density = q.log_prob(torch.cartesian_prod(axis, axis).unsqueeze(0)).detach().double().exp()
    assert density.sum().item() * 0.1**2 == pytest.approx(1.0, abs=1e-3)


def test_a_flow_with_a_planar_step_has_samples_but_no_way_back() -> None:
    posterior = flow_posterior(planar=True)
    q = posterior.distribution(posterior.params(torch.randn(2, posterior.outputs)))
    z, log_q = q.draw(torch.randn(2, 5, D))
    assert z.shape == (2, 5, D)
    assert log_q.shape == (2, 5)
    with pytest.raises(TypeError, match="no closed form"):
        q.log_prob(z)


def test_a_detached_flow_gives_gradients_to_z_alone() -> None:
    posterior = flow_posterior()
    h = torch.randn(2, posterior.outputs, generator=generator(5)).requires_grad_()
    q = posterior.distribution(posterior.params(h))
    z = q.draw(torch.randn(2, 1, D, generator=generator(6))).z.detach().requires_grad_()
    cut = q.detach()
    log_q = cut.log_prob(z)
    torch.testing.assert_close(log_q, q.log_prob(z))
    (gradient,) = torch.autograd.grad(log_q.sum(), z)
    (expected,) = torch.autograd.grad(q.log_prob(z).sum(), z)
    torch.testing.assert_close(gradient, expected)
    leaves: list[Tensor] = [h, *posterior.parameters()]
    assert all(
        found is None for found in torch.autograd.grad(cut.log_prob(z).sum(), [z, *leaves], allow_unused=True)[1:]
    )


def test_what_stands_for_x_is_where_noise_zero_goes_and_is_not_drawn_from() -> None:
    posterior = flow_posterior()
    bottleneck = VectorBottleneck(posterior, StandardNormal(D))
    encoding = bottleneck.encoding(torch.randn(2, posterior.outputs))
    assert bottleneck.drawn_from == ("shift", "log_scale", "context")
    q = posterior.distribution(encoding)
    assert isinstance(q, FlowDistribution)
    torch.testing.assert_close(bottleneck.point(encoding), q.draw(torch.full((2, 1, D), 0.0)).z[:, 0])
    used = {name: encoding[name] for name in bottleneck.drawn_from}
    noise = torch.randn(2, 3, D)
    assert torch.equal(bottleneck.draw(used, noise)[0].z, bottleneck.draw(encoding, noise)[0].z)


def test_a_fresh_flow_posterior_is_the_diagonal_one() -> None:
    posterior = FlowPosterior(D, C, Flow([AffineCoupling(D, C, 8, even=True), Planar(D, C), Radial(D, C)]))
    params = posterior.params(torch.randn(2, posterior.outputs))
    noise = torch.randn(2, 3, D)
    found = posterior.distribution(params).draw(noise)
    expected = DiagonalGaussian(params["shift"], 2.0 * params["log_scale"]).draw(noise)
    torch.testing.assert_close(found.z, expected.z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.log_q, expected.log_q, rtol=1e-4, atol=1e-4)
