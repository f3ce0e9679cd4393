"""What every quantizer is: vectors in, integers and code vectors out."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

ABSENT = -1
"""The code of a codebook that is left out; its vector is zero."""


class Quantized(NamedTuple):
    """What quantization gives for each vector.

    Attributes:
        z: the code vectors, with the gradient of the vectors that they replace.
        codes: their indices; of several codebooks `[B, Q, *grid]`.
        penalty: commitment (and codebook) loss of each example: means over its vectors and their elements.
    """

    z: Float[Tensor, "B *grid D"]
    codes: Int[Tensor, "B *grid"]
    penalty: Float[Tensor, " B"]


class Quantizer(nn.Module, ABC):
    """A finite set of code vectors of length D, and the way to the one that stands for a vector."""

    num_embeddings: int
    """K, symbols of a codebook."""
    embedding_dim: int
    """D of a vector."""
    num_codebooks: int = 1
    """Q, codes at each place; with more than one an axis of the codes, before the grid."""

    @abstractmethod
    def codes(self, z: Float[Tensor, "B *grid D"]) -> Int[Tensor, "B *grid"]:
        """Give the codes that stand for vectors."""

    @abstractmethod
    def embed(self, codes: Int[Tensor, "B *grid"]) -> Float[Tensor, "B *grid D"]:
        """Give the code vectors of codes."""

    @abstractmethod
    def margins(self, z: Float[Tensor, "B *grid D"]) -> Float[Tensor, "B *grid"]:
        """Give how much farther the second nearest code is than the nearest: (d_2 - d_1) / d_2, of squared distances.

        Args:
            z: what the encoder gave.

        Returns:
            For each code 0 for a tie, at most 1.
        """

    @abstractmethod
    def forward(self, z: Float[Tensor, "B *grid D"]) -> Quantized:
        """Quantize; in training, learn from the batch.

        Args:
            z: what the encoder gave.

        Returns:
            Code vectors, codes and penalty.
        """


def full_precision(device: str) -> AbstractContextManager[object]:
    """Leave autocast: bfloat16 distances would choose other codes."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def grids(codes: Int[Tensor, "B *grid"], num_codebooks: int) -> tuple[Int[Tensor, "B *grid"], ...]:
    """Give the grid of each codebook.

    Args:
        codes: of a quantizer; with several codebooks they are an axis after the batch.
        num_codebooks: Q.

    Returns:
        Q grids, `[B, *grid]` each.
    """
    return codes.unbind(1) if num_codebooks > 1 else (codes,)
