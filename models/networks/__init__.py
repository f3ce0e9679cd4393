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
    """An encoder `[B, C, H, W] -> [B, K]` and the decoder `[B, D] -> [B, K', H, W]` that mirrors it."""

    encoder: nn.Module
    decoder: nn.Module
