"""Normal likelihoods: the density of real values, and the probability of uint8 ones."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.distributions import LOG_2PI
from models.likelihoods.base import Likelihood, Params
from models.numerics import log_normal_bin
from models.together import gathered

Variance = Literal["fixed", "shared", "learned", "optimal"]


class Gaussian(Likelihood):
    """Real-valued pixels with a normal density, x ~ N(location, scale^2).

    Args:
        variance: `fixed` at `scale`; `shared`, one learned number for all pixels that starts there; `learned`, given by
            the decoder for each pixel; or `optimal`, one number for all pixels that is in training the most probable
            one for the batch, and else its moving average (Rybkin et al. 2021, eq. 5).
        scale: standard deviation in the data's unit, > 0.
    """

    is_density: ClassVar[bool] = True
    half_range = 1.0
    """Data units for one network unit."""
    centre = 0.0
    """The data value that the network sees as 0."""
    min_scale = 1e-3
    """Least standard deviation that a decoder can give, in data units: no density runs away to infinity."""
    bin_width = 0.0
    """Data units that one value stands for, where x is rounded."""

    def __init__(self, variance: Variance, scale: float) -> None:
        super().__init__()
        if not scale > self.min_scale:
            raise ValueError(f"scale is {scale}, expected a standard deviation above {self.min_scale}")
        self.variance = variance
        self.outputs_per_channel = 2 if variance == "learned" else 1
        log_scale = torch.tensor(math.log(scale / self.half_range))
        if variance == "fixed":
            self.register_buffer("log_scale", log_scale)
        elif variance == "optimal":
            self.average = MovingAverage((scale / self.half_range) ** 2)
        else:
            self.log_scale = nn.Parameter(torch.empty(()))
            self.set_scale(scale)

    def set_scale(self, scale: float) -> None:
        """Put a learned scale in place; `params` bends it by a softplus, of which this is the inverse.

        Args:
            scale: standard deviation in the data's unit, above `min_scale`.
        """
        above = math.log(scale / self.min_scale)
        with torch.no_grad():
            self.log_scale.fill_(math.log(scale / self.half_range) + math.log(-math.expm1(-above)))

    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Centre and scale the data to network units."""
        return ((x.float() - self.centre) / self.half_range).permute(0, 3, 1, 2)

    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Take the decoder's output as `location` and `log_scale`, both in network units."""
        h = h.float().permute(0, 2, 3, 1)
        if self.variance == "optimal":
            return {"location": h, "log_scale": self._log_scale_of(self.average.value).float().expand_as(h)}
        if self.variance == "learned":
            location, residual = h.chunk(2, dim=-1)
            log_scale = self.log_scale + residual
        else:
            location, log_scale = h, self.log_scale.expand_as(h)
        if self.variance == "fixed":
            return {"location": location, "log_scale": log_scale}
        floor = math.log(self.min_scale / self.half_range)
        return {"location": location, "log_scale": floor + nn.functional.softplus(log_scale - floor)}

    def standardized(
        self, target: Float64[Tensor, "*#batch H W C"], params: Params
    ) -> tuple[Float64[Tensor, "*batch H W C"], Float64[Tensor, "*batch H W C"]]:
        """Give the distance of data from their location in standard deviations, and the logarithm of these.

        The optimal variance of a batch is taken without gradient: at a maximum it would be none.

        Args:
            target: data in network units.
            params: `location` and `log_scale`, network units.

        Returns:
            Residuals, and log-scales in network units.
        """
        error = target - params["location"].double()
        log_scale = params["log_scale"].double()
        if self.variance == "optimal" and self.training:
            square = gathered(error.detach().square().mean().reshape(1)).mean()
            self.average.add(square)
            log_scale = self._log_scale_of(square).expand_as(log_scale)
        return error * (-log_scale).exp(), log_scale

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch H W C"]:
        """Give the log-density log N(x; location, scale^2) in the data's unit, in nats.

        Args:
            x: real values.
            params: `location` and `log_scale`, network units.

        Returns:
            Nats, float64.
        """
        residual, log_scale = self.standardized((x.double() - self.centre) / self.half_range, params)
        return -0.5 * (residual.square() + LOG_2PI) - log_scale - math.log(self.half_range)

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give the location in the data's unit."""
        return params["location"] * self.half_range + self.centre

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Give location + scale * Phi^-1(noise), in the data's unit."""
        normal = torch.special.ndtri(noise.clamp(2.0**-25, 1.0 - 2.0**-24))
        return self.mean({"location": params["location"] + params["log_scale"].exp() * normal})

    def _log_scale_of(self, square: Float64[Tensor, ""]) -> Float64[Tensor, ""]:
        """Give the most probable log-scale for a mean squared error; width^2 / 12 of it is of rounding (Sheppard)."""
        rounding = (self.bin_width / self.half_range) ** 2 / 12.0
        return 0.5 * (square - rounding).clamp(min=(self.min_scale / self.half_range) ** 2).log()


class MovingAverage(nn.Module):
    """A number that follows what is added; young averages forget faster, so that none is bound to its beginning.

    Args:
        value: to begin with.
    """

    decay = 0.99
    value: Tensor
    count: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def add(self, value: Float64[Tensor, ""]) -> None:
        """Take in another value."""
        decay = ((1.0 + self.count) / (10.0 + self.count)).clamp(max=self.decay)
        self.value.lerp_(value, 1.0 - decay)
        self.count += 1.0


class GreyLevelGaussian(Gaussian):
    """uint8 pixels as real numbers, under a normal density over grey levels: its logarithm is no code length."""

    half_range = 127.5
    centre = 127.5
    min_scale = 0.1

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give the location as an intensity, within 0 .. 255."""
        return super().mean(params).clamp(0.0, 255.0)


class DiscretizedGaussian(GreyLevelGaussian):
    """uint8 pixels under a normal density integrated over each value's bin, so that log p is minus a code length.

    P(x) = Phi((x + 1/2 - m) / s) - Phi((x - 1/2 - m) / s); the bins of 0 and 255 reach to infinity, hence the
    probabilities of the 256 values sum to one (the construction of Salimans et al. 2017, eq. 2, with a normal).
    """

    is_density: ClassVar[bool] = False
    bin_width = 1.0

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch H W C"]:
        """Give the log-probability of every value, in nats: at most 0.

        Args:
            x: 0 .. 255.
            params: `location` and `log_scale`, network units.

        Returns:
            Nats, float64.
        """
        residual, log_scale = self.standardized((x.double() - self.centre) / self.half_range, params)
        half_bin = (0.5 / self.half_range) * (-log_scale).exp()
        return log_normal_bin(residual, half_bin, x == 0, x == 255)

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Round a sample of the density to the value in whose bin it falls."""
        return super().sample(params, noise).round().clamp(0.0, 255.0).to(torch.uint8)
