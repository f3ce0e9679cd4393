"""Estimates of log p(x) on a model whose log p(x) is known: each on its side of it, and the better ones closer."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import special

from models.continuous import ContinuousBottleneck, VectorBottleneck
from models.families import build
from models.model import LatentVariableModel
from tests.models.test_families import FAMILIES, shape_of
from tests.models.test_linear_gaussian import data, linear_gaussian
from training.errors import RunError
from training.evaluate import bounds
from training.evaluation import ais as ais_module
from training.evaluation.ais import Annealing, PathToPosterior, ais, bdmc, figures, sigmoid_schedule
from training.evaluation.latents import log_posterior
from training.evaluation.marginal import LogLikelihood, monte_carlo
from training.evaluation.simulate import simulate

COUNT = 40


@pytest.fixture(autouse=True)
def large_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluation.ais._ROWS", 4096)
    monkeypatch.setattr("training.evaluation.marginal._DECODER_ROWS", 20_000)
    monkeypatch.setattr("training.evaluate._DECODER_ROWS", 4096)


@pytest.fixture(scope="module")
def known() -> tuple[LatentVariableModel, np.ndarray, np.ndarray]:
    """A model whose posterior is off the exact one, data, and log p(x) by scipy."""
    model, mean, covariance = linear_gaussian(shift=0.4)
    x, exact = data(COUNT, mean, covariance)
    return model, x.numpy(), exact


def in_order(*estimates: np.ndarray) -> None:
    """Hold that each is no lower than the next, within 4 standard errors of the paired difference."""
    for higher, lower in pairwise(estimates):
        gap = higher - lower
        assert gap.mean() > -4.0 * gap.std(ddof=1) / np.sqrt(len(gap))


def test_bounds_are_in_order(known: tuple[LatentVariableModel, np.ndarray, np.ndarray]) -> None:
    model, x, exact = known
    iwae = [bounds(model, x, samples=samples, seed=samples) for samples in (50, 5)]
    annealed = ais(model, x, Annealing(chains=8, steps=80, leapfrog_steps=4), seed=1).lower.nats
    in_order(exact, annealed)
    in_order(exact, iwae[0].iwae_nats, iwae[1].iwae_nats, iwae[1].elbo_nats)
    assert (exact - iwae[1].elbo_nats).mean() > 10 * (exact - annealed).mean(), "annealing is worth its steps"
    assert (exact - annealed).mean() < 0.1


@pytest.mark.parametrize(("start", "steps"), [("prior", 60), ("posterior", 30)])
def test_forward_and_reverse_chains_sandwich_log_p(start: ais_module.Start, steps: int) -> None:
    model, mean, covariance = linear_gaussian(shift=0.4)
    config = Annealing(chains=8, steps=steps, leapfrog_steps=5, start=start)
    found = bdmc(model, COUNT, (1, 1, 12), config, seed=2)
    x = simulate(model, COUNT, (1, 1, 12), seed=2)[1].reshape(COUNT, 12).astype(np.float64)
    difference = x - mean
    exact = -0.5 * (
        np.einsum("ni,ij,nj->n", difference, np.linalg.inv(covariance), difference)
        + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    assert found.upper_nats is not None
    in_order(found.upper_nats, exact, found.lower.nats)
    measured = figures(found, "bdmc")
    assert 0.0 <= measured["bdmc_gap_nats"] < 0.2
    assert measured["bdmc_gap_nats"] == pytest.approx(measured["bdmc_upper_nats"] - measured["bdmc_nats"])
    assert 0.5 < measured["bdmc_acceptance"] < 0.9


def test_the_mean_weight_is_p_even_with_few_and_coarse_steps() -> None:
    """However far chains fall behind their path, the mean weight is p(x): only its spread grows."""
    model, mean, covariance = linear_gaussian()
    x, exact = (part[:1] for part in data(2, mean, covariance))
    found = ais(model, x.numpy(), Annealing(chains=4000, steps=12, leapfrog_steps=2), seed=3).lower
    assert abs(found.nats[0] - exact[0]) < 4 * found.noise_standard_error_nats[0]
    assert found.noise_standard_error_nats[0] < 0.25


def test_noise_is_that_of_the_seed_and_the_example(
    known: tuple[LatentVariableModel, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, _ = known
    config = Annealing(chains=3, steps=5, leapfrog_steps=2)
    whole = ais(model, x[:6], config, seed=4).lower.nats
    monkeypatch.setattr("training.evaluation.ais._ROWS", 6)
    np.testing.assert_allclose(ais(model, x[:6], config, seed=4).lower.nats, whole, atol=1e-4)
    assert np.abs(ais(model, x[:6], config, seed=5).lower.nats - whole).min() > 1e-3


def test_naive_monte_carlo_comes_to_log_p_within_its_error(
    known: tuple[LatentVariableModel, np.ndarray, np.ndarray],
) -> None:
    model, x, exact = known
    few, many = (monte_carlo(model, x[:20], samples=samples, seed=0) for samples in (100, 20_000))
    measurable = many.effective_sample_size > 50
    assert measurable.sum() > 5
    error = np.abs(many.nats - exact[:20])[measurable]
    assert (error < 4 * many.noise_standard_error_nats[measurable]).all()
    assert (exact[:20] - few.nats).mean() > (exact[:20] - many.nats).mean()


def test_the_reduction_equals_its_formulas() -> None:
    log_weights = np.random.default_rng(0).normal(size=(5, 40)) * 2.0 - 700.0
    found = LogLikelihood.of_weights(log_weights)
    weights = np.exp(log_weights + 700.0)
    np.testing.assert_allclose(found.nats, special.logsumexp(log_weights, axis=1) - np.log(40))
    np.testing.assert_allclose(
        found.noise_standard_error_nats, weights.std(1, ddof=1) / np.sqrt(40) / weights.mean(1), rtol=1e-9
    )
    measured = found.figures("ais")
    assert measured["ais_standard_error_nats"] == pytest.approx(found.nats.std(ddof=1) / np.sqrt(5))
    assert measured["ais_noise_standard_error_nats"] == pytest.approx(
        np.sqrt((found.noise_standard_error_nats**2).sum()) / 5
    )


def test_the_schedule_rises_from_0_to_1_closest_at_its_ends() -> None:
    betas = sigmoid_schedule(10)
    steps = np.diff(betas)
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert betas == pytest.approx(
        (special.expit(np.linspace(-4, 4, 11)) - special.expit(-4)) / (special.expit(4) - special.expit(-4))
    )
    assert steps.argmin() in (0, 9)


@torch.no_grad()
def test_chains_see_the_densities_that_bounds_are_made_of() -> None:
    """For every family: log p(z), log p(x given z) and log q of any z are those of the z that the model has drawn."""
    weighed = 0
    for name, (config, shape) in FAMILIES.items():
        torch.manual_seed(0)
        model = build(config, shape_of(shape)).eval()
        if not isinstance(model.bottleneck, ContinuousBottleneck) or not model.bottleneck.bounds_log_p:
            continue
        z, simulated = simulate(model, 2, shape_of(shape), seed=0)
        assert simulated.shape == (2, *shape_of(shape)), name
        assert z.shape == (2, model.bottleneck.dimensions), name
        x = torch.from_numpy(simulated)
        encoding, noise = model.encode(x), torch.randn(2, 3, model.bottleneck.noise_dimensions)
        weights = model.log_weight(x, encoding, noise)
        place = PathToPosterior(model, x, "prior")(model.bottleneck.draw(encoding, noise)[-1].z)
        assert torch.allclose(place.log_start, weights.log_p_z, atol=1e-3), name
        assert torch.allclose(place.log_ratio, weights.log_p_x_given_z, atol=1e-3, rtol=1e-5), name
        assert place.ratio_gradient.abs().sum() > 0, name
        weighed += 1
        try:
            log_q = log_posterior(model.bottleneck, encoding, place.z)
        except TypeError:
            continue
        assert torch.allclose(log_q.double(), weights.log_q, atol=1e-3), name
    assert weighed > 5


def test_a_model_without_a_bound_has_no_likelihood_to_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = linear_gaussian()[0]
    monkeypatch.setattr(VectorBottleneck, "bounds_log_p", False)
    x = torch.zeros(1, 1, 1, 12).numpy()
    for estimate in (lambda: monte_carlo(model, x, samples=2, seed=0), lambda: ais(model, x, Annealing(), seed=0)):
        with pytest.raises(RunError, match="no bound on log p"):
            estimate()
