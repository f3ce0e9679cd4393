"""The discretised mixture of logistic distributions over uint8 pixels."""

import math

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn

from models.likelihoods.base import Likelihood, Params

_HALF_RANGE = 127.5
_MIN_LOG_SCALE = math.log(0.1 / _HALF_RANGE)


class LogisticMixture(Likelihood):
    """uint8 pixels under logistic densities, mixed and integrated over each value's bin (Salimans et al. 2017, eq. 2).

    P(x) = sum_k pi_k [sigma((x + 1/2 - m_k) / s_k) - sigma((x - 1/2 - m_k) / s_k)]; the bins of 0 and 255 reach to
    infinity, hence the probabilities of the 256 values sum to one. Each channel has a mixture of its own, and channels
    are independent given z: those of the paper, which depend on each other (eq. 3), are left out.

    Args:
        mixtures: K, components.
    """

    def __init__(self, mixtures: int) -> None:
        super().__init__()
        self.outputs_per_channel = 3 * mixtures

    def network_input(self, x: Shaped[Tensor, "B H W C"]) -> Float[Tensor, "B C H W"]:
        """Map 0 to -1 and 255 to 1."""
        return (x.float() / _HALF_RANGE - 1.0).permute(0, 3, 1, 2)

    def params(self, h: Float[Tensor, "B K H W"]) -> Params:
        """Take the decoder's output as `logits` of the components, their `location` and `log_scale`, network units."""
        h = h.float().permute(0, 2, 3, 1)
        by_channel = h.reshape(*h.shape[:-1], -1, self.outputs_per_channel)
        logits, location, log_scale = by_channel.chunk(3, dim=-1)
        bent = _MIN_LOG_SCALE + nn.functional.softplus(log_scale - _MIN_LOG_SCALE)
        return {"logits": logits, "location": location, "log_scale": bent}

    def element_log_prob(self, x: Shaped[Tensor, "*#batch H W C"], params: Params) -> Float64[Tensor, "*batch H W C"]:
        """Give the log-probability of every value, in nats: at most 0.

        With a < b, sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - exp(a - b)): nothing cancels.

        Args:
            x: 0 .. 255.
            params: `logits`, `location` and `log_scale`, `[*batch, H, W, C, K]`.

        Returns:
            Nats, float64.
        """
        value = x.unsqueeze(-1)
        precision = (-params["log_scale"].double()).exp()
        centre = (value.double() / _HALF_RANGE - 1.0 - params["location"].double()) * precision
        half_bin = (0.5 / _HALF_RANGE) * precision
        below, above = (nn.functional.logsigmoid(edge) for edge in (half_bin + centre, half_bin - centre))
        inside = below + above + torch.log(-torch.expm1(-2.0 * half_bin))
        log_p = torch.where(value == 0, below, torch.where(value == 255, above, inside))
        return torch.logsumexp(log_p + params["logits"].double().log_softmax(-1), dim=-1)

    def mean(self, params: Params) -> Float[Tensor, "*batch H W C"]:
        """Give E[x given z] within 0 .. 255.

        Of a value between 0 and 255 the mean is the integral of the probability that it is larger, in closed form
        s (log(1 + exp(m / s)) - log(1 + exp((m - 255) / s))); rounding to whole values moves it by less than 0.5, and
        by less than 0.01 where s is above 1.
        """
        location = (params["location"] + 1.0) * _HALF_RANGE
        scale = params["log_scale"].exp() * _HALF_RANGE
        above_black, above_white = (_soft_positive(part, scale) for part in (location, location - 255.0))
        return ((above_black - above_white) * params["logits"].softmax(-1)).sum(-1).clamp(0.0, 255.0)

    def sample(self, params: Params, noise: Float[Tensor, "*batch H W C"]) -> Shaped[Tensor, "*batch H W C"]:
        """Give the largest x with P(values below x) <= noise, found bit by bit."""
        value = torch.zeros_like(noise, dtype=torch.float64)
        for bit in (128, 64, 32, 16, 8, 4, 2, 1):
            value += bit * (self._below(value + bit, params) <= noise.double())
        return value.to(torch.uint8)

    def _below(self, value: Float64[Tensor, "*batch H W C"], params: Params) -> Float64[Tensor, "*batch H W C"]:
        """Give P(values below one), of 1 .. 255."""
        edge = (value - 0.5).unsqueeze(-1) / _HALF_RANGE - 1.0
        share = ((edge - params["location"].double()) * (-params["log_scale"].double()).exp()).sigmoid()
        return (share * params["logits"].double().softmax(-1)).sum(-1)


def _soft_positive(value: Float[Tensor, "..."], scale: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Give scale log(1 + exp(value / scale)), stably."""
    return value.clamp(min=0.0) + scale * torch.log1p(torch.exp(-value.abs() / scale))
