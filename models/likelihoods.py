"""Likelihoods p(x given z): each owns the way from data to network and back, and gives true log-probabilities."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.distributions import LOG_2PI
from models.numerics import event_sum, log_normal_bin

Params = dict[str, Tensor]
"""A likelihood's parameters by name, each `[..., H, W, C]`."""


class Likelihood(nn.Module, ABC):
    """p(x given z) over images `[..., H, W, C]`, whose pixels are independent given z."""

    outputs_per_channel: int
    """How many numbers the decoder gives for each channel of each pixel."""
    values: ClassVar[tuple[int, ...] | None] = None
    """The only values that x may take; None where every value of its type may occur."""

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


class Bernoulli(Likelihood):
    """Pixels that are either 0 or 255: log p = log sigmoid(+-logit)."""

    outputs_per_channel = 1
    values = (0, 255)

    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Map 0 to -1 and 255 to 1."""
        return (x.float() / 127.5 - 1.0).permute(0, 3, 1, 2)

    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Take the decoder's output as logits of a white pixel."""
        return {"logits": h.float().permute(0, 2, 3, 1)}

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give log sigmoid((2 bit - 1) logit), in nats.

        Args:
            x: 0 or 255.
            params: `logits`, of any real value.

        Returns:
            Nats.
        """
        sign = x.float() / 127.5 - 1.0
        return -nn.functional.softplus(-sign * params["logits"])

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give 255 sigmoid(logit)."""
        return 255.0 * params["logits"].sigmoid()

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Give 255 where the noise is below the probability of white, else 0."""
        return (noise < params["logits"].sigmoid()).to(torch.uint8) * 255


Variance = Literal["fixed", "shared", "learned"]


class Gaussian(Likelihood):
    """Real-valued pixels with a normal density, x ~ N(location, scale^2).

    Args:
        variance: `fixed` at `scale`; `shared`, one learned number for all pixels that starts there; or `learned`,
            given by the decoder for each pixel.
        scale: standard deviation in the data's unit, > 0.
    """

    half_range = 1.0
    """Data units for one network unit."""
    centre = 0.0
    """The data value that the network sees as 0."""
    min_scale = 1e-3
    """Least standard deviation that a decoder can give, in data units: no density runs away to infinity."""

    def __init__(self, variance: Variance, scale: float) -> None:
        super().__init__()
        if not scale > self.min_scale:
            raise ValueError(f"scale is {scale}, expected a standard deviation above {self.min_scale}")
        self.variance = variance
        self.outputs_per_channel = 2 if variance == "learned" else 1
        log_scale = torch.tensor(math.log(scale / self.half_range))
        if variance == "fixed":
            self.register_buffer("log_scale", log_scale)
        else:  # `params` bends it by a softplus, of which this is the inverse
            above = log_scale - math.log(self.min_scale / self.half_range)
            self.log_scale = nn.Parameter(log_scale + torch.log(-torch.expm1(-above)))

    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Centre and scale the data to network units."""
        return ((x.float() - self.centre) / self.half_range).permute(0, 3, 1, 2)

    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Take the decoder's output as `location` and `log_scale`, both in network units."""
        h = h.float().permute(0, 2, 3, 1)
        if self.variance == "learned":
            location, residual = h.chunk(2, dim=-1)
            log_scale = self.log_scale + residual
        else:
            location, log_scale = h, self.log_scale.expand_as(h)
        if self.variance == "fixed":
            return {"location": location, "log_scale": log_scale}
        floor = math.log(self.min_scale / self.half_range)
        return {"location": location, "log_scale": floor + nn.functional.softplus(log_scale - floor)}

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give the log-density log N(x; location, scale^2) in the data's unit, in nats.

        Args:
            x: real values.
            params: `location` and `log_scale`, network units.

        Returns:
            Nats.
        """
        target = (x.float() - self.centre) / self.half_range
        residual = (target - params["location"]) * (-params["log_scale"]).exp()
        log_unit = math.log(self.half_range)
        return -0.5 * (residual.square() + LOG_2PI) - params["log_scale"] - log_unit

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give the location in the data's unit."""
        return params["location"] * self.half_range + self.centre

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Give location + scale * Phi^-1(noise), in the data's unit."""
        normal = torch.special.ndtri(noise.clamp(2.0**-25, 1.0 - 2.0**-24))
        return self.mean({"location": params["location"] + params["log_scale"].exp() * normal})


class DiscretizedGaussian(Gaussian):
    """uint8 pixels under a normal density integrated over each value's bin, so that log p is minus a code length.

    P(x) = Phi((x + 1/2 - m) / s) - Phi((x - 1/2 - m) / s); the bins of 0 and 255 reach to infinity, hence the
    probabilities of the 256 values sum to one (the construction of Salimans et al. 2017, eq. 2, with a normal).
    """

    half_range = 127.5
    centre = 127.5
    min_scale = 0.1

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch H W C"]:
        """Give the log-probability of every value, in nats: at most 0.

        Args:
            x: 0 .. 255.
            params: `location` and `log_scale`, network units.

        Returns:
            Nats, float64.
        """
        precision = (-params["log_scale"].double()).exp()
        residual = ((x.double() - self.centre) / self.half_range - params["location"].double()) * precision
        half_bin = (0.5 / self.half_range) * precision
        return log_normal_bin(residual, half_bin, x == 0, x == 255)

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give the location as an intensity, within 0 .. 255."""
        return super().mean(params).clamp(0.0, 255.0)

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Round a sample of the density to the value in whose bin it falls."""
        return super().sample(params, noise).round().clamp(0.0, 255.0).to(torch.uint8)
