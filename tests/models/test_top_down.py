"""The hierarchical VAE against unrolled numpy, a linear-Gaussian hierarchy that is known, and its own two rates."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import special, stats
from torch import nn

from models.families.hierarchical_vae import GridConfig, HierarchicalVAEConfig, LadderConfig
from models.networks import ImageShape
from models.networks.ladder import Depth
from models.top_down import GridLevel, TopDownBottleneck, TopDownModel

SHAPE = ImageShape(1, 4, 6)


def tiny(seed: int = 0) -> TopDownModel:
    """Build a model of a top of 2 dimensions and two grids of 2x3, all of whose weights are random."""
    torch.manual_seed(seed)
    model = HierarchicalVAEConfig(
        family="hierarchical-vae",
        latent=2,
        levels=(GridConfig(downsampling=2, latent=2), GridConfig(downsampling=2, latent=1)),
        network=LadderConfig(channels=(4,), encoder_blocks=(1,), decoder_blocks=(0,), features=3, hidden=5),
    ).build(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.25 * torch.randn_like(parameter))
    return model.eval()


def pictures(count: int) -> torch.Tensor:
    return (torch.rand(count, 4, 6, 1, generator=torch.Generator().manual_seed(1)) < 0.4).byte() * 255


def conv(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    """Convolve one map `[C, H, W]` tap by tap."""
    weight, bias = (parameter.detach().double().numpy() for parameter in (layer.weight, layer.bias))
    taps, (height, width) = weight.shape[2], x.shape[1:]
    padded = np.pad(x, ((0, 0), (taps // 2, taps // 2), (taps // 2, taps // 2)))
    found = np.zeros((len(weight), height, width))
    for i in range(taps):
        for j in range(taps):
            found += np.tensordot(weight[:, :, i, j], padded[:, i : i + height, j : j + width], 1)
    return found + bias[:, None, None]


def moments(h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read means and standard deviations."""
    mean, log_variance = np.split(h, 2)
    return mean.ravel(), np.exp(0.5 * log_variance.ravel())


