"""Exact decoders: the integers are those of the floating-point decoder, rounded, whatever carries them."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from models.exact.convert import NotExactError
from models.exact.decoder import MEAN_LIMIT, MEAN_STEPS, ExactDecoder
from models.exact.layers import calibrating, freeze
from models.families.hierarchical_vqvae import HierarchicalVQVAEConfig, HierarchyConfig
from models.families.parts import BernoulliConfig
from models.families.quantizers import QuantizerConfig
from models.families.vqvae import DecoderConfig, FullyConvConfig, VQVAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape

SHAPE = ImageShape(channels=3, height=16, width=24)
WIDTHS = {"hidden": 8, "residual_hidden": 6, "residual_blocks": 1}
QUANTIZER = QuantizerConfig(num_embeddings=9, embedding_dim=4, initialisation="random")


def flat() -> LatentVariableModel:
    decoder = DecoderConfig(hidden=12, residual_hidden=6, residual_blocks=2, fine_blocks=1)
    network = FullyConvConfig(**WIDTHS, downsampling=4, decoder=decoder)
    return VQVAEConfig(family="vqvae", network=network, quantizer=QUANTIZER).build(SHAPE)


def levels() -> LatentVariableModel:
    network = HierarchyConfig(**WIDTHS, downsamplings=(8, 2), features=6)
    return HierarchicalVQVAEConfig(family="hierarchical-vqvae", network=network, quantizer=QUANTIZER).build(SHAPE)


def weighty(model: LatentVariableModel) -> LatentVariableModel:
    """Give a model weights as after a fit, so that its pictures are not all grey."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and not name.startswith("encoder"):
            torch.nn.init.normal_(parameter, std=1.2 / float(parameter[0].numel()) ** 0.5)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[flat, levels])
def made(request: pytest.FixtureRequest) -> tuple[LatentVariableModel, ExactDecoder, list[torch.Tensor]]:
    torch.manual_seed(1)
    model = weighty(request.param())
    exact = ExactDecoder(model).eval()
    strides = model.bottleneck.strides
    finest = 4 if len(strides) == 1 else 2
    sides = [(16 // finest // stride, 24 // finest // stride) for stride in strides]
    codes = [torch.randint(0, 9, (5, *side)) for side in sides]
    with torch.no_grad(), calibrating(exact):
        exact(*codes)
    return model, exact, codes


@torch.no_grad()
def test_means_are_those_of_the_decoder_but_for_rounding(
    made: tuple[LatentVariableModel, ExactDecoder, list[torch.Tensor]],
) -> None:
    model, exact, codes = made
    expected = model.mean(model.bottleneck.point(dict(zip(exact.names, codes, strict=True)))).numpy()
    found = exact(*codes).numpy()
    assert found.shape == expected.shape == (5, 16, 24, 3)
    assert np.array_equal(found, np.rint(found))
    assert 0 <= found.min() <= found.max() <= MEAN_LIMIT
    error = np.abs(found / MEAN_STEPS - expected)
    assert np.std(expected) > 20
    assert np.sqrt(np.mean(error**2)) < 0.06 * np.std(expected)


@torch.no_grad()
def test_frozen_integers_are_the_same_in_any_carrier(
    made: tuple[LatentVariableModel, ExactDecoder, list[torch.Tensor]],
) -> None:
    _, exact, codes = made
    frozen = deepcopy(exact)
    freeze(frozen)
    assert max(frozen.accumulator_bounds().values()) < 2**24
    assert not any(True for _ in frozen.parameters())
    expected = exact(*codes)
    assert torch.equal(frozen(*codes), expected)
    assert torch.equal(deepcopy(frozen).double()(*codes).float(), expected)
    # nothing but what is around a place counts, so a row of the batch is what it is alone
    assert torch.equal(frozen(*(grid[1:2] for grid in codes)), expected[1:2])
    assert frozen.canonical_hash() == exact.canonical_hash()


@torch.no_grad()
def test_the_hash_is_of_every_integer(made: tuple[LatentVariableModel, ExactDecoder, list[torch.Tensor]]) -> None:
    _, exact, _ = made
    other = deepcopy(exact)
    freeze(other)
    before = other.canonical_hash()
    other.embeddings[0].weight[0, 0] += 1
    assert other.canonical_hash() != before


def test_other_models_are_refused() -> None:
    several = QUANTIZER.model_copy(update={"num_codebooks": 2})
    network = FullyConvConfig(**WIDTHS, downsampling=4)
    with pytest.raises(NotExactError, match="several codebooks"):
        ExactDecoder(VQVAEConfig(family="vqvae", network=network, quantizer=several).build(SHAPE))
    binary = VQVAEConfig(
        family="vqvae", network=network, quantizer=QUANTIZER, likelihood=BernoulliConfig(kind="bernoulli")
    )
    with pytest.raises(NotExactError, match="Bernoulli"):
        ExactDecoder(binary.build(SHAPE))
