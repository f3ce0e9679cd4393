"""Networks of a hierarchy of grids: stages that halve a picture on the way in and double it on the way out."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from models.networks import ImageShape
from models.networks.conv import ResidualBlock


class Depth(nn.Module):
    """Space to channels and back, with neighbours kept together: `[B, C, r H, r W] <-> [B, r^2 C, H, W]`.

    The pixel shuffle of Shi et al. 2016 in another order of channels, by which a map whose channels lie last in memory
    stays so.

    Args:
        factor: r.
        inward: from space to channels; else back.
    """

    def __init__(self, factor: int, *, inward: bool) -> None:
        super().__init__()
        self.factor, self.inward = factor, inward

    def forward(self, x: Tensor) -> Tensor:
        """Move numbers between places and channels."""
        factor = self.factor
        _, channels, height, width = x.shape
        x = x.permute(0, 2, 3, 1)
        if self.inward:
            height, width = height // factor, width // factor
            x = x.reshape(-1, height, factor, width, factor, channels).transpose(2, 3)
            return x.reshape(-1, height, width, factor**2 * channels).permute(0, 3, 1, 2)
        channels //= factor**2
        x = x.reshape(-1, height, width, factor, factor, channels).transpose(2, 3)
        return x.reshape(-1, factor * height, factor * width, channels).permute(0, 3, 1, 2)


class Start(nn.Module):
    """From a vector to the coarsest map, channels last in memory: two dense layers.

    Args:
        dimensions: of the vector.
        hidden: units between.
        shape: of the map.
    """

    def __init__(self, dimensions: int, hidden: int, shape: ImageShape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Linear(dimensions, hidden), nn.ReLU(), nn.Linear(hidden, shape.size))

    def forward(self, z: Tensor) -> Tensor:
        """Make the map."""
        channels, height, width = self.shape
        h: Tensor = self.layers(z)
        return h.reshape(-1, height, width, channels).permute(0, 3, 1, 2)


_SQUEEZED = 32
"""Channels of the coarsest map where it meets the dense layers."""


@dataclass(frozen=True)
class Stages:
    """Grids of a picture, each with half the places a side of the one before.

    Attributes:
        data: shape of a picture.
        channels: of the map at each halving, from the picture inwards.
        encoder_blocks: residual blocks of each, on the way in.
        decoder_blocks: likewise on the way out, after each step of it.
        dropout: 0 .. 1, in residual blocks.
    """

    data: ImageShape
    channels: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    dropout: float

    def shape(self, halvings: int) -> ImageShape:
        """Give the shape of a map after so many halvings, from 1."""
        factor = 2**halvings
        return ImageShape(self.channels[halvings - 1], self.data.height // factor, self.data.width // factor)

    def inward(self, start: int, end: int) -> nn.Sequential:
        """Build the way from one grid to a coarser one; to itself it is the identity.

        Args:
            start: halvings of the map that is read; 0 for the picture.
            end: of the map that is made.

        Returns:
            The network.
        """
        layers: list[nn.Module] = []
        for halvings in range(start, end):
            before, after = self.channels[halvings - 1], self.channels[halvings]
            first = (
                nn.Conv2d(4 * before, after, 1) if halvings else nn.Conv2d(4 * self.data.channels, after, 3, padding=1)
            )
            layers += [Depth(2, inward=True), first]
            layers += self._blocks(halvings + 1, self.encoder_blocks)
        return nn.Sequential(*layers)

    def outward(self, start: int, end: int) -> nn.Sequential:
        """Build the way from one grid to a finer one, as far as the first halving; to itself it is its blocks."""
        if start == end:
            return nn.Sequential(*self._blocks(start, self.decoder_blocks))
        layers: list[nn.Module] = []
        for halvings in range(start, end, -1):
            layers += [nn.Conv2d(self.channels[halvings - 1], 4 * self.channels[halvings - 2], 1)]
            layers += [Depth(2, inward=False), *self._blocks(halvings - 1, self.decoder_blocks)]
        return nn.Sequential(*layers)

    def squeeze(self, halvings: int, hidden: int, outputs: int) -> nn.Sequential:
        """Build the way from a map to a vector."""
        channels, height, width = self.shape(halvings)
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, _SQUEEZED, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_SQUEEZED * height * width, hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def picture(self, halvings: int, outputs: int) -> nn.Sequential:
        """Build the way from a map to the numbers that the likelihood wants of each pixel."""
        return nn.Sequential(
            self.outward(halvings, 1),
            nn.ReLU(),
            nn.Conv2d(self.channels[0], 4 * outputs, 3, padding=1),
            Depth(2, inward=False),
        )

    def _blocks(self, halvings: int, counts: tuple[int, ...]) -> Iterator[nn.Module]:
        """Make the residual blocks of a grid."""
        return (ResidualBlock(self.channels[halvings - 1], self.dropout) for _ in range(counts[halvings - 1]))
