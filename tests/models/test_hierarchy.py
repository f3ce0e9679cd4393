"""Levels of codes: shapes, who depends on whom, and a bound that adds up the levels."""

import math

import pytest
import torch
from pydantic import ValidationError

from models.bottleneck import code_names
from models.families.hierarchical_vqvae import HierarchicalVQVAEConfig, HierarchyConfig
from models.families.quantizers import QuantizerConfig
from models.model import LatentVariableModel
from models.networks import ImageShape

K = 11


def build(downsamplings: tuple[int, ...], codebooks: int = 1) -> LatentVariableModel:
    torch.manual_seed(0)
    config = HierarchicalVQVAEConfig(
        family="hierarchical-vqvae",
        network=HierarchyConfig(downsamplings=downsamplings, features=6, hidden=8, residual_hidden=4),
        quantizer=QuantizerConfig(
            num_embeddings=K, embedding_dim=4, initialisation="random", num_codebooks=codebooks, revive_below=0.0
        ),
    )
    return config.build(ImageShape(3, 32, 32)).eval()


def images(batch: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 32, 32, 3), generator=torch.Generator().manual_seed(1)).byte()


@pytest.mark.parametrize(
    ("downsamplings", "sides"), [((4, 2), (8, 16)), ((8, 4, 2), (4, 8, 16)), ((16, 4), (2, 8)), ((8, 2), (4, 16))]
)
def test_grids_are_those_of_the_downsamplings(downsamplings: tuple[int, ...], sides: tuple[int, ...]) -> None:
    model, x = build(downsamplings), images()
    encoding = model.encode(x)
    assert tuple(encoding) == code_names(len(sides)) == tuple(f"codes_{level}" for level in range(len(sides)))
    assert [tuple(codes.shape) for codes in encoding.values()] == [(3, side, side) for side in sides]
    assert all(codes.dtype == torch.int32 for codes in encoding.values())
    assert model.bottleneck.point(encoding).shape[2:] == (sides[-1], sides[-1])
    assert model.reconstruct(x).shape == x.shape
    bound = model.bound(x, torch.zeros(3, 1, 0))
    places = sum(side * side for side in sides)
    assert torch.allclose(bound.log_p_z, torch.tensor(-places * math.log(K), dtype=torch.float64))
    from_codes = model.log_weight(x, encoding, torch.zeros(3, 1, 0))
    torch.testing.assert_close(from_codes.log_p_x_given_z, bound.log_p_x_given_z, rtol=1e-4, atol=0.0)
    assert all(
        margins.shape == encoding[name].shape for name, margins in model.bottleneck.margins(model.hidden(x)).items()
    )


def test_a_pass_with_gradients_chooses_the_codes_of_an_encoding() -> None:
    model, x = build((8, 4, 2), codebooks=2), images()
    encoding = model.encode(x)
    latent = model(x, torch.zeros(3, 1, 0)).latent
    assert [level.codes.shape for level in latent] == [(3, 2, side, side) for side in (4, 8, 16)]
    for level, codes in zip(latent, encoding.values(), strict=True):
        assert torch.equal(level.codes, codes.long())
    torch.testing.assert_close(latent[-1].z[:, 0], model.bottleneck.point(encoding), rtol=1e-4, atol=1e-5)


def test_finer_codes_are_chosen_given_coarser_ones() -> None:
    model, x = build((4, 2)), images()
    before = model.encode(x)
    with torch.no_grad():
        model.bottleneck.quantizers[0].embedding.mul_(-20.0)
    after = model.encode(x)
    assert not torch.equal(before["codes_1"], after["codes_1"])


def test_every_level_reaches_the_picture() -> None:
    model, x = build((8, 4, 2)), images()
    encoding = model.encode(x)
    whole = model.mean(model.bottleneck.point(encoding))
    for name, codes in encoding.items():
        changed = model.mean(model.bottleneck.point(encoding | {name: (codes + 1) % K}))
        assert not torch.allclose(changed, whole), name


@pytest.mark.parametrize("downsamplings", [(4, 4), (2, 4), (12, 4)])
def test_levels_that_do_not_divide_are_refused(downsamplings: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="each larger than the next, top first"):
        HierarchyConfig(downsamplings=downsamplings)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of it"):
        build((64, 4))
