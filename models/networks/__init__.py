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


class Network(NamedTuple):
    """An encoder from images `[B, C, H, W]` to vectors `[B, K]` or grids `[B, D, h, w]`, and the decoder back."""

    encoder: nn.Module
    decoder: nn.Module
