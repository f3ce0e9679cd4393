"""The committed rate of both delta-VAEs."""

import numpy as np
import pytest
import torch
from scipy import special

from models.distributions import DiagonalGaussian
from models.families.delta_vae import DeltaVAEConfig
from models.families.vae import MLPConfig
from models.networks import ImageShape
from models.posteriors import FixedVariancePosterior
from models.posteriors.fixed_variance import log_variance_of
from models.priors import StandardNormal


@pytest.mark.parametrize("rate_nats", [1e-4, 0.03, 0.5, 4.0])
def test_the_fixed_variance_is_lamberts_root(rate_nats: float) -> None:
    variance = -special.lambertw(-np.exp(-1.0 - 2.0 * rate_nats)).real
    assert np.exp(log_variance_of(rate_nats)) == pytest.approx(variance, rel=1e-6)
    assert variance < 1.0


def test_the_committed_rate_holds_in_float32_too() -> None:
    for dimensions, rate_nats in ((1, 0.01), (8, 5.0), (64, 0.3), (500, 40.0)):
        posterior = FixedVariancePosterior(dimensions, rate_nats)
        found = StandardNormal(dimensions).kl(posterior.distribution(posterior.params(torch.zeros(1, dimensions))))
        assert rate_nats <= found.double().sum().item() < rate_nats * 1.0001 + 1e-5 * dimensions


@pytest.mark.parametrize("construction", ["fixed-variance", "ar1"])
@pytest.mark.parametrize("delta_nats", [0.5, 12.0])
def test_no_encoder_goes_below_delta(construction: str, delta_nats: float) -> None:
    """Minimise the rate itself over the posterior's parameters: what no training can go beyond."""
    config = DeltaVAEConfig.model_validate(
        {"family": "delta-vae", "latent": 6, "delta_nats": delta_nats, "construction": construction, "channels": 2}
        | {"network": MLPConfig(hidden=(4,)), "decoder": None}
    )
    bottleneck = config.build(ImageShape(1, 4, 4)).bottleneck
    start = torch.randn(1, bottleneck.posterior.outputs, generator=torch.Generator().manual_seed(0))
    h = start.requires_grad_()
    optimizer = torch.optim.LBFGS([h], max_iter=200, line_search_fn="strong_wolfe")

    def rate() -> torch.Tensor:
        return bottleneck.kl(bottleneck.encoding(h)).sum()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = rate()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert rate().item() >= delta_nats * (1 - 1e-5)
    assert rate().item() == pytest.approx(delta_nats, rel=1e-2)


def test_encoding_has_the_moments_of_a_diagonal_posterior() -> None:
    posterior = FixedVariancePosterior(3, 1.0)
    params = posterior.params(torch.randn(4, posterior.outputs))
    assert [quantity.name for quantity in posterior.quantities] == list(params) == ["mean", "log_variance"]
    assert isinstance(posterior.distribution(params), DiagonalGaussian)
    assert (params["log_variance"] == params["log_variance"][0, 0]).all()


@pytest.mark.parametrize("rate_nats", [0.0, 30.0])
def test_rates_that_cannot_be_committed_are_refused(rate_nats: float) -> None:
    with pytest.raises(ValueError, match=r"expected one above 0 and below 7\.5 for each"):
        FixedVariancePosterior(3, rate_nats)
