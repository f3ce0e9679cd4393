"""Networks: pairs of encoder and decoder, each a short constructor of plain torch modules."""

from math import prod
from typing import NamedTuple

from torch import nn


class ImageShape(NamedTuple):
    """Channels, height and width of an image or of what a network gives for one."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """Numbers in one image."""
        return prod(self)


class SoundShape(NamedTuple):
    """Samples of a sound that a model is fitted to."""

    length: int


DataShape = ImageShape | SoundShape


def data_shape(shape: tuple[int, ...]) -> DataShape:
    """Read the shape of one example.

    Args:
        shape: H, W, C of an image, or T of a sound.

    Returns:
        What a family is built for.
    """
    if len(shape) == 1:
        return SoundShape(*shape)
    height, width, channels = shape
    return ImageShape(channels, height, width)


class Network(NamedTuple):
    """An encoder, `[B, C, H, W]` or `[B, 1, T]` to vectors `[B, K]` or grids `[B, D, *grid]`, and the decoder back."""

    encoder: nn.Module
    decoder: nn.Module
