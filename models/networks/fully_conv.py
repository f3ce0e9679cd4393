"""Fully convolutional encoder and decoder, images of any size to grids of vectors (van den Oord et al. 2017)."""

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


def fully_conv(
    data: ImageShape,
    outputs_per_channel: int,
    *,
    downsampling: int,
    hidden: int,
    residual_hidden: int,
    residual_blocks: int,
    embedding_dim: int,
) -> Network:
    """Build strided convolutions and residual blocks, and transposed convolutions back.

    Args:
        data: channels of an image, and the sides that it will be fitted to.
        outputs_per_channel: numbers that the likelihood wants for each channel of a pixel.
        downsampling: pixels a side that one vector stands for, a power of 2 from 2.
        hidden: channels at the grid's resolution; half as many next to the image.
        residual_hidden: channels inside a residual block.
        residual_blocks: on either side.
        embedding_dim: D of a vector.

    Returns:
        Encoder `[B, C, H, W] -> [B, D, h, w]` and decoder back.

    Raises:
        ValueError: downsampling is no power of 2, or the image no multiple of it.
    """
    stages = downsampling.bit_length() - 1
    if downsampling < 2 or 2**stages != downsampling:
        raise ValueError(f"downsampling is {downsampling}, expected a power of 2 from 2")
    if data.height % downsampling or data.width % downsampling:
        raise ValueError(
            f"images are {data.height}x{data.width}, but downsampling {downsampling} needs both sides to be multiples "
            "of it; use less or another image size"
        )
    widths = [max(hidden // 2, 1)] * (stages - 1) + [hidden]
    blocks = [Residual(hidden, residual_hidden) for _ in range(2 * residual_blocks)]
    encoder: list[nn.Module] = []
    for before, after in pairwise((data.channels, *widths)):
        encoder += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    encoder += [
        nn.Conv2d(hidden, hidden, 3, padding=1),
        *blocks[:residual_blocks],
        nn.ReLU(),
        nn.Conv2d(hidden, embedding_dim, 1),
    ]
    decoder: list[nn.Module] = [
        nn.Conv2d(embedding_dim, hidden, 3, padding=1),
        *blocks[residual_blocks:],
        nn.ReLU(),
    ]
    for before, after in pairwise(reversed(widths)):
        decoder += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
    outputs = data.channels * outputs_per_channel
    decoder.append(nn.ConvTranspose2d(widths[0], outputs, 4, stride=2, padding=1))
    return Network(nn.Sequential(*encoder), nn.Sequential(*decoder))
