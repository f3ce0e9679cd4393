"""What every likelihood does."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.numerics import event_sum

Params = dict[str, Tensor]
"""A likelihood's parameters by name, each `[..., H, W, C]`, or with a last axis of their own."""


class Likelihood(nn.Module, ABC):
    """p(x given z) over images `[..., H, W, C]`, whose pixels are independent given z."""

    outputs_per_channel: int
    """How many numbers the decoder gives for each channel of each pixel."""
    values: ClassVar[tuple[int, ...] | None] = None
    """The only values that x may take; None where every value of its type may occur."""
    is_density: ClassVar[bool] = False
    """Whether p is a density over real values, whose logarithm is no code length."""

    @abstractmethod
    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Scale data to what the encoder sees, channels first."""

    @abstractmethod
    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Read the decoder's output, K = outputs_per_channel * C, as this distribution's parameters."""

    @abstractmethod
    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give log p of every channel of every pixel given z, in nats; x broadcasts over leading axes."""

    def log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch"]:
        """Give log p(x given z) in nats, summed over pixels and channels; x broadcasts over leading axes."""
        return event_sum(self.element_log_prob(x, params))

    def pixel_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch H W"]:
        """Give log p of every pixel given z, in nats: any part of an image can be summed alone."""
        return self.element_log_prob(x, params).double().sum(-1)

    @abstractmethod
    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give E[x given z], in the data's unit."""

    @abstractmethod
    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Draw x given z from uniform noise in [0, 1), by the inverse of the cumulative distribution."""
