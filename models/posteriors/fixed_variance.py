"""The normal posterior whose variance is fixed at another one than the prior's, which commits a rate."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.posteriors.diagonal import DiagonalGaussianPosterior

_ROUNDING = 1e-6
"""Margin above the rate of a dimension, relative and in nats, so that what float32 loses is not taken from it."""


class FixedVariancePosterior(DiagonalGaussianPosterior):
    """N(z; mean(x), variance I) with one variance for every x and dimension (Razavi et al. 2019, section 2).

    Against N(0, I) the rate of an example is

        KL = D (variance - ln variance - 1) / 2 + |mean|^2 / 2,

    whose first part no encoder can change. The variance is the root below 1 of D (variance - ln variance - 1) / 2 =
    rate, so that KL >= rate for every x. The other root, above 1, would commit as much to noise. Against another prior
    than N(0, I) it is no lower bound.

    Args:
        dimensions: D of z.
        rate_nats: the committed rate of an example, > 0; delta in the paper.

    Raises:
        ValueError: the rate is not above 0, or leaves no variance that float32 can tell from 0.
    """

    log_variance: Tensor

    def __init__(self, dimensions: int, rate_nats: float) -> None:
        super().__init__(dimensions)
        if not 0.0 < rate_nats < 0.5 * self.limit * dimensions:
            raise ValueError(
                f"the committed rate is {rate_nats} nats; expected one above 0 and below {0.5 * self.limit:g} for each "
                f"of {dimensions} dimensions"
            )
        self.outputs = dimensions
        log_variance = log_variance_of(rate_nats / dimensions * (1.0 + _ROUNDING) + _ROUNDING)
        self.register_buffer("log_variance", torch.tensor(log_variance), persistent=False)

    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Take the encoder's output as the mean."""
        mean = h.float()
        return {"mean": mean, "log_variance": self.log_variance.expand_as(mean)}


def log_variance_of(rate_nats: float) -> float:
    """Solve (exp(u) - u - 1) / 2 = rate for u < 0 by Newton's method, which comes from the left and never oversteps.

    Args:
        rate_nats: of one dimension, > 0.

    Returns:
        u, the logarithm of the variance.
    """
    u = -1.0 - 2.0 * rate_nats
    for _ in range(100):
        u -= (math.expm1(u) - u - 2.0 * rate_nats) / math.expm1(u)
    return u
