"""Convolutional encoder and decoder: strided stages of residual blocks, and no normalisation across the batch."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from models.networks import ImageShape, Network

Upsampling = Literal["subpixel", "nearest"]


class ResidualBlock(nn.Module):
    """x + conv1x1(dropout(relu(conv3x3(relu(x))))); the last convolution starts at zero, the block at the identity.

    Args:
        channels: of input and output.
        dropout: probability with which a hidden channel's value is dropped in training.
    """

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        last = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Dropout(dropout), last
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's change to its input."""
        change: Tensor = self.layers(x)
        return x + change


def conv(
    data: ImageShape,
    outputs_per_channel: int,
    *,
    encoder_channels: tuple[int, ...],
    decoder_channels: tuple[int, ...],
    encoder_blocks: int,
    decoder_blocks: int,
    hidden: int,
    dropout: float,
    latent: int,
    posterior_outputs: int,
    upsampling: Upsampling,
) -> Network:
    """Build stages that halve the image on the way in and double it on the way out.

    Args:
        data: shape of an image; both sides multiples of 2 to the number of stages.
        outputs_per_channel: numbers that the likelihood wants for each channel of a pixel.
        encoder_channels: channels of each stage, from the image inwards.
        decoder_channels: channels of each stage, from the latent outwards; as many stages as the encoder has.
        encoder_blocks: residual blocks in a stage of the encoder.
        decoder_blocks: likewise in the decoder, where each costs once a sample.
        hidden: units of the dense layer between the smallest map and z, on either side.
        dropout: 0 .. 1, in blocks and dense layers.
        latent: D of z.
        posterior_outputs: K, numbers that the posterior wants.
        upsampling: of the decoder's stages: `subpixel` rearranges channels (Shi et al. 2016), which is quick, but gives
            each pixel of a block weights of its own, and so patterns of the block's period to whom they please;
            `nearest` repeats places before it convolves (Odena et al. 2016).

    Returns:
        Encoder and decoder.

    Raises:
        ValueError: the stages do not fit the image or each other.
    """
    stages = len(encoder_channels)
    if len(decoder_channels) != stages:
        raise ValueError(
            f"encoder_channels has {stages} stages, decoder_channels {len(decoder_channels)}; give both the same number"
        )
    factor = 2**stages
    if data.height % factor or data.width % factor:
        raise ValueError(
            f"images are {data.height}x{data.width}, but {stages} stages need both sides to be multiples of {factor}; "
            "use fewer stages or another image size"
        )
    height, width = data.height // factor, data.width // factor
    return Network(
        _encoder(data, encoder_channels, encoder_blocks, height * width, hidden, dropout, posterior_outputs),
        _decoder(
            data.channels * outputs_per_channel,
            decoder_channels,
            decoder_blocks,
            (height, width),
            hidden,
            dropout,
            latent,
            upsampling,
        ),
    )


_SQUEEZED = 32
"""Channels of the smallest map where it meets the dense layer, which would else hold most of the weights."""


def _encoder(
    data: ImageShape, channels: tuple[int, ...], blocks: int, places: int, hidden: int, dropout: float, outputs: int
) -> nn.Module:
    """Chain strided stages, squeeze, flatten and a dense layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise((data.channels, *channels)):
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1)]
        layers += [ResidualBlock(after, dropout) for _ in range(blocks)]
        layers += [nn.ReLU()]
    return nn.Sequential(
        *layers,
        nn.Conv2d(channels[-1], _SQUEEZED, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(_SQUEEZED * places, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )


def _decoder(
    outputs: int,
    channels: tuple[int, ...],
    blocks: int,
    smallest: tuple[int, int],
    hidden: int,
    dropout: float,
    latent: int,
    upsampling: Upsampling,
) -> nn.Module:
    """Chain a dense layer and stages that end in an upsampling each."""
    height, width = smallest
    layers: list[nn.Module] = [
        nn.Linear(latent, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, channels[0] * height * width),
        nn.Unflatten(1, (channels[0], height, width)),
    ]
    for before, after in pairwise(channels):
        layers += [ResidualBlock(before, dropout) for _ in range(blocks)]
        layers += [nn.ReLU(), *_doubling(before, after, 1, upsampling)]
    layers += [ResidualBlock(channels[-1], dropout) for _ in range(blocks)]
    layers += [nn.ReLU(), *_doubling(channels[-1], outputs, 3, upsampling)]
    return nn.Sequential(*layers)


def _doubling(before: int, after: int, kernel: int, upsampling: Upsampling) -> list[nn.Module]:
    """Double both sides; `kernel` is that of the coarser places, finer ones need 3 to join them."""
    if upsampling == "subpixel":
        return [nn.Conv2d(before, 4 * after, kernel, padding=kernel // 2), nn.PixelShuffle(2)]
    return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
