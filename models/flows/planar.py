"""Planar flows."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.flows.base import Conditioner, Mapped, Transform

SOFTPLUS_IS_ONE = math.log(math.e - 1.0)
"""Where softplus is 1: constraints that are shifted by it leave a fresh step at the identity."""


class Planar(Transform):
    """z + u tanh(w z + b), which presses and stretches space along a plane (Rezende & Mohamed 2015, eqs. 10 to 12).

    It is invertible where w u > -1, so u is moved along w until w u = -1 + softplus(w u + c) (appendix A.1; the
    constant c = log(e - 1) makes u = 0 the identity). log |det| = log(1 + (1 - tanh^2) w u).

    Args:
        dimensions: D of z.
        context: C of what u, w and b depend on, 0 for none.
    """

    def __init__(self, dimensions: int, context: int) -> None:
        super().__init__()
        self.strength = Conditioner(context, dimensions, zero=True)
        self.plane = Conditioner(context, dimensions + 1)

    def forward(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Map z; see `Transform.forward`."""
        u, plane = self.strength(context), self.plane(context)
        w, b = plane[..., :-1], plane[..., -1]
        w_u = (w * u).sum(-1, keepdim=True)
        above_minus_one = nn.functional.softplus(w_u + SOFTPLUS_IS_ONE)
        u = u + (above_minus_one - 1.0 - w_u) * w / (w.square().sum(-1, keepdim=True) + 1e-12)
        height = torch.tanh((w * z).sum(-1) + b)
        # The slope t^2 + (1 - t^2)(1 + w u) is 1 + (1 - t^2) w u without its cancellation near zero.
        log_det = (height.square() + (1.0 - height.square()) * above_minus_one.squeeze(-1)).log()
        return Mapped(z + u * height.unsqueeze(-1), log_det)

    def inverse(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Refuse; see `Transform.inverse`."""
        del z, context
        raise TypeError(
            "the way back through a planar flow has no closed form; choose a radial, coupling or inverse "
            "autoregressive flow"
        )
