"""The SGVB objective against the bound that it is made of."""

import math
from itertools import combinations

import pytest
import torch
from pydantic import TypeAdapter
from scipy import stats

from models.bottleneck import Level
from models.bound import Bound
from models.code_priors import CodeGrid
from models.families.parts import GaussianConfig
from models.families.pixelcnn import PixelCNNConfig
from models.families.quantizers import QuantizerConfig
from models.families.vae import MLPConfig, VAEConfig
from models.families.vqvae import FullyConvConfig, VQVAEConfig
from models.networks import ImageShape
from tests.models.test_linear_gaussian import data, linear_gaussian
from training.errors import RecipeError
from training.objectives import SGVB, CodeLength, DataFacts, IWAEConfig, ObjectiveConfig, SGVBConfig, Step
from training.objectives.annealing import Annealing, CyclicalAnnealing, LinearAnnealing
from training.objectives.corruption import GaussianNoise, Masking, SaltAndPepper
from training.objectives.free_bits import FreeBits
from training.objectives.minibatch import dataset_bound


def objective(config: SGVBConfig) -> SGVB:
    torch.manual_seed(0)
    return SGVB(VAEConfig(latent=3, network=MLPConfig(hidden=(16,))).build(ImageShape(1, 4, 4)), config)


X = (torch.rand(5, 4, 4, 1, generator=torch.Generator().manual_seed(0)) > 0.5).byte() * 255


def step_and_bound(sgvb: SGVB, x: torch.Tensor = X) -> tuple[Step, Bound]:
    """Take a step, and measure the bound once more with the same noise."""
    torch.manual_seed(1)
    (step,) = sgvb.steps(x)
    torch.manual_seed(1)
    noise = torch.randn(len(x), sgvb.config.samples, sgvb.model.bottleneck.noise_dimensions)
    return step, sgvb.model.bound(x, noise)


@pytest.mark.parametrize("estimator", ["analytic", "sampled"])
def test_the_loss_is_minus_the_mean_bound(estimator: str) -> None:
    step, bound = step_and_bound(objective(SGVBConfig(estimator=estimator, samples=4)))
    rate = bound.rate if estimator == "analytic" else bound.sampled_rate
    assert step.loss.item() == pytest.approx((rate - bound.reconstruction).mean().item())
    assert step.log_p_nats.item() == pytest.approx(bound.elbo.mean().item())
    assert step.group == "model"


def test_both_estimators_agree_in_expectation_and_the_analytic_one_is_quieter() -> None:
    """On a model whose posterior is known, but for a shift: losses and the gradients of q, 300 draws of each."""
    model, mean, covariance = linear_gaussian(shift=0.4)
    x, _ = data(10, mean, covariance)
    of_q = [model.encoder.weight, model.encoder.bias, model.encoder.log_variance]
    for tensor in of_q:
        tensor.requires_grad_()
    torch.manual_seed(0)
    found = {}
    for estimator in ("analytic", "sampled"):
        sgvb, draws = SGVBConfig(estimator=estimator).build(model, DataFacts()), []
        for _ in range(300):
            (step,) = sgvb.steps(x)
            gradients = torch.autograd.grad(step.loss, of_q)
            draws.append(torch.cat([step.loss.detach().reshape(1), *(gradient.flatten() for gradient in gradients)]))
        found[estimator] = torch.stack(draws)
    means = found["analytic"].mean(0) - found["sampled"].mean(0)
    variances = {estimator: draws.var(0) for estimator, draws in found.items()}
    assert (means.abs() < 4 * ((variances["analytic"] + variances["sampled"]) / 300).sqrt()).all()
    assert variances["sampled"][1:].sum() > 1.2 * variances["analytic"][1:].sum()


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_beta_and_annealing_weigh_the_rate_and_never_the_bound(beta: float) -> None:
    sgvb = objective(SGVBConfig(rate_weight=beta, annealing=LinearAnnealing(steps=2)))
    weights = []
    for _ in range(4):
        step, bound = step_and_bound(sgvb)
        weights.append(((step.loss + bound.reconstruction.mean()) / bound.rate.mean()).item())
        assert torch.equal(bound.elbo, bound.reconstruction - bound.rate)
    assert weights == pytest.approx([0.0, 0.5 * beta, beta, beta], abs=1e-5)


