"""Finite scalar quantization: each coordinate is rounded to a few levels, and the codebook is their product."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.quantizers.base import Quantized, Quantizer, full_precision

_BEYOND = 1e-3
"""Share by which the bounded range exceeds the outermost levels, so that these are reached at finite z."""


class FiniteScalarQuantizer(Quantizer):
    """Coordinate i becomes one of L_i levels; K is the product of all L_i (Mentzer et al. 2023, section 3.1).

    The codebook is implicit: nothing is learned, and no code can die from want of use. A code is its coordinates'
    levels as the digits of one integer, the first coordinate the lowest digit.

    Args:
        levels: L_i of each of D coordinates, at least 2.
    """

    reach: Tensor
    offset: Tensor
    shift: Tensor
    sizes: Tensor
    places: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        self.num_embeddings, self.embedding_dim = math.prod(levels), len(levels)
        sizes = torch.tensor(levels)
        reach = (sizes - 1).double() * (1.0 + _BEYOND) / 2.0
        offset = torch.where(sizes % 2 == 0, 0.5, 0.0).double()
        constants = {
            "reach": reach.float(),
            "offset": offset.float(),
            "shift": torch.atanh(offset / reach).float(),
            "sizes": sizes,
            "places": torch.cat([torch.ones(1, dtype=torch.int64), sizes.cumprod(0)[:-1]]),
        }
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def codes(self, z: Float[Tensor, "B *grid D"]) -> Int[Tensor, "B *grid"]:
        """Round, and read the levels as digits."""
        with full_precision(z.device.type):
            return self._index(self._bound(z.float()).round())

    def embed(self, codes: Int[Tensor, "B *grid"]) -> Float[Tensor, "B *grid D"]:
        """Give the levels of codes, from -1 to 1."""
        digits = torch.div(codes.long().unsqueeze(-1), self.places, rounding_mode="floor") % self.sizes
        return self._scale((digits - self.sizes // 2).float())

    def margins(self, z: Float[Tensor, "B *grid D"]) -> Float[Tensor, "B *grid"]:
        """Give the margins of the rounding, where levels are 1 apart; see `Quantizer.margins`."""
        bounded = self._bound(z.double())
        off = (bounded - bounded.round()).abs()
        first = off.square().sum(-1)
        # The second nearest is the nearest but for the coordinate that is nearest to its border.
        second = first + (1.0 - 2.0 * off).amin(-1)
        return ((second - first) / second).to(torch.float32)

    def forward(self, z: Float[Tensor, "B *grid D"]) -> Quantized:
        """Round, and pass gradients straight through the rounding; there is no penalty."""
        with full_precision(z.device.type):
            bounded = self._bound(z.float())
            rounded = bounded.round().detach()
            through = bounded + (rounded - bounded).detach()
            return Quantized(self._scale(through), self._index(rounded), z.new_zeros(len(z), dtype=torch.float32))

    def _bound(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Squeeze each coordinate so that it rounds to one of its levels, and 0 to the middle one."""
        reach, offset, shift = (value.to(z.dtype) for value in (self.reach, self.offset, self.shift))
        return torch.tanh(z + shift) * reach - offset

    def _scale(self, rounded: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Bring levels to -1 .. 1."""
        return rounded / torch.div(self.sizes, 2, rounding_mode="floor")

    def _index(self, rounded: Float[Tensor, "*batch D"]) -> Int[Tensor, "*batch"]:
        """Read levels as the digits of an integer."""
        return ((rounded.long() + self.sizes // 2) * self.places).sum(-1)
