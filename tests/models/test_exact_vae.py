"""Exact VAEs: integers that are near the model they were made of, whatever the batch or the type that carries them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from codec import normal
from models.exact.canonical import canonical_hash
from models.exact.layers import accumulator_bounds, calibrating, freeze
from models.exact.vae import Drawn, ExactVAE, UnsupportedModelError
from models.exact.vae_latents import LATENT_LIMIT, MEAN_LIMIT, SCALES, UNIT_SCALE, Scales, scale_index, scale_table
from models.families.hierarchical_vae import GridConfig, HierarchicalVAEConfig, LadderConfig
from models.families.parts import GaussianConfig
from models.families.real_priors import AR1Config
from models.families.vae import ConvConfig, VAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.top_down import TopDownModel

SHAPE = ImageShape(1, 8, 8)
FLAT = VAEConfig(latent=5, network=ConvConfig(encoder_channels=(6, 8), decoder_channels=(8, 6), hidden=16))
LEVELS = HierarchicalVAEConfig(
    family="hierarchical-vae",
    latent=3,
    levels=(GridConfig(downsampling=4, latent=2), GridConfig(downsampling=2, latent=1)),
    network=LadderConfig(channels=(6, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), features=5, hidden=16),
)


def fitted(config: VAEConfig | HierarchicalVAEConfig) -> LatentVariableModel:
    """Give a model whose weights are as after a fit: nothing is nearly nothing."""
    torch.manual_seed(1)
    model = config.build(SHAPE).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.requires_grad_(False)


def pictures(count: int) -> Tensor:
    random = np.random.default_rng(0)
    shares = random.random((count, 1, 1, 1))
    return torch.from_numpy((random.random((count, 8, 8, 1)) < shares).astype(np.uint8) * np.uint8(255))


def exactly(model: LatentVariableModel) -> ExactVAE:
    exact = ExactVAE(model)
    with torch.no_grad(), calibrating(exact):
        exact(pictures(64), torch.randn(64, exact.dimensions, generator=torch.Generator().manual_seed(2)))
    return exact


@pytest.fixture(params=[FLAT, LEVELS], ids=["flat", "levels"])
def model(request: pytest.FixtureRequest) -> LatentVariableModel:
    return fitted(request.param)


def as_in_the_model(z: Tensor, model: LatentVariableModel) -> Tensor:
    """Reorder latents of grids from channels last, as they are here, to channels first."""
    if not isinstance(model, TopDownModel):
        return z
    parts = list(torch.split(z, model.bottleneck.sizes, 1))
    for index, level in enumerate(model.bottleneck.levels, 1):
        channels, height, width = level.shape  # type: ignore[misc]
        parts[index] = parts[index].reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(1)  # type: ignore[arg-type, has-type]
    return torch.cat(parts, 1)


def elbo_nats(x: Tensor, drawn: Drawn) -> Tensor:
    log_p = -torch.nn.functional.softplus(-(x.float() / 127.5 - 1) * drawn.logits / 256)
    return log_p.flatten(1).sum(1) - drawn.kl_nats.sum(1)


@torch.no_grad()
def test_logits_and_bounds_are_near_those_of_the_model(model: LatentVariableModel) -> None:
    exact, x, random = exactly(model), pictures(200), torch.Generator().manual_seed(4)
    z = torch.randint(-20, 21, (200, exact.dimensions), generator=random)
    expected = model.decode(as_in_the_model(z, model) / 16)["logits"]
    error = (exact.decode(z) / 256 - expected).abs()
    assert error.mean() < 0.03 * expected.std()

    noise = torch.randn(200, exact.dimensions, generator=random)
    found = elbo_nats(x, exact(x, noise))
    wanted = model.bound(x, as_in_the_model(noise, model).unsqueeze(1))
    assert wanted.kl is not None
    nats = (wanted.reconstruction - wanted.kl.sum(1)).flatten()
    assert abs(float((found - nats).mean())) < 0.01 * abs(float(nats.mean()))


@torch.no_grad()
def test_all_is_in_integers_that_no_batch_and_no_type_changes(model: LatentVariableModel) -> None:
    exact, x = exactly(model), pictures(9)
    z = torch.randint(-300, 300, (9, exact.dimensions), generator=torch.Generator().manual_seed(5))
    features = exact.encode(x)
    moments, logits = exact.infer(z, features), exact.decode(z)
    assert moments.mean.abs().max() <= MEAN_LIMIT
    assert moments.scale.min() >= 0
    assert moments.scale.max() < SCALES
    before = [*features, moments.mean, moments.scale, logits]
    assert all(torch.equal(values, values.round()) for values in before)

    freeze(exact)
    assert not list(exact.parameters())
    for network in (exact, exact.double()):
        again = network.encode(x[3:4])
        alone = network.infer(z[3:4], again)
        for found, whole in zip([*again, alone.mean, alone.scale, network.decode(z[3:4])], before, strict=True):
            assert torch.equal(found.double(), whole[3:4].double())


@torch.no_grad()
def test_a_level_depends_on_those_above_alone() -> None:
    exact, x = exactly(fitted(LEVELS)), pictures(1)
    features, z = exact.encode(x), torch.zeros(1, exact.dimensions)
    before = exact.infer(z, features)
    top, middle, _ = exact.sizes
    for end in (top, top + middle):
        changed = z.clone()
        changed[:, end - 1] = 40
        after = exact.infer(changed, features)
        assert torch.equal(after.mean[:, :end], before.mean[:, :end])
        assert not torch.equal(after.mean[:, end:], before.mean[:, end:])


@torch.no_grad()
def test_latents_that_are_left_out_are_zero() -> None:
    exact, x = exactly(fitted(LEVELS)), pictures(3)
    whole = torch.randint(-20, 21, (3, exact.dimensions), generator=torch.Generator().manual_seed(6))
    kept = torch.ones(exact.dimensions)
    kept[[0, 4, 9, 20]] = 0
    z = whole * kept.long()
    logits, moments = exact.decode(z), exact.infer(z, exact.encode(x))
    form = canonical_hash(exact.canonical())
    exact.keep(kept)
    used = kept > 0
    assert sum(exact.sizes) == exact.dimensions == int(used.sum())
    assert torch.equal(exact.decode(z[:, used]), logits)
    assert torch.equal(exact.infer(z[:, used], exact.encode(x)).mean, moments.mean[:, used])
    assert canonical_hash(exact.canonical()) != form
    drawn = exact(x, torch.randn(3, exact.dimensions))
    assert drawn.kl_nats.shape == (3, exact.dimensions)


def test_gradients_reach_every_weight(model: LatentVariableModel) -> None:
    exact, x = exactly(model), pictures(16)
    noise = torch.randn(16, exact.dimensions, generator=torch.Generator().manual_seed(7))
    elbo_nats(x, exact(x, noise)).mean().neg().backward()
    for name, parameter in exact.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_every_sum_is_proven_exact(model: LatentVariableModel) -> None:
    bounds = accumulator_bounds(exactly(model))
    assert max(bounds.values()) < 2**24


def test_scales_are_those_that_the_coder_has() -> None:
    exact = [4096 * math.exp((index - UNIT_SCALE) / 16) for index in range(SCALES)]
    assert scale_table() == tuple(round(value) for value in exact)
    assert (normal.SCALES, normal.UNIT_SCALE) == (SCALES, UNIT_SCALE)
    assert (normal.LATENT_LIMIT, normal.MEAN_LIMIT) == (LATENT_LIMIT, MEAN_LIMIT)
    sigma = torch.tensor([0.05, 1.0, 2.0])
    index = scale_index(1024 * 2 * sigma.log())
    torch.testing.assert_close(((index - UNIT_SCALE) / 16).exp(), sigma, rtol=0.032, atol=0)


def test_a_scaled_latent_is_the_mean_and_sigma_times_z() -> None:
    log_variance = torch.tensor([-2.0, 0.0, 0.5])
    moments = torch.cat([torch.tensor([100.0, -700.0, 0.0]), 1024 * log_variance])
    w = Scales()(moments, torch.tensor([16.0, -40.0, 127.0]))
    exact = torch.tensor([100.0, -700.0, 0.0]) + 64 * (log_variance / 2).exp() * torch.tensor([16.0, -40.0, 127.0])
    torch.testing.assert_close(w, exact, rtol=1e-3, atol=1)


@pytest.mark.parametrize(
    "config",
    [
        FLAT.model_copy(update={"likelihood": GaussianConfig()}),
        FLAT.model_copy(update={"prior": AR1Config(rate_nats=0.5)}),
    ],
)
def test_other_likelihoods_and_priors_are_refused(config: VAEConfig) -> None:
    with pytest.raises(UnsupportedModelError, match="Bernoulli likelihood and normal latents"):
        ExactVAE(config.build(SHAPE))


def test_a_layer_without_a_counterpart_is_refused() -> None:
    config = FLAT.model_copy(update={"network": FLAT.network.model_copy(update={"upsampling": "nearest"})})
    with pytest.raises(TypeError, match="Upsample, which has no exact counterpart"):
        ExactVAE(config.build(SHAPE))
