"""What every step of a flow does, and the chain of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.quantizers.base import full_precision


class Mapped(NamedTuple):
    """Where a map takes z.

    Attributes:
        z: the image.
        log_det: log |det d image / d z|, nats.
    """

    z: Float[Tensor, "*batch D"]
    log_det: Float[Tensor, "*batch"]


class Transform(nn.Module, ABC):
    """One step: an invertible map of z given a context; a fresh one is the identity."""

    @abstractmethod
    def forward(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Map z.

        Args:
            z: any real values.
            context: what the map depends on besides; None where the step was made for none.

        Returns:
            The image and its log-determinant.
        """

    @abstractmethod
    def inverse(self, z: Float[Tensor, "*batch D"], context: Float[Tensor, "*#batch C"] | None = None) -> Mapped:
        """Go the way back; the log-determinant is that of the way back.

        Raises:
            TypeError: it has no closed form.
        """


class Conditioner(nn.Module):
    """A linear map from the context to parameters of a step; without a context, the parameters themselves.

    Args:
        context: C of the context, 0 for none.
        outputs: numbers.
        zero: start at zero, else as a random vector of unit length.
    """

    def __init__(self, context: int, outputs: int, *, zero: bool = False) -> None:
        super().__init__()
        scale = 0.0 if zero else outputs**-0.5
        self.bias = nn.Parameter(scale * torch.randn(outputs))
        self.weight = nn.Parameter(scale * context**-0.5 * torch.randn(outputs, context)) if context else None

    def forward(self, context: Float[Tensor, "*batch C"] | None) -> Float[Tensor, "*batch N"]:
        """Give the parameters."""
        if self.weight is None or context is None:
            return self.bias
        return nn.functional.linear(context, self.weight, self.bias)


class Flow(nn.Module):
    """Steps one after the other: log-determinants add up (Rezende & Mohamed 2015, eqs. 6 and 7).

    It computes in the precision of z under autocast, too: its log-determinants are part of bounds.

    Args:
        steps: in the order of the way there.
    """

    def __init__(self, steps: Sequence[Transform]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(
        self,
        z: Float[Tensor, "*batch D"],
        context: Float[Tensor, "*#batch C"] | None = None,
        *,
        inverse: bool = False,
    ) -> Mapped:
        """Map z.

        Args:
            z: any real values.
            context: of all steps; None where they were made for none.
            inverse: go the way back.

        Returns:
            The image and its log-determinant.

        Raises:
            TypeError: the way back is asked for, and a step has none.
        """
        log_det = torch.zeros_like(z[..., 0])
        steps = [cast("Transform", step) for step in self.steps]
        with full_precision(z.device.type):
            for step in reversed(steps) if inverse else steps:
                z, change = step.inverse(z, context) if inverse else step(z, context)
                log_det = log_det + change
        return Mapped(z, log_det)
