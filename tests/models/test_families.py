"""One body for every family: shapes, gradients, save and load, and bounds that are ordered."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.families import FamilyConfig, build
from models.families.autoencoder import AutoencoderConfig
from models.families.decoders import PixelCNNDecoderConfig
from models.families.delta_vae import DeltaVAEConfig
from models.families.flow_vae import FlowVAEConfig
from models.families.hierarchical_vae import GridConfig, HierarchicalVAEConfig, LadderConfig
from models.families.hierarchical_vqvae import HierarchicalVQVAEConfig, HierarchyConfig
from models.families.parts import BernoulliConfig, CategoricalConfig, GaussianConfig, LogisticMixtureConfig
from models.families.ppca import PPCAConfig
from models.families.quantizers import FiniteScalarConfig, QuantizerConfig
from models.families.sound_vqvae import (
    MuLawConfig,
    SoundConvConfig,
    SoundGaussianConfig,
    SoundVQVAEConfig,
    WaveNetDecoderConfig,
)
from models.families.vae import ConvConfig, MLPConfig, VAEConfig
from models.families.vae_gan import VAEGANConfig
from models.families.vqvae import FullyConvConfig, VQVAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape, SoundShape

PIXELCNN = PixelCNNDecoderConfig(features=3, channels=4, layers=2, hidden=5)

FAMILIES: dict[str, tuple[FamilyConfig, ImageShape | SoundShape]] = {
    "vae-mlp-bernoulli": (
        VAEConfig(latent=3, network=MLPConfig(hidden=(20, 10)), likelihood=BernoulliConfig()),
        ImageShape(1, 6, 5),
    ),
    "vae-conv-bernoulli": (
        VAEConfig(latent=4, network=ConvConfig(encoder_channels=(4, 6), decoder_channels=(6, 4), hidden=16)),
        ImageShape(1, 8, 12),
    ),
    **{
        f"vae-{posterior['kind']}-{prior['kind']}": (
            VAEConfig.model_validate(
                {"latent": 4, "network": MLPConfig(hidden=(10,)), "posterior": posterior, "prior": prior}
            ),
            ImageShape(1, 6, 5),
        )
        for posterior, prior in (
            ({"kind": "full-covariance"}, {"kind": "standard-normal"}),
            ({"kind": "diagonal"}, {"kind": "ar1", "channels": 2, "rate_nats": 0.5}),
            ({"kind": "diagonal"}, {"kind": "flow", "steps": 2, "hidden": 8}),
            ({"kind": "diagonal"}, {"kind": "vamp", "components": 5}),
        )
    },
    **{
        f"flow-vae-{kind}": (
            FlowVAEConfig.model_validate(
                {
                    "family": "flow-vae",
                    "latent": 4,
                    "network": MLPConfig(hidden=(10,)),
                    "posterior": {"kind": kind, "steps": 2, "context": 6},
                }
            ),
            ImageShape(1, 6, 5),
        )
        for kind in ("planar", "radial", "coupling", "inverse-autoregressive")
    },
    **{
        f"vae-conv-gaussian-{variance}": (
            VAEConfig(
                latent=4,
                network=ConvConfig(encoder_channels=(4,), decoder_channels=(6,), hidden=16, dropout=0.1),
                likelihood=GaussianConfig(variance=variance, scale=20.0),
            ),
            ImageShape(3, 8, 8),
        )
        for variance in ("fixed", "shared", "learned", "optimal")
    },
    **{
        f"vae-mlp-{likelihood.kind}": (
            VAEConfig(latent=3, network=MLPConfig(hidden=(10,)), likelihood=likelihood),
            ImageShape(3, 4, 5),
        )
        for likelihood in (LogisticMixtureConfig(mixtures=3), CategoricalConfig())
    },
    **{
        f"vae-pixelcnn-{likelihood.kind}": (
            VAEConfig(latent=3, network=MLPConfig(hidden=(10,)), likelihood=likelihood, decoder=PIXELCNN),
            ImageShape(1, 4, 5),
        )
        for likelihood in (BernoulliConfig(), LogisticMixtureConfig(mixtures=2))
    },
    **{
        f"delta-vae-{construction}": (
            DeltaVAEConfig.model_validate(
                {
                    "family": "delta-vae",
                    "latent": 4,
                    "construction": construction,
                    "network": MLPConfig(hidden=(10,)),
                    "decoder": PIXELCNN,
                }
            ),
            ImageShape(1, 4, 5),
        )
        for construction in ("fixed-variance", "ar1")
    },
    **{
        f"ppca-{posterior}": (
            PPCAConfig.model_validate({"family": "ppca", "latent": 3, "posterior": posterior}),
            ImageShape(3, 4, 5),
        )
        for posterior in ("exact", "diagonal", "full-covariance")
    },
    "hierarchical-vae-two-grids": (
        HierarchicalVAEConfig(
            family="hierarchical-vae",
            latent=3,
            levels=(GridConfig(downsampling=4, latent=2), GridConfig(downsampling=2, latent=1)),
            network=LadderConfig(channels=(4, 6), encoder_blocks=(0, 1), features=5, hidden=8, dropout=0.1),
        ),
        ImageShape(1, 8, 12),
    ),
    "hierarchical-vae-one-grid-gaussian": (
        HierarchicalVAEConfig(
            family="hierarchical-vae",
            latent=3,
            levels=(GridConfig(downsampling=2, latent=2),) * 2,
            network=LadderConfig(channels=(4,), encoder_blocks=(1,), decoder_blocks=(1,), features=5, hidden=8),
            likelihood=GaussianConfig(variance="learned", scale=20.0),
        ),
        ImageShape(3, 8, 8),
    ),
    "autoencoder": (
        AutoencoderConfig(family="autoencoder", latent=3, network=MLPConfig(hidden=(10,))),
        ImageShape(1, 6, 5),
    ),
    "vae-gan": (
        VAEGANConfig(
            family="vae-gan",
            latent=3,
            network=ConvConfig(encoder_channels=(4,), decoder_channels=(6,), hidden=8, upsampling="nearest"),
            likelihood=GaussianConfig(variance="shared", scale=20.0),
        ),
        ImageShape(3, 8, 8),
    ),
    **{
        f"vqvae-{name}": (
            VQVAEConfig(
                family="vqvae",
                network=FullyConvConfig(downsampling=4, hidden=8, residual_hidden=4, residual_blocks=1),
                quantizer=QuantizerConfig(num_embeddings=16, embedding_dim=3, initialisation="random", **options),
            ),
            ImageShape(3, 8, 12),
        )
        for name, options in {
            "ema": {"update": "ema"},
            "loss": {"update": "loss"},
            "rotation": {"gradient": "rotation"},
            "residual": {"num_codebooks": 3, "codebook_dropout": 0.5, "update": "loss"},
        }.items()
    },
    "vqvae-fsq": (
        VQVAEConfig(
            family="vqvae",
            network=FullyConvConfig(downsampling=2, hidden=8, residual_hidden=4, residual_blocks=1),
            quantizer=FiniteScalarConfig(kind="fsq", levels=(5, 4, 3)),
        ),
        ImageShape(3, 8, 12),
    ),
    **{
        f"hierarchical-vqvae-{'-'.join(map(str, downsamplings))}x{codebooks}": (
            HierarchicalVQVAEConfig(
                family="hierarchical-vqvae",
                network=HierarchyConfig(
                    downsamplings=downsamplings, features=5, hidden=8, residual_hidden=4, residual_blocks=1
                ),
                quantizer=QuantizerConfig(
                    num_embeddings=16, embedding_dim=3, initialisation="random", num_codebooks=codebooks
                ),
            ),
            ImageShape(3, 16, 8),
        )
        for downsamplings, codebooks in (((4, 2), 1), ((8, 4, 2), 1), ((8, 2), 2))
    },
    **{
        f"sound-vqvae-{name}": (
            SoundVQVAEConfig(
                family="sound-vqvae",
                network=SoundConvConfig(
                    encoder_channels=(4, 6, 8), decoder_channels=(6, 4), encoder_blocks=1, decoder_blocks=1
                ),
                wavenet=WaveNetDecoderConfig(features=4, channels=6, skip_channels=8, cycles=1, layers=3, hidden=8),
                quantizer=QuantizerConfig(num_embeddings=16, embedding_dim=3, initialisation="random"),
                num_speakers=2,
                **options,
            ),
            SoundShape(48),
        )
        for name, options in {
            "gaussian": {"likelihood": SoundGaussianConfig()},
            "mu-law": {"likelihood": MuLawConfig()},
            "wavenet": {"likelihood": MuLawConfig(), "decoder": "wavenet"},
        }.items()
    },
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[FamilyConfig, ImageShape | SoundShape]:
    return FAMILIES[request.param]


@pytest.fixture
def model(family: tuple[FamilyConfig, ImageShape | SoundShape]) -> LatentVariableModel:
    torch.manual_seed(0)
    return build(family[0], shape_of(family[1]))


def shape_of(data: ImageShape | SoundShape) -> tuple[int, ...]:
    return (data.length,) if isinstance(data, SoundShape) else (data.height, data.width, data.channels)


@pytest.fixture
def x(family: tuple[FamilyConfig, ImageShape | SoundShape], model: LatentVariableModel) -> torch.Tensor:
    generator, shape = torch.Generator().manual_seed(1), (6, *shape_of(family[1]))
    if isinstance(family[1], SoundShape):
        return torch.randint(-9000, 9000, shape, generator=generator) / 32768
    x = torch.randint(0, 256, shape, generator=generator).byte()
    return x if model.likelihood.values is None else (x >= 128).byte() * 255


def noise(model: LatentVariableModel, batch: int, samples: int) -> torch.Tensor:
    return torch.randn(batch, samples, model.bottleneck.noise_dimensions)


def test_shapes(model: LatentVariableModel, x: torch.Tensor) -> None:
    encoding = model.eval().encode(x)
    z = model.bottleneck.point(encoding)
    assert z.dim() == 1 + model.bottleneck.latent_axes
    assert all(len(value) == 6 for value in encoding.values())
    bound = model.bound(x, noise(model, 6, 3))
    samples = 3 if model.bottleneck.noise_dimensions else 1
    assert bound.log_weights.shape == (6, samples)
    assert bound.elbo.shape == bound.iwae.shape == (6,)
    assert model.likelihood.pixel_log_prob(x, model.weighing(x, z)).shape == x.shape[:3]
    mean = model.mean(z.unflatten(0, (2, 3)))
    assert torch.equal(mean.flatten(0, 1), model.reconstruct(x))
    assert mean.shape == (2, 3, *x.shape[1:])
    assert mean.min() >= (-1 if x.dtype == torch.float32 else 0)
    assert mean.max() <= (1 if x.dtype == torch.float32 else 255)


def test_gradients_reach_every_parameter(model: LatentVariableModel, x: torch.Tensor) -> None:
    with torch.no_grad():  # blocks start at the identity, where some gradients are zero
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    latent, _, bound = model(x, noise(model, 6, 2))
    penalties = sum(level.penalty.sum() for level in latent if level.penalty is not None)
    torch.autograd.backward(bound.elbo.sum() + penalties)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_bounds_are_ordered_and_made_of_their_terms(model: LatentVariableModel, x: torch.Tensor) -> None:
    bound = model.eval().bound(x, noise(model, 6, 16))
    assert (bound.iwae >= bound.log_weights.mean(1)).all()
    assert torch.allclose(bound.elbo, bound.reconstruction - bound.rate)
    if bound.kl is not None or not model.bottleneck.noise_dimensions:  # a sampled rate may be below zero
        assert (bound.rate >= 0).all()
    assert (bound.reconstruction <= 0).all(), "a probability of pixels is at most one"


def test_save_and_load(
    family: tuple[FamilyConfig, ImageShape | SoundShape], model: LatentVariableModel, x: torch.Tensor, tmp_path: Path
) -> None:
    x = torch.zeros_like(x[:2])
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = build(family[0], shape_of(family[1]))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    drawn = noise(model, 2, 1)
    assert torch.equal(other.eval().bound(x, drawn).log_weights, model.eval().bound(x, drawn).log_weights)


def test_a_config_survives_its_own_dump(family: tuple[FamilyConfig, ImageShape | SoundShape]) -> None:
    assert type(family[0]).model_validate(family[0].model_dump()) == family[0]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (ConvConfig(encoder_channels=(4, 4), decoder_channels=(4,)), "give both the same number"),
        (ConvConfig(encoder_channels=(4, 4, 4), decoder_channels=(4, 4, 4)), "multiples of 8"),
    ],
)
def test_networks_that_do_not_fit_are_refused(network: ConvConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VAEConfig(network=network).build(ImageShape(1, 12, 12))


@pytest.mark.parametrize(
    ("network", "message"),
    [(FullyConvConfig(downsampling=6), "a power of 2"), (FullyConvConfig(downsampling=8), "multiples of it")],
)
def test_grids_that_do_not_fit_are_refused(network: FullyConvConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQVAEConfig(family="vqvae", network=network).build(ImageShape(1, 12, 12))
