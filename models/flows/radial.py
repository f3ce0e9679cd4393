"""Radial flows."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.flows.base import Conditioner, Mapped, Transform
from models.flows.planar import SOFTPLUS_IS_ONE


class _Ball(NamedTuple):
    """Where a radial step acts: its centre `[*batch, D]`, width alpha > 0 and strength beta > -alpha, `[*batch, 1]`."""

    centre: Tensor
    alpha: Tensor
    beta: Tensor


class Radial(Transform):
    """z + beta (z - z0) / (alpha + r), r = |z - z0|, out from a point or in (Rezende & Mohamed 2015, eq. 14).

    It is invertible where beta > -alpha (appendix A.2): beta = alpha (softplus(b + c) - 1), c = log(e - 1), so that
    b = 0 is the identity. log |det| = (D - 1) log(1 + beta / (alpha + r)) + log(1 + alpha beta / (alpha + r)^2).

    Args:
        dimensions: D of z.
        context: C of what z0, alpha and beta depend on, 0 for none.
    """

    def __init__(self, dimensions: int, context: int) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.centre = Conditioner(context, dimensions)
        self.width = Conditioner(context, 1)
        self.strength = Conditioner(context, 1, zero=True)

    def forward(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Map z; see `Transform.forward`."""
        ball = self._ball(context)
        way = z - ball.centre
        radius = torch.linalg.vector_norm(way, dim=-1, keepdim=True)
        return Mapped(z + ball.beta / (ball.alpha + radius) * way, self._log_det(ball, radius))

    def inverse(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Go the way back: the radius before solves r^2 + (alpha + beta - r') r - alpha r' = 0."""
        ball = self._ball(context)
        way = z - ball.centre
        after = torch.linalg.vector_norm(way, dim=-1, keepdim=True)
        half = 0.5 * (after - ball.alpha - ball.beta)
        radius = half + (half.square() + ball.alpha * after).sqrt()
        back = way / (1.0 + ball.beta / (ball.alpha + radius))
        return Mapped(ball.centre + back, -self._log_det(ball, radius))

    def _ball(self, context: Float[Tensor, "*#batch C"] | None) -> _Ball:
        """Give the parameters within their ranges."""
        alpha = nn.functional.softplus(self.width(context))
        beta = alpha * (nn.functional.softplus(self.strength(context) + SOFTPLUS_IS_ONE) - 1.0)
        return _Ball(self.centre(context), alpha, beta)

    def _log_det(self, ball: _Ball, radius: Float[Tensor, "*batch 1"]) -> Float[Tensor, "*batch"]:
        """Give the log-determinant at a distance from the centre."""
        distance = ball.alpha + radius
        across = torch.log1p(ball.beta / distance)
        along = torch.log1p(ball.alpha * ball.beta / distance.square())
        return ((self.dimensions - 1) * across + along).squeeze(-1)
