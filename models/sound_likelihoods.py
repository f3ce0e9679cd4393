"""Likelihoods of sounds `[..., T]` in [-1, 1]: of their 16-bit values, so that a bound is a code length."""

import math

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from models.likelihoods import Gaussian, Likelihood, Params
from models.numerics import log_normal_bin

FULL_SCALE = 32768
"""16-bit values for one unit of amplitude: x = k / 32768, k = -32768 .. 32767."""
MU = 255
"""Of the logarithmic scale of ITU-T G.711, which has MU + 1 values."""


def pcm(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Give the nearest 16-bit values of amplitudes, -32768 .. 32767."""
    return (x.float() * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)


def mu_law(level: Float[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Give the classes of 16-bit values: round((f(k / 32768) + 1) mu / 2), f(x) = sign(x) ln(1 + mu |x|) / ln(1 + mu).

    Args:
        level: k, -32768 .. 32767.

    Returns:
        0 .. 255, int64.
    """
    x = level.double() / FULL_SCALE
    bent = x.sign() * (MU * x.abs()).log1p() / math.log1p(MU)
    return ((bent + 1.0) / 2.0 * MU).round().to(torch.int64)


class SoundLikelihood(Likelihood):
    """p(x given z) over sounds, whose samples are independent given z."""

    is_density = False
    half_range = 0.125
    """Amplitude for one network unit: speech is mostly quiet."""

    def network_input(self, x: Float[Tensor, "B T"]) -> Float[Tensor, "B 1 T"]:
        """Scale the sound to network units, as one channel."""
        return (x.float() / self.half_range).unsqueeze(1)

    def log_prob(self, x: Float[Tensor, "*#batch T"], params: Params) -> Float64[Tensor, "*batch"]:
        """Give log p(x given z) in nats, summed over samples; x broadcasts over leading axes."""
        return self.pixel_log_prob(x, params).sum(-1)

    def pixel_log_prob(self, x: Float[Tensor, "*#batch T"], params: Params) -> Float64[Tensor, "*batch T"]:
        """Give log p of every sample given z, in nats: any part of a sound can be summed alone."""
        return self.element_log_prob(x, params).double()


class SoundGaussian(SoundLikelihood, Gaussian):
    """16-bit values under a normal density integrated over each one's bin; those of the two ends reach to infinity.

    Args:
        variance: `fixed` at `scale`; `shared`, one learned number for all samples that starts there; or `learned`,
            given by the decoder for each sample; or `optimal`, as in `Gaussian`.
        scale: standard deviation of the amplitude, > 0.
    """

    min_scale = 4.0 / FULL_SCALE
    bin_width = 1.0 / FULL_SCALE

    def params(self, h: Float[Tensor, "B K T"]) -> Params:
        """Take the decoder's output as `location` and `log_scale`, both in network units."""
        found = super().params(h.unsqueeze(2))  # a sound is an image of one row
        return {name: value.squeeze(1).squeeze(-1) for name, value in found.items()}

    def element_log_prob(self, x: Float[Tensor, "*#batch T"], params: Params) -> Float64[Tensor, "*batch T"]:
        """Give the log-probability of every 16-bit value, in nats: at most 0.

        Args:
            x: in [-1, 1]; what is no 16-bit value counts as the nearest one.
            params: `location` and `log_scale`, network units.

        Returns:
            Nats, float64.
        """
        level, unit = pcm(x).double(), self.half_range * FULL_SCALE
        residual, log_scale = self.standardized(level / unit, params)
        half_bin = (0.5 / unit) * (-log_scale).exp()
        return log_normal_bin(residual, half_bin, level == -FULL_SCALE, level == FULL_SCALE - 1)

    def mean(self, params: Params) -> Float[Tensor, "*batch T"]:
        """Give the location, within -1 .. 1."""
        return (params["location"] * self.half_range).clamp(-1.0, 1.0)

    def sample(self, params: Params, noise: Float[Tensor, "*batch T"]) -> Float[Tensor, "*batch T"]:
        """Round a sample of the density to the 16-bit value in whose bin it falls."""
        return pcm(Gaussian.sample(self, params, noise)) / FULL_SCALE


class MuLawCategorical(SoundLikelihood):
    """A probability for each of the 256 values of the mu-law scale, even over the 16-bit values that it stands for.

    log p(x) = log p(class of x) - log(number of 16-bit values in that class) (van den Oord et al. 2016, section 2.2).
    """

    outputs_per_channel = MU + 1
    sizes: Tensor
    centres: Tensor
    firsts: Tensor

    def __init__(self) -> None:
        super().__init__()
        levels = torch.arange(-FULL_SCALE, FULL_SCALE, dtype=torch.float64)
        sizes = torch.bincount(mu_law(levels), minlength=MU + 1)
        ends = sizes.cumsum(0) - FULL_SCALE
        self.register_buffer("sizes", sizes.double(), persistent=False)
        self.register_buffer("firsts", (ends - sizes).float(), persistent=False)
        self.register_buffer("centres", ((2 * ends - sizes - 1) / 2.0 / FULL_SCALE).float(), persistent=False)

    def params(self, h: Float[Tensor, "B K T"]) -> Params:
        """Take the decoder's output as `logits`, K for each sample."""
        return {"logits": h.float().movedim(1, -1)}

    def element_log_prob(self, x: Float[Tensor, "*#batch T"], params: Params) -> Float64[Tensor, "*batch T"]:
        """Give the log-probability of every 16-bit value, in nats: below 0.

        Args:
            x: in [-1, 1]; what is no 16-bit value counts as the nearest one.
            params: `logits`, `[*batch, T, 256]`.

        Returns:
            Nats, float64.
        """
        log_p = params["logits"].double().log_softmax(-1) - self.sizes.log()
        chosen = mu_law(pcm(x)).expand(log_p.shape[:-1])
        return log_p.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)

    def mean(self, params: Params) -> Float[Tensor, "*batch T"]:
        """Give E[x given z]: the middles of the classes, each times its probability."""
        return params["logits"].softmax(-1) @ self.centres

    def sample(self, params: Params, noise: Float[Tensor, "*batch T"]) -> Float[Tensor, "*batch T"]:
        """Draw a class, and with what is left of the noise one of its 16-bit values."""
        shares = params["logits"].double().softmax(-1)
        above = shares.cumsum(-1)
        chosen = (above <= noise.double().unsqueeze(-1)).sum(-1, keepdim=True).clamp(max=MU)
        share, end = shares.gather(-1, chosen), above.gather(-1, chosen)
        left = ((noise.double().unsqueeze(-1) - end + share) / share).clamp(0.0, 1.0 - 1e-9)
        level = self.firsts[chosen] + (left * self.sizes[chosen]).floor()
        return (level.squeeze(-1) / FULL_SCALE).float()