def unrolled(
    model: TopDownModel, encoding: dict[str, np.ndarray], noise: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Draw w, the latents in units of their own, and weigh them under p(w) and q(w given x); with the logits."""
    top, *seen = (encoding[f"features_{index}"].astype(np.float64) for index in range(3))
    noises = np.split(noise.astype(np.float64), np.cumsum(model.bottleneck.sizes)[:-1])
    mean, scale = moments(top)
    w = mean + scale * noises[0]
    log_p, log_q = stats.norm.logpdf(w).sum(), stats.norm.logpdf(w, mean, scale).sum()
    first, _, second = model.bottleneck.start.layers
    hidden = np.maximum(first.weight.detach().double().numpy() @ w + first.bias.detach().double().numpy(), 0)
    flat = second.weight.detach().double().numpy() @ hidden + second.bias.detach().double().numpy()
    h = flat.reshape(2, 3, 4).transpose(2, 0, 1)
    for level, features, drawn in zip(model.bottleneck.levels, seen, noises[1:], strict=True):
        m, s = moments(conv(np.maximum(h, 0), level.prior[1]))
        seen_here = conv(np.maximum(h, 0), level.look[1]) + features
        a, b = moments(conv(np.maximum(seen_here, 0), level.posterior[1]))
        w = (m + s * a) + (s * b) * drawn
        log_p += stats.norm.logpdf(w, m, s).sum()
        log_q += stats.norm.logpdf(w, m + s * a, s * b).sum()
        h = h + conv(w.reshape(level.shape), level.merge)
    last = conv(np.maximum(h, 0), model.decoder[2])
    logits = np.zeros((4, 6))
    for channel in range(4):
        logits[channel // 2 :: 2, channel % 2 :: 2] = last[channel]
    return float(log_p), float(log_q), logits


def test_weights_equal_those_of_the_unrolled_hierarchy_in_its_own_units() -> None:
    model, x = tiny(), pictures(3)
    noise = torch.randn(3, 2, model.bottleneck.noise_dimensions, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        encoding = model.encode(x)
        weights = model.log_weight(x, encoding, noise)
        decoded = model.decode(model.bottleneck.draw(encoding, noise)[-1].z)["logits"]
    for i in range(3):
        features = {name: value[i].numpy() for name, value in encoding.items()}
        for s in range(2):
            log_p, log_q, logits = unrolled(model, features, noise[i, s].numpy())
            np.testing.assert_allclose(decoded[i, s, ..., 0], logits, atol=1e-4)
            sign = x[i, ..., 0].numpy() / 127.5 - 1
            np.testing.assert_allclose(weights.log_p_x_given_z[i, s], special.log_expit(sign * logits).sum(), atol=1e-3)
            np.testing.assert_allclose(weights.log_p_z[i, s] - weights.log_q[i, s], log_p - log_q, atol=1e-3)


def test_a_linear_hierarchy_has_the_normal_distribution_that_is_known() -> None:
    random = np.random.default_rng(3)
    a, b, merge = (random.normal(size=shape) for shape in ((3, 2), (2, 3), (3, 2)))
    scale = np.array([0.5, 2.0])
    level = GridLevel((2, 1, 1), 3, 1, nn.Identity())
    level.prior = nn.Conv2d(3, 4, 1)
    start = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Unflatten(1, (3, 1, 1)))
    bottleneck = TopDownBottleneck(2, start, [level], [nn.Identity()] * 2, [], 1)
    with torch.no_grad():
        start[0].weight.copy_(torch.from_numpy(a))
        level.prior.weight.copy_(torch.from_numpy(np.concatenate([b, 0 * b])[..., None, None]))
        level.prior.bias.copy_(torch.from_numpy(np.concatenate([[0, 0], 2 * np.log(scale)])))
        level.merge.weight.copy_(torch.from_numpy(merge[..., None, None]))
        level.merge.bias.zero_()
        noise = torch.randn(5000, bottleneck.prior_noise_dimensions, generator=torch.Generator().manual_seed(4))
        z = bottleneck.sample(noise, torch.ones(5000))
        drawn = bottleneck.draw({"features_0": torch.zeros(1, 4), "features_1": torch.zeros(1, 1, 1, 1)}, z[None])[0]
        states = bottleneck.state(drawn.z[0]).flatten(1).double().numpy()
    z0, h = drawn.z[0, :, :2].double().numpy(), drawn.z[0, :, :2].double().numpy() @ a.T
    w = (states - h) @ np.linalg.pinv(merge).T
    ba = b @ a
    covariance = np.block([[np.eye(2), ba.T], [ba, ba @ ba.T + np.diag(scale**2)]])
    expected = stats.multivariate_normal(np.zeros(4), covariance).logpdf(np.concatenate([z0, w], 1))
    np.testing.assert_allclose(drawn.log_p[0].numpy() - np.log(scale).sum(), expected, atol=1e-3)

    from_prior = bottleneck.state(z).flatten(1).detach().double().numpy()
    joined = np.concatenate([a + merge @ ba, merge * scale], 1)
    standard_errors = np.abs(np.cov(from_prior.T) - joined @ joined.T) / np.sqrt(
        (np.outer(np.diag(joined @ joined.T), np.diag(joined @ joined.T)) + (joined @ joined.T) ** 2) / 5000
    )
    assert standard_errors.max() < 4


def test_both_rates_agree_and_the_conditional_one_varies_less() -> None:
    model, x = tiny(), pictures(1)
    noise = torch.randn(20_000, 1, model.bottleneck.noise_dimensions, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        encoding = {name: value.expand(len(noise), *value.shape[1:]) for name, value in model.encode(x).items()}
        (level,) = model.bottleneck.draw(encoding, noise)
    sampled, conditional = (level.log_q - level.log_p).double().squeeze(1), level.kl.double().sum(1)
    difference = sampled - conditional
    assert difference.mean().abs() < 4 * difference.std() / len(noise) ** 0.5
    assert conditional.var() < 0.5 * sampled.var()
    assert conditional.std() > 0.01, "the rate of a level depends on the levels above, so that it is no closed form"


def test_the_point_is_the_path_of_means_and_noise_moves_every_level_below_it() -> None:
    model, x = tiny(), pictures(2)
    with torch.no_grad():
        encoding = model.encode(x)
        noise = torch.zeros(2, 1, model.bottleneck.noise_dimensions)
        assert torch.equal(model.bottleneck.draw(encoding, noise)[-1].z[:, 0], model.bottleneck.point(encoding))
        noise[..., 0] = 1.0
        moved = (model.bottleneck.draw(encoding, noise)[-1].z[:, 0] - encoding["z"]).abs()
    assert model.bottleneck.drawn_from == ("features_0", "features_1", "features_2")
    assert moved[:, 1].max() == 0, "dimensions of one level are independent"
    for part in moved.split(model.bottleneck.sizes, 1):
        assert part.max() > 1e-3


def test_depth_moves_neighbours_to_channels_and_back() -> None:
    x = torch.randn(2, 3, 4, 6)
    deep = Depth(2, inward=True)(x)
    expected = torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)
    assert torch.equal(deep, expected)
    assert torch.equal(Depth(2, inward=False)(deep), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [{"downsampling": 4, "latent": 1}, {"downsampling": 8, "latent": 1}]}, "none larger than the one"),
        ({"levels": [{"downsampling": 6, "latent": 1}]}, "powers of 2"),
        ({"levels": [{"downsampling": 8, "latent": 1}]}, "one number of channels for each halving"),
        ({"network": {"channels": [4, 4], "encoder_blocks": [1]}}, "as many in each"),
    ],
)
def test_levels_that_do_not_fit_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HierarchicalVAEConfig.model_validate({"family": "hierarchical-vae", **options})


def test_pictures_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of it"):
        HierarchicalVAEConfig(family="hierarchical-vae").build(ImageShape(1, 28, 30))