@pytest.mark.parametrize(
    ("annealing", "expected"),
    [
        (LinearAnnealing(steps=4), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
        (CyclicalAnnealing(cycle_steps=4, cycles=2), [0, 0.5, 1, 1, 0, 0.5, 1, 1, 1, 1]),
        (CyclicalAnnealing(cycle_steps=4, cycles=1, rise=1.0), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_schedules_by_hand(annealing: Annealing, expected: list[float]) -> None:
    assert [annealing.weight(step) for step in range(10)] == expected


def test_tables_of_earlier_recipes_are_read() -> None:
    read = TypeAdapter(ObjectiveConfig).validate_python
    assert read({}) == read({"kl_warmup_steps": 0}) == SGVBConfig()
    assert read({"kl_warmup_steps": 7}) == SGVBConfig(annealing=LinearAnnealing(steps=7))
    assert read({"kind": "iwae", "samples": 3}) == IWAEConfig(samples=3)
    with pytest.raises(ValueError, match="give it or annealing, not both"):
        read({"kl_warmup_steps": 7, "annealing": {"kind": "linear", "steps": 3}})


def level(log_q: list[list[float]], kl: list[list[float]] | None) -> Level:
    rates = torch.tensor(log_q)
    z = torch.zeros(*rates.shape, 2)
    return Level(z, None, rates, torch.zeros_like(rates), None if kl is None else torch.tensor(kl), None)


def test_free_bits_by_hand() -> None:
    known, sampled = level([[9.0], [9.0]], [[0.1, 2.0], [0.3, 0.0]]), level([[0.5, 1.5], [0.0, 1.0]], None)
    assert FreeBits(nats=0.5).rate((known,)).item() == pytest.approx(0.5 + 1.0)
    assert FreeBits(nats=1.0, per="level").rate((known, sampled)).item() == pytest.approx(1.2 + 1.0)
    assert FreeBits(nats=0.6, per="level").rate((known, sampled)).item() == pytest.approx(1.2 + 0.75)
    with pytest.raises(RecipeError, match="set it to 'level'"):
        FreeBits(nats=1.0).rate((sampled,))
    with pytest.raises(ValueError, match="set estimator to 'analytic'"):
        SGVBConfig(estimator="sampled", free_bits=FreeBits(nats=1.0))


def test_what_is_below_the_free_bits_has_no_gradient_from_the_rate() -> None:
    sgvb = objective(SGVBConfig(free_bits=FreeBits(nats=1e3), rate_weight=50.0))
    step, bound = step_and_bound(sgvb)
    assert step.loss.item() == pytest.approx((50.0 * 3 * 1e3 - bound.reconstruction.mean()).item())
    weights = list(sgvb.model.encoder.parameters())
    found = torch.autograd.grad(step.loss, weights)
    expected = torch.autograd.grad(-bound.reconstruction.mean(), weights)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_corruptions_strike_as_often_as_they_say(share: float) -> None:
    torch.manual_seed(0)
    x = torch.full((400, 10, 10, 1), 100, dtype=torch.uint8)
    error = (share * (1 - share) / x.numel()) ** 0.5
    masked = Masking(kind="masking", share=share).apply(x)
    assert abs((masked == 0).double().mean().item() - share) < 4 * error
    assert ((masked == 0) | (masked == 100)).all()
    peppered = SaltAndPepper(kind="salt-and-pepper", share=share).apply(x)
    for value in (0, 255):
        assert abs((peppered == value).double().mean().item() - share / 2) < 4 * error
    assert (peppered == 100).double().mean().item() == pytest.approx(1 - share, abs=4 * error)
    noisy = GaussianNoise(kind="gaussian", scale=100 * share).apply(x)
    assert stats.kstest((noisy.flatten().numpy() - 100.0) / (100 * share), "norm").pvalue > 1e-3


def test_the_encoder_sees_corrupted_pictures_and_the_bound_is_on_clean_ones() -> None:
    corruption = SaltAndPepper(kind="salt-and-pepper", share=0.5)
    sgvb = objective(SGVBConfig(corruption=corruption))
    torch.manual_seed(1)
    (step,) = sgvb.steps(X)
    torch.manual_seed(1)
    noise = torch.randn(len(X), 1, 3)
    seen = corruption.apply(X)
    encoding = sgvb.model.encode(seen)
    weights = sgvb.model.log_weight(X, encoding, noise)
    expected = (sgvb.model.bottleneck.kl(encoding).sum(1) - weights.log_p_x_given_z[:, 0]).mean()
    assert not torch.equal(seen, X)
    assert step.loss.item() == pytest.approx(expected.item())
    assert torch.allclose(sgvb.score(sgvb.model, X, noise, {}), sgvb.model.bound(X, noise).elbo)


def test_the_minibatch_estimate_is_unbiased() -> None:
    """The mean over all minibatches of a size is the data set's own bound (Kingma & Welling 2014, eq. 8)."""
    bounds = torch.tensor([-3.0, -1.5, -80.25, -7.0, -0.5, -2.0])
    estimates = [dataset_bound(bounds[list(chosen)], 6) for chosen in combinations(range(6), 2)]
    assert torch.stack(estimates).mean().item() == pytest.approx(bounds.sum().item())


def test_the_schedule_is_part_of_the_state() -> None:
    sgvb = objective(SGVBConfig(annealing=LinearAnnealing(steps=2)))
    next(sgvb.steps(X))
    assert sgvb.state_dict()["steps_done"].item() == 1


def test_a_penalty_weighs_as_in_the_mean_squared_form() -> None:
    """With the data's own variance, loss = D / 2 (MSE / variance + beta commitment) and a constant."""
    torch.manual_seed(0)
    scale = 64.0
    config = VQVAEConfig(
        family="vqvae",
        network=FullyConvConfig(downsampling=4, hidden=8, residual_hidden=4),
        quantizer=QuantizerConfig(num_embeddings=8, embedding_dim=3, commitment_cost=0.3, revive_below=0.0),
        likelihood=GaussianConfig(variance="fixed", scale=scale),
    )
    sgvb = SGVB(config.build(ImageShape(3, 8, 8)), SGVBConfig(), DataFacts(variance=scale**2)).eval()
    x = torch.randint(40, 216, (4, 8, 8, 3), dtype=torch.uint8)
    (step,) = sgvb.steps(x)
    z = sgvb.model.hidden(x).permute(0, 2, 3, 1)
    commitment = (z - sgvb.model.bottleneck.quantizer.embed(sgvb.model.bottleneck.quantizer.codes(z))).square().mean()
    error = (sgvb.model.reconstruct(x) - x).square().mean()
    dimensions, constant = 8 * 8 * 3, 0.5 * 8 * 8 * 3 * math.log(2 * math.pi * scale**2) + 4 * math.log(8)
    expected = dimensions / 2 * (error / scale**2 + 0.3 * commitment) + constant
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert step.figures["mse_over_variance"].item() == pytest.approx((error / scale**2).item(), rel=1e-5)
    assert 1.0 <= step.figures["perplexity"].item() <= 8.0


def test_code_lengths_are_bits_of_the_prior_and_hide_classes() -> None:
    torch.manual_seed(0)
    prior = PixelCNNConfig(channels=4, layers=2, hidden=8).build(CodeGrid(5, (2, 3)), (), {"label": 3}).eval()
    codes, labels = torch.randint(0, 5, (6, 2, 3), dtype=torch.int32), torch.tensor([0, 1, 2, 0, 1, 2])
    for hidden, condition in ((1e-9, labels), (1.0, torch.full((6,), 3))):
        (step,) = CodeLength(prior, unconditional=hidden).steps(labels, codes)
        nats = -prior.log_prob(codes, conditions={"label": condition}).mean()
        assert step.loss.item() == pytest.approx(nats.item())
        assert step.figures["bits_per_token"].item() == pytest.approx(nats.item() / (6 * math.log(2)))


def test_a_fit_warns_of_a_posterior_that_collapses() -> None:
    sgvb = objective(SGVBConfig())
    assert sgvb.warnings() == ()
    for weight in sgvb.model.encoder.parameters():  # q(z given x) is N(0, 2 I) for every x, then N(0, I)
        weight.data.zero_()
    sgvb.model.encoder[-1].bias.data[3:] = math.log(2.0)
    list(sgvb.steps(X))
    assert sgvb.warnings() == (), "3 (2 - log 2 - 1) / 2 = 0.46 nats"
    sgvb.model.encoder[-1].bias.data.zero_()
    for _ in range(100):
        list(sgvb.steps(X))
    (warning,) = sgvb.warnings()
    assert warning.startswith("posterior collapsed: mean KL")
