"""Special functions from elementary operations, so that a graph exports them and torch and ONNX agree."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

_DEGREE = 22


def _fit_log_erfc() -> tuple[float, ...]:
    """Fit P in log erfc(x) = log t - x^2 + P(2t - 1), t = 1 / (1 + x/2): Chebyshev interpolation over x >= 0.

    The interpolant is within 1e-11 of the true function, on the whole half line.
    """

    def remainder(u: NDArray[np.float64]) -> NDArray[np.float64]:
        t = torch.as_tensor((u + 1.0) / 2.0)
        x = 2.0 / t - 2.0
        values: NDArray[np.float64] = (torch.special.erfcx(x).log() - t.log()).numpy()
        return values

    interpolant = np.polynomial.Chebyshev.interpolate(remainder, _DEGREE)
    return tuple(float(c) for c in interpolant.convert(kind=np.polynomial.Polynomial).coef)


# Fitted once, outside of any graph: an exporter that traces log_ndtr must see plain numbers.
_LOG_ERFC = _fit_log_erfc()


def log_ndtr(x: Float[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """Give log of the standard normal cumulative distribution function, exact to 1e-10 relative in both tails.

    log Phi(x) = log(erfc(-x / sqrt 2) / 2); for x > 0 it is log1p(-Phi(-x)).

    Args:
        x: any real values.

    Returns:
        Values below 0, float64.
    """
    distance = x.double().abs() / math.sqrt(2.0)
    t = 1.0 / (1.0 + 0.5 * distance)
    u = 2.0 * t - 1.0
    polynomial = torch.full_like(u, _LOG_ERFC[-1])
    for coefficient in reversed(_LOG_ERFC[:-1]):
        polynomial = polynomial * u + coefficient
    lower_tail = t.log() - distance.square() + polynomial - math.log(2.0)
    return torch.where(x > 0, torch.log1p(-lower_tail.exp()), lower_tail)


def log_normal_interval(centre: Float[Tensor, "..."], width: Float[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """Give log(Phi(centre + width/2) - Phi(centre - width/2)) without cancellation.

    By symmetry the interval is moved to the right half line, where both tails Q(l) > Q(u) are known to full relative
    precision: log Q(l) + log(1 - Q(u) / Q(l)).

    Args:
        centre: middle of the interval, in standard deviations.
        width: its width, in standard deviations, > 0.

    Returns:
        Values below 0, float64.
    """
    distance, half = centre.double().abs(), 0.5 * width.double()
    log_near, log_far = log_ndtr(half - distance), log_ndtr(-half - distance)
    return log_near + torch.log(-torch.expm1(log_far - log_near))


def event_sum(values: Float[Tensor, "*batch H W C"]) -> Float64[Tensor, "*batch"]:
    """Sum over an image, rows in the values' precision and the rows' sums in float64.

    A float32 sum of a whole image loses about 1e-7 of it, which for a colour image is some 1e-3 nats; a row is
    short enough, and only H numbers need the wider type.
    """
    return values.sum((-2, -1)).double().sum(-1)
