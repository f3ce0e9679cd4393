"""Affine coupling flows."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows.coupling import GeneralCouplingTransform

from models.flows.autoregressive import start_at_identity
from models.flows.base import Mapped, Transform


class AffineCoupling(Transform):
    """z_b -> s z_b + m, with s > 0 and m of z_a, which stays as it is (Dinh et al. 2017, eqs. 4 to 8).

    a are every other dimension; log |det| = sum log s. Either way takes one pass. log s is softly bounded by
    +-log(1000), where exp is far from overflow.

    Args:
        dimensions: D of z, at least 2.
        context: C of what s and m depend on besides, 0 for none.
        hidden: units of each of the network's two hidden layers.
        even: a are the even dimensions, else the odd ones; steps of a flow take turns.
    """

    def __init__(self, dimensions: int, context: int, hidden: int, *, even: bool) -> None:
        super().__init__()
        mask = torch.arange(dimensions) % 2 == (0 if even else 1)
        self.map = GeneralCouplingTransform(
            dimensions, context, mask=mask, hidden_features=(hidden, hidden), activation=nn.ELU
        )
        start_at_identity(self.map.hyper)

    def forward(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Map z; see `Transform.forward`."""
        return Mapped(*self.map(context).call_and_ladj(z))

    def inverse(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Go the way back; see `Transform.inverse`."""
        return Mapped(*self.map(context).inv.call_and_ladj(z))
