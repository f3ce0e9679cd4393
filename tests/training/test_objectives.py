"""The SGVB objective against the bound that it is made of."""

import pytest
import torch

from models.families.vae import MLPConfig, VAEConfig
from models.networks import ImageShape
from training.objectives import SGVB, SGVBConfig


def objective(config: SGVBConfig) -> SGVB:
    torch.manual_seed(0)
    return SGVB(VAEConfig(latent=3, network=MLPConfig(hidden=(16,))).build(ImageShape(1, 4, 4)), config)


X = (torch.rand(5, 4, 4, 1, generator=torch.Generator().manual_seed(0)) > 0.5).byte() * 255


@pytest.mark.parametrize("estimator", ["analytic", "sampled"])
def test_the_loss_is_minus_the_mean_bound(estimator: str) -> None:
    (step,) = objective(SGVBConfig(estimator=estimator, samples=4)).steps(X)
    rate = step.bound.rate if estimator == "analytic" else step.bound.sampled_rate
    assert step.loss.item() == pytest.approx((rate - step.bound.reconstruction).mean().item())
    assert step.group == "model"


def test_both_estimators_agree_in_expectation() -> None:
    (step,) = objective(SGVBConfig(samples=20_000)).steps(X)
    difference = (step.bound.log_q - step.bound.log_p_z).double() - step.bound.rate.unsqueeze(1)
    error = difference.std(1) / 20_000**0.5
    assert (difference.mean(1).abs() < 5 * error).all()


def test_the_warmup_weighs_the_rate_and_never_the_bound() -> None:
    sgvb = objective(SGVBConfig(kl_warmup_steps=2))
    weights = []
    for _ in range(4):
        (step,) = sgvb.steps(X)
        weights.append(((step.loss + step.bound.reconstruction.mean()) / step.bound.rate.mean()).item())
        assert torch.equal(step.bound.elbo, step.bound.reconstruction - step.bound.rate)
    assert weights == pytest.approx([0.0, 0.5, 1.0, 1.0], abs=1e-6)


def test_the_schedule_is_part_of_the_state() -> None:
    sgvb = objective(SGVBConfig(kl_warmup_steps=2))
    next(sgvb.steps(X))
    assert sgvb.state_dict()["steps_done"].item() == 1
