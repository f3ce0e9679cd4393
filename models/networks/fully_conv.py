"""Fully convolutional encoder and decoder, images of any size to grids of vectors (van den Oord et al. 2017)."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from models.networks import ImageShape, Network


class Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))), through fewer channels.

    Args:
        channels: of input and output.
        hidden: between the two convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's change to its input."""
        change: Tensor = self.layers(x)
        return x + change


@dataclass(frozen=True)
class Widths:
    """How wide and how deep the networks are.

    Attributes:
        hidden: channels at the grid's resolution; half as many a stage farther from it, but at least a quarter.
        residual_hidden: channels inside a residual block.
        residual_blocks: at the grid's resolution.
        fine_blocks: of a decoder, after each doubling but the last.
    """

    hidden: int
    residual_hidden: int
    residual_blocks: int
    fine_blocks: int = 0

    def stages(self, downsampling: int) -> list[int]:
        """Give the channels of each stage, from the image inwards.

        Args:
            downsampling: a power of 2 from 2.

        Returns:
            As many as there are halvings.

        Raises:
            ValueError: it is another number.
        """
        halvings = downsampling.bit_length() - 1
        if downsampling < 2 or 2**halvings != downsampling:
            raise ValueError(f"downsampling is {downsampling}, expected a power of 2 from 2")
        return [max(self.hidden >> min(left, 2), 1) for left in reversed(range(halvings))]


def encoder(inputs: int, outputs: int, downsampling: int, widths: Widths) -> nn.Sequential:
    """Build strided convolutions and residual blocks.

    Args:
        inputs: channels.
        outputs: likewise.
        downsampling: how many times smaller the outputs are on each side, a power of 2 from 2.
        widths: of the stages.

    Returns:
        The network.

    Raises:
        ValueError: downsampling is no power of 2.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((inputs, *widths.stages(downsampling))):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    hidden = widths.hidden
    return nn.Sequential(
        *layers,
        nn.Conv2d(hidden, hidden, 3, padding=1),
        *_residuals(widths),
        nn.ReLU(),
        nn.Conv2d(hidden, outputs, 1),
    )


def decoder(inputs: int, outputs: int, upsampling: int, widths: Widths) -> nn.Sequential:
    """Build residual blocks and transposed convolutions.

    Args:
        inputs: channels.
        outputs: likewise.
        upsampling: how many times larger the outputs are on each side, a power of 2 from 2.
        widths: of the stages.

    Returns:
        The network.

    Raises:
        ValueError: upsampling is no power of 2.
    """
    stages = widths.stages(upsampling)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, widths.hidden, 3, padding=1),
        *_residuals(widths),
        nn.ReLU(),
    ]
    for before, after in pairwise(reversed(stages)):
        layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)]
        layers += [Residual(after, after) for _ in range(widths.fine_blocks)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(stages[0], outputs, 4, stride=2, padding=1))


def _residuals(widths: Widths) -> list[nn.Module]:
    """Make the residual blocks of one side."""
    return [Residual(widths.hidden, widths.residual_hidden) for _ in range(widths.residual_blocks)]


def check_sides(data: ImageShape, downsampling: int) -> None:
    """Refuse images that do not divide into a grid.

    Args:
        data: shape of an image.
        downsampling: pixels a side that one vector stands for.

    Raises:
        ValueError: a side is no multiple of it.
    """
    if data.height % downsampling or data.width % downsampling:
        raise ValueError(
            f"images are {data.height}x{data.width}, but downsampling {downsampling} needs both sides to be multiples "
            "of it; use less or another image size"
        )


def fully_conv(
    data: ImageShape,
    outputs_per_channel: int,
    *,
    downsampling: int,
    encoder_widths: Widths,
    decoder_widths: Widths,
    embedding_dim: int,
) -> Network:
    """Build an encoder to a grid of vectors, and the decoder back.

    Args:
        data: channels of an image, and the sides that it will be fitted to.
        outputs_per_channel: numbers that the likelihood wants for each channel of a pixel.
        downsampling: pixels a side that one vector stands for, a power of 2 from 2.
        encoder_widths: of its stages.
        decoder_widths: likewise.
        embedding_dim: D of a vector.

    Returns:
        Encoder `[B, C, H, W] -> [B, D, h, w]` and decoder back.

    Raises:
        ValueError: downsampling is no power of 2, or the image no multiple of it.
    """
    inward = encoder(data.channels, embedding_dim, downsampling, encoder_widths)
    check_sides(data, downsampling)
    return Network(inward, decoder(embedding_dim, data.channels * outputs_per_channel, downsampling, decoder_widths))
