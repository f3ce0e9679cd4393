"""Special functions from elementary operations, so that a graph exports them and torch and ONNX agree."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
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


def log_normal_bin(
    centre: Float[Tensor, "..."],
    half_width: Float[Tensor, "..."],
    open_below: Bool[Tensor, "..."],
    open_above: Bool[Tensor, "..."],
) -> Float64[Tensor, "..."]:
    """Give log(Phi(centre + half_width) - Phi(centre - half_width)) without cancellation, of bins that may be open.

    By symmetry a bin is moved to the right half line, where both tails Q(l) > Q(u) are known to full relative
    precision: log Q(l) + log(1 - Q(u) / Q(l)).

    Args:
        centre: middle of the bin, in standard deviations.
        half_width: half of its width, in standard deviations, > 0.
        open_below: bins that reach down to minus infinity.
        open_above: bins that reach up to infinity.

    Returns:
        Values below 0, float64.
    """
    arguments = centre.double(), half_width.double(), open_below, open_above
    if torch.is_grad_enabled() and (centre.requires_grad or half_width.requires_grad):
        result: Tensor = _LogNormalBin.apply(*arguments)  # type: ignore[no-untyped-call]
        return result
    return _log_normal_bin(*arguments, log_ndtr)


def _log_normal_bin(
    centre: Tensor, half: Tensor, open_below: Tensor, open_above: Tensor, log_cdf: Callable[[Tensor], Tensor]
) -> Tensor:
    """Compute `log_normal_bin` with a given log Phi."""
    distance = centre.abs()
    edge = torch.where(open_below, centre, torch.where(open_above, -centre, -distance))
    log_near, log_far = log_cdf(edge + half), log_cdf(-half - distance)
    closed = ~(open_below | open_above)
    # An open bin has no far tail; a harmless number stands in for it, since 0 * inf would spoil the sum.
    log_far = torch.where(closed, log_far, log_near - 1.0)
    return log_near + torch.where(closed, torch.log(-torch.expm1(log_far - log_near)), 0.0)


class _LogNormalBin(torch.autograd.Function):
    """The same with its derivatives in closed form: traced through, they would cost several times as much."""

    @staticmethod
    def forward(ctx: Any, centre: Tensor, half: Tensor, open_below: Tensor, open_above: Tensor) -> Tensor:
        """Use torch's own log Phi, which is faster than the exportable one and differs by 1e-10 at most."""
        value = _log_normal_bin(centre, half, open_below, open_above, torch.special.log_ndtr)
        ctx.save_for_backward(centre, half, open_below, open_above, value)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """d log P / d centre = (phi(u) - phi(l)) / P and d log P / d half = (phi(u) + phi(l)) / P, for closed bins."""
        centre, half, open_below, open_above, value = ctx.saved_tensors
        log_scale = value + 0.5 * math.log(2.0 * math.pi)
        upper = torch.exp(-0.5 * (centre + half).square() - log_scale).masked_fill(open_above, 0.0)
        lower = torch.exp(-0.5 * (centre - half).square() - log_scale).masked_fill(open_below, 0.0)
        (gradient,) = gradients
        return gradient * (upper - lower), gradient * (upper + lower), None, None


def event_sum(values: Float[Tensor, "*batch H W C"]) -> Float64[Tensor, "*batch"]:
    """Sum over an image, rows in the values' precision and the rows' sums in float64.

    A float32 sum of a whole image loses about 1e-7 of it, which for a colour image is some 1e-3 nats; a row is
    short enough, and only H numbers need the wider type.
    """
    return values.sum((-2, -1)).double().sum(-1)
