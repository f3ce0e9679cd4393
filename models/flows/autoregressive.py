"""Inverse autoregressive flows."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows import MaskedAutoregressiveTransform

from models.flows.base import Mapped, Transform


class InverseAutoregressive(Transform):
    """z_i -> s_i z_i + m_i, with s_i > 0 and m_i of those before it alone (Kingma et al. 2016, eqs. 10 and 11).

    One pass through a masked network maps all dimensions, log |det| = sum_i log s_i; the way back takes D passes.
    log s is softly bounded by +-log(1000), where exp is far from overflow.

    Args:
        dimensions: D of z, at least 2.
        context: C of what s and m depend on besides, 0 for none.
        hidden: units of the network's one hidden layer.
        backwards: those after it instead of those before it; steps of a flow take turns.
    """

    def __init__(self, dimensions: int, context: int, hidden: int, *, backwards: bool) -> None:
        super().__init__()
        order = torch.arange(dimensions)
        self.map = MaskedAutoregressiveTransform(
            dimensions,
            context,
            order=order.flip(0) if backwards else order,
            hidden_features=(hidden,),
            activation=nn.ELU,
        )
        start_at_identity(self.map.hyper)

    def forward(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Map z; see `Transform.forward`."""
        return Mapped(*self.map(context).call_and_ladj(z))

    def inverse(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Go the way back; see `Transform.inverse`."""
        return Mapped(*self.map(context).inv.call_and_ladj(z))


def start_at_identity(network: nn.Sequential) -> None:
    """Let a network begin with scale 1 and shift 0 whatever it reads."""
    last = network[-1]
    nn.init.zeros_(last.get_parameter("weight"))
    nn.init.zeros_(last.get_parameter("bias"))
