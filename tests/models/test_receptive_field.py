"""Halos: by hand for a few layers, and against what a change of the input changes."""

import pytest
import torch
from torch import nn

from models.families import FamilyConfig
from models.families.hierarchical_vqvae import HierarchicalVQVAEConfig
from models.families.quantizers import QuantizerConfig
from models.families.sound_vqvae import SoundConvConfig, SoundVQVAEConfig
from models.families.vqvae import FullyConvConfig, VQVAEConfig
from models.networks import DataShape, ImageShape, SoundShape
from models.receptive_field import halos, receptive_halo

SOUND = SoundVQVAEConfig(
    family="sound-vqvae",
    network=SoundConvConfig(encoder_channels=(4, 4, 6), decoder_channels=(6, 4), encoder_blocks=2, decoder_blocks=2),
    quantizer=QuantizerConfig(num_embeddings=8, embedding_dim=3, initialisation="random"),
    num_speakers=2,
)
PICTURES = VQVAEConfig(
    family="vqvae",
    network=FullyConvConfig(downsampling=4, hidden=6, residual_hidden=4, residual_blocks=1),
    quantizer=QuantizerConfig(num_embeddings=8, embedding_dim=3, initialisation="random"),
)


def positive(layer: nn.Module) -> nn.Module:
    for weight in layer.parameters():
        weight.data.abs_().add_(0.01)
    return layer


@pytest.mark.parametrize(
    ("layers", "cell", "halo"),
    [
        ([nn.Conv1d(1, 1, 3, padding=1)], 1, 1),
        ([nn.Conv1d(1, 1, 3, padding=9, dilation=9)], 1, 9),
        ([nn.Conv1d(1, 1, 4, stride=2, padding=1)], 2, 1),
        ([nn.Conv1d(1, 1, 4, stride=2, padding=1), nn.Conv1d(1, 1, 4, stride=2, padding=1)], 4, 3),
        ([nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1)], 1, 1),
        ([nn.Conv1d(1, 1, 7, padding=3), nn.ReLU(), nn.Conv1d(1, 1, 5, padding=2)], 1, 5),
        ([nn.Conv1d(1, 1, 1)], 1, 0),
    ],
)
def test_halos_by_hand(layers: list[nn.Module], cell: int, halo: int) -> None:
    assert receptive_halo(positive(nn.Sequential(*layers)), 1, 1, cell) == halo


def test_a_network_that_sees_everything_has_no_halo() -> None:
    with pytest.raises(ValueError, match="no windows"):
        receptive_halo(lambda x: x + x.mean(), 1, 1, 1)


@pytest.mark.parametrize(("config", "data", "cell"), [(SOUND, SoundShape(64), 8), (PICTURES, ImageShape(3, 16, 16), 4)])
def test_nothing_beyond_the_halo_changes_anything(config: FamilyConfig, data: DataShape, cell: int) -> None:
    torch.manual_seed(0)
    model = config.build(data).double().eval()
    for parameter in model.parameters():  # no block is the identity, no weight zero
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    bottleneck = model.bottleneck
    channels = data.channels if isinstance(data, ImageShape) else 1
    found = halos(model.float(), bottleneck, channels, cell)
    model.double()
    cells = 64
    sides = (cell,) * (bottleneck.grid_axes - 1)
    middle = cells // 2

    def touched(run: nn.Module, width: int, unit: int, halo: int) -> tuple[bool, bool]:
        """Tell whether inputs just inside the halo matter, and whether any outside does."""
        conditions = [torch.zeros(1, dtype=torch.int64)] * len(model.conditions) if run is model.decoder else []
        small = [side // cell * unit for side in sides]
        x = torch.randn(1, width, *small, cells * unit, dtype=torch.float64, requires_grad=True)
        y = run(x, *conditions)
        scale = y.shape[-1] // cells
        (gradient,) = torch.autograd.grad(y[..., middle * scale : (middle + 1) * scale].abs().sum(), x)
        reached = gradient.flatten(0, -2).abs().sum(0) > 0
        first, last = middle * unit - halo, (middle + 1) * unit + halo
        inside = bool(reached[first] or reached[last - 1])
        return inside, bool(reached[:first].any() or reached[last:].any())

    assert touched(model.encoder, channels, cell, found.encode) == (True, False)
    latent = bottleneck.point(bottleneck.example(1)).shape[1]
    assert touched(model.decoder, latent, 1, found.decode) == (True, False)


def test_a_hierarchy_reaches_farther_than_its_encoder() -> None:
    torch.manual_seed(0)
    model = HierarchicalVQVAEConfig(family="hierarchical-vqvae").build(ImageShape(3, 64, 64))
    cell = 64 // model.eval().encode(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))["codes_0"].shape[-1]
    assert halos(model, model.bottleneck, 3, cell).encode > receptive_halo(positive(model.encoder), 3, 2, cell)
