"""The SGVB objective against the bound that it is made of."""

import math

import pytest
import torch

from models.bound import Bound
from models.code_priors import CodeGrid
from models.families.parts import GaussianConfig
from models.families.pixelcnn import PixelCNNConfig
from models.families.quantizers import QuantizerConfig
from models.families.vae import MLPConfig, VAEConfig
from models.families.vqvae import FullyConvConfig, VQVAEConfig
from models.networks import ImageShape
from training.objectives import SGVB, CodeLength, SGVBConfig, Step


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


def test_both_estimators_agree_in_expectation() -> None:
    _, bound = step_and_bound(objective(SGVBConfig(samples=20_000)))
    difference = (bound.log_q - bound.log_p_z).double() - bound.rate.unsqueeze(1)
    error = difference.std(1) / 20_000**0.5
    assert (difference.mean(1).abs() < 5 * error).all()


def test_the_warmup_weighs_the_rate_and_never_the_bound() -> None:
    sgvb = objective(SGVBConfig(kl_warmup_steps=2))
    weights = []
    for _ in range(4):
        step, bound = step_and_bound(sgvb)
        weights.append(((step.loss + bound.reconstruction.mean()) / bound.rate.mean()).item())
        assert torch.equal(bound.elbo, bound.reconstruction - bound.rate)
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-6)


def test_the_schedule_is_part_of_the_state() -> None:
    sgvb = objective(SGVBConfig(kl_warmup_steps=2))
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
    sgvb = SGVB(config.build(ImageShape(3, 8, 8)), SGVBConfig(), variance=scale**2).eval()
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
