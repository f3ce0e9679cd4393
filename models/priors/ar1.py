"""The autoregressive prior of order one, which commits a rate."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from models.distributions import LOG_2PI, DiagonalGaussian, Distribution, standard_normal_log_prob
from models.priors.base import Prior

_BISECTIONS = 100


class AR1(Prior):
    """z_1 = eps_1, z_t = alpha z_{t-1} + sqrt(1 - alpha^2) eps_t, each channel by itself (Razavi et al. 2019, 2.2).

    z is a sequence of n steps of d channels, step after step. Every z_t alone is N(0, 1), but neighbours are
    correlated, which no posterior with independent dimensions can follow: whatever its means and variances are, its
    rate is at least `minimum_rate_nats`. It is no lower bound for posteriors of any other kind.

    That minimum: let P be the prior's precision matrix of one channel. A normal q with means m and variances s_t has

        KL(q || p) = (m^T P m + sum_t (P_tt s_t - ln s_t) - n - ln det P) / 2,

    least at m = 0 and s_t = 1 / P_tt, where it is (-sum_t ln(1 / P_tt) - ln det P) / 2. With v = 1 - alpha^2, the ends
    have P_tt = 1 / v, the n - 2 steps between them P_tt = (1 + alpha^2) / v, and det P = v^-(n - 1). So the minimum is

        ((n - 2) ln(1 + alpha^2) - n ln v + (n - 1) ln v) / 2 = ((n - 2) ln(1 + alpha^2) - ln(1 - alpha^2)) / 2

    nats a channel, summed over d channels.

    Args:
        steps: n, at least 2.
        alphas: alpha of each channel, -1 < alpha < 1.

    Raises:
        ValueError: there are fewer than two steps, or an alpha is not between -1 and 1.
    """

    alpha: Tensor
    scale: Tensor
    """Standard deviation of a step given the one before it, of each channel."""

    def __init__(self, steps: int, alphas: Sequence[float]) -> None:
        super().__init__(steps * len(alphas))
        if steps < 2 or not all(-1.0 < alpha < 1.0 for alpha in alphas):
            raise ValueError(
                f"an AR(1) prior has at least 2 steps and -1 < alpha < 1, not {steps} steps and {list(alphas)}"
            )
        self.steps, self.alphas = steps, tuple(alphas)
        self.register_buffer("alpha", torch.tensor(self.alphas), persistent=False)
        scales = [math.sqrt(1.0 - alpha**2) for alpha in self.alphas]
        self.register_buffer("scale", torch.tensor(scales), persistent=False)

    @classmethod
    def committed(cls, steps: int, channels: int, rate_nats: float) -> Self:
        """Choose the alpha, of all channels alike, whose least rate is a given one (the delta of delta-VAEs).

        Args:
            steps: n, at least 2.
            channels: d.
            rate_nats: the least rate of an example, all channels together, > 0.

        Returns:
            The prior.

        Raises:
            ValueError: a number is out of range, or the rate is beyond what float32 can hold an alpha for.
        """
        if not (rate_nats > 0.0 and channels > 0):
            raise ValueError(f"a committed rate is above 0 nats, of at least 1 channel; got {rate_nats}, {channels}")
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = middle < 1.0 and channels * _minimum_rate_nats(steps, middle) < rate_nats
            low, high = (middle, high) if below else (low, middle)
        if float(torch.tensor(high)) >= 1.0:
            raise ValueError(
                f"{rate_nats} nats are too much for {steps} steps of {channels} channels: alpha would be 1; lower the "
                "rate, or give z more steps or channels"
            )
        return cls(steps, (high,) * channels)

    @property
    def minimum_rate_nats(self) -> float:
        """The least KL(q || p) of any normal q with independent dimensions."""
        return math.fsum(_minimum_rate_nats(self.steps, alpha) for alpha in self.alphas)

    def log_prob(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch"]:
        """Give log p(z) in nats, of the noise that z is made of."""
        sequence = self._sequence(z)
        noise = (sequence[..., 1:, :] - self.alpha * sequence[..., :-1, :]) / self.scale
        noise = torch.cat((sequence[..., :1, :], noise), dim=-2)
        return standard_normal_log_prob(noise.flatten(-2)) - (self.steps - 1) * self.scale.log().sum()

    def sample(self, noise: Float[Tensor, "B D"], temperature: Float[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Run the recursion; see `Prior.sample`."""
        steps = self._sequence(noise).unbind(-2)
        sequence = [steps[0]]
        for step in steps[1:]:
            sequence.append(self.alpha * sequence[-1] + self.scale * step)
        return temperature.unsqueeze(1) * torch.cat(sequence, dim=1)

    def kl(self, posterior: Distribution) -> Float[Tensor, "B 1"] | None:
        """Give KL(q || p) in nats, for a normal q with independent dimensions: E_q log q - E_q log p."""
        if not isinstance(posterior, DiagonalGaussian):
            return None
        variances = self._sequence(posterior.log_variance.exp())
        before, after = variances[:, :-1], variances[:, 1:]
        spread = variances[:, 0].sum(1) + ((after + self.alpha**2 * before) / self.scale**2).sum((1, 2))
        negative_entropy = -0.5 * (posterior.log_variance + 1.0 + LOG_2PI).sum(1)
        return (negative_entropy - self.log_prob(posterior.mean) + 0.5 * spread).unsqueeze(1)

    def _sequence(self, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch n d"]:
        """Lay z out as steps of channels."""
        return z.reshape(*z.shape[:-1], self.steps, len(self.alphas))


def _minimum_rate_nats(steps: int, alpha: float) -> float:
    """Give the least rate of one channel."""
    return 0.5 * ((steps - 2) * math.log1p(alpha**2) - math.log1p(-(alpha**2)))
