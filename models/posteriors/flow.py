"""The posterior that a flow makes of a normal one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from models.distributions import Distribution, Draw, standard_normal_log_prob
from models.flows import Flow, Mapped
from models.posteriors.base import Posterior, Quantity
from models.posteriors.diagonal import DiagonalGaussianPosterior


@dataclass(frozen=True)
class FlowDistribution(Distribution):
    """z = shift + scale * f(noise): a flow shapes standard normal noise, which is then moved to where x is.

    Attributes:
        shift: of z.
        log_scale: of z, in the logarithm.
        context: of the flow's steps.
        flow: f.
        weights: of the flow, in place of its own.
    """

    shift: Float[Tensor, "B D"]
    log_scale: Float[Tensor, "B D"]
    context: Float[Tensor, "B C"]
    flow: Flow
    weights: Mapping[str, Tensor] | None = None

    def draw(self, noise: Float[Tensor, "B S D"]) -> Draw:
        """Map noise: log q(z) = log N(noise) - log |det f| - sum log scale (Rezende & Mohamed 2015, eq. 7)."""
        image = self._map(noise, inverse=False)
        z = self.shift.unsqueeze(1) + self.log_scale.exp().unsqueeze(1) * image.z
        return Draw(z, standard_normal_log_prob(noise) - image.log_det - self.log_scale.sum(1, keepdim=True))

    def log_prob(self, z: Float[Tensor, "B S D"]) -> Float[Tensor, "B S"]:
        """Give log q(z) in nats, by the way back."""
        origin = self._map((z - self.shift.unsqueeze(1)) * (-self.log_scale).exp().unsqueeze(1), inverse=True)
        return standard_normal_log_prob(origin.z) + origin.log_det - self.log_scale.sum(1, keepdim=True)

    def detach(self) -> Self:
        """Cut the distribution from the graph that made its parameters, and from the flow's weights."""
        weights = {name: weight.detach() for name, weight in self.flow.named_parameters()}
        shift, log_scale, context = (value.detach() for value in (self.shift, self.log_scale, self.context))
        return type(self)(shift, log_scale, context, self.flow, weights)

    def _map(self, z: Float[Tensor, "B S D"], *, inverse: bool) -> Mapped:
        """Run the flow."""
        context = self.context.unsqueeze(1)
        if self.weights is None:
            return Mapped(*self.flow(z, context, inverse=inverse))
        return Mapped(*functional_call(self.flow, dict(self.weights), (z, context), {"inverse": inverse}))


class FlowPosterior(Posterior):
    """shift(x) + scale(x) * f(noise; context(x)), f a flow (Rezende & Mohamed 2015; Kingma et al. 2016).

    The moments come after the flow, not before it as in the papers, which makes the same distributions of planes and
    autoregressive steps: so the flow sees numbers of one size whatever x is, and learns far faster. What stands for x
    is where noise 0 goes, since the mean of such a density is not known.

    Args:
        dimensions: D of z.
        context: C, numbers from the encoder that the flow's steps see.
        flow: made for these.
    """

    def __init__(self, dimensions: int, context: int, flow: Flow) -> None:
        super().__init__(dimensions)
        self.flow = flow
        self.outputs = 2 * dimensions + context
        self.quantities = (
            Quantity("z", (dimensions,), "latent"),
            Quantity("shift", (dimensions,), "latent"),
            Quantity("log_scale", (dimensions,), "log_latent"),
            Quantity("context", (context,), "context"),
        )

    @property
    def drawn_from(self) -> tuple[str, ...]:
        """All but the z that is made of them."""
        return ("shift", "log_scale", "context")

    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Split the encoder's output into shift, twice the logarithm of the scale, and context; map noise 0."""
        dimensions, limit = self.dimensions, DiagonalGaussianPosterior.limit
        shift, log_variance, context = h.float().tensor_split((dimensions, 2 * dimensions), dim=1)
        params = {"shift": shift, "log_scale": 0.5 * log_variance.clamp(-limit, limit), "context": context}
        origin = torch.zeros_like(shift).unsqueeze(1)
        return {"z": self.distribution(params).draw(origin).z.squeeze(1)} | params

    def distribution(self, params: dict[str, Float[Tensor, "B ..."]]) -> FlowDistribution:
        """Give the distribution with these parameters."""
        return FlowDistribution(params["shift"], params["log_scale"], params["context"], self.flow)
