"""Normal distributions over a grid, as integers: what a coder of latents must agree on to the last bit.

A latent is z = j / 16 with an integer j, -255 .. 255. Under N(mean, sigma^2) the part of 0 .. T - 1 that j owns is that
of its cell, (j - 1/2) / 16 .. (j + 1/2) / 16, by a table of the normal distribution function; the outermost cells have
what lies beyond. No floating-point number is involved. docs/format.md has the definition.
"""

from bisect import bisect_right
from decimal import Context, Decimal
from functools import cache, partial
from itertools import accumulate

import numpy as np
from jaxtyping import Float, Int64, Integer

from codec.ans import Stack
from codec.probabilities import TOTAL

LATENT_LIMIT = 255
"""Largest |j|."""
SYMBOLS = 2 * LATENT_LIMIT + 1
MEAN_STEPS = 64
"""A mean is an integer in units of 1/64 of a cell, that is of 2^-10."""
MEAN_LIMIT = 127 * MEAN_STEPS
"""Largest magnitude of a mean."""
SCALES = 96
"""sigma(i) = exp((i - 80) / 16) for i = 0 .. 95."""
UNIT_SCALE = 80
"""The index of sigma = 1."""

_INNER = range(1 - LATENT_LIMIT, LATENT_LIMIT + 1)
"""The places whose part does not begin at 0."""
_REACH = 8
"""The table reaches so many sigma to either side."""
_STEPS = 512
"""Its steps in one sigma."""
_ENTRIES = 2 * _REACH * _STEPS
_SHIFT = 16
_DENSITY_BITS = 60
_DIGITS = 60


@cache
def distribution() -> tuple[int, ...]:
    """Tabulate PHI[k] = floor((T - 511) S_k / S_8192) for k = 0 .. 8192, which stands at (k - 4096) / 512 sigma.

    S_k is the sum of floor(2^60 exp(-u^2 / 2) + 1/2) over the middles u of the first k steps.
    """
    context = Context(prec=_DIGITS)
    unit, half = Decimal(1 << _DENSITY_BITS), Decimal("0.5")
    right = [
        int(context.add(context.multiply(unit, context.exp(_exponent(context, step))), half))
        for step in range(_ENTRIES // 2)
    ]
    sums = list(accumulate([*reversed(right), *right], initial=0))
    return tuple((TOTAL - SYMBOLS) * part // sums[-1] for part in sums)


def _exponent(context: Context, step: int) -> Decimal:
    """Give -u^2 / 2 at the middle of a step to the right of 0: u = (step + 1/2) / 512."""
    return context.divide(Decimal(-((2 * step + 1) ** 2)), Decimal(8 * _STEPS**2))


@cache
def inverse_scales() -> tuple[int, ...]:
    """Tabulate floor(2^15 / sigma(i) + 1/2): steps of `distribution` in a unit of means, times 2^16."""
    context = Context(prec=_DIGITS)
    exact = (
        (1 << _SHIFT) * _STEPS // (16 * MEAN_STEPS) * context.exp(Decimal(UNIT_SCALE - i) / 16) for i in range(SCALES)
    )
    return tuple(int(one + Decimal("0.5")) for one in exact)


@cache
def _arrays() -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " I"]]:
    """Give both tables as arrays."""
    return np.array(distribution(), dtype=np.int64), np.array(inverse_scales(), dtype=np.int64)


def starts(
    places: Integer[np.ndarray, "*N"], means: Integer[np.ndarray, "*N"], scales: Integer[np.ndarray, "*N"]
) -> Int64[np.ndarray, "*N"]:
    """Give c of places of the grid: where the part of 0 .. T - 1 begins that each owns.

    c(j) = PHI[clip(floor(((64 j - 32 - mean) inverse + 2^15) / 2^16) + 4096, 0, 8192)] + j + 255, but c(-255) = 0 and
    c(256) = T.

    Args:
        places: j, -255 .. 256.
        means: integers in units of 2^-10, at most `MEAN_LIMIT` in magnitude.
        scales: indices of sigma.

    Returns:
        c, rising with j by at least 1.
    """
    table, inverse = _arrays()
    j = places.astype(np.int64)
    steps = ((MEAN_STEPS * j - MEAN_STEPS // 2 - means) * inverse[scales] + (1 << _SHIFT - 1)) >> _SHIFT
    inner = table.take(steps + _ENTRIES // 2, mode="clip") + j + LATENT_LIMIT
    return np.where(j <= -LATENT_LIMIT, 0, np.where(j > LATENT_LIMIT, TOTAL, inner))


def intervals(
    places: Integer[np.ndarray, "*N"], means: Integer[np.ndarray, "*N"], scales: Integer[np.ndarray, "*N"]
) -> tuple[Int64[np.ndarray, "*N"], Int64[np.ndarray, "*N"]]:
    """Give the part of 0 .. T - 1 that each latent owns.

    Args:
        places: j of each, -255 .. 255.
        means: of its normal, see `starts`.
        scales: likewise.

    Returns:
        c and f.
    """
    begins = starts(places, means, scales)
    return begins, starts(places + 1, means, scales) - begins


def nearest(
    means: Integer[np.ndarray, "*N"], scales: Integer[np.ndarray, "*N"], noise: Float[np.ndarray, "*N"]
) -> Int64[np.ndarray, "*N"]:
    """Draw latents by standard normal noise: the places of the grid nearest to mean + sigma * noise.

    Args:
        means: see `starts`.
        scales: likewise.
        noise: standard normal.

    Returns:
        j of each.
    """
    sigma = np.exp((scales - UNIT_SCALE) / 16.0)
    places = np.floor(means / MEAN_STEPS + 16.0 * sigma * noise + 0.5)
    return np.clip(places, -LATENT_LIMIT, LATENT_LIMIT).astype(np.int64)


@cache
def prior_table() -> tuple[int, ...]:
    """Give c(-255) .. c(256) under N(0, 1)."""
    places = np.arange(-LATENT_LIMIT, LATENT_LIMIT + 2)
    return tuple(starts(places, np.zeros_like(places), np.full_like(places, UNIT_SCALE)).tolist())


@cache
def prior_entropy_bits() -> float:
    """Give the entropy of a latent under N(0, 1)."""
    sizes = np.diff(prior_table()) / TOTAL
    return float(-(sizes * np.log2(sizes)).sum())


def prior_intervals(places: Integer[np.ndarray, "*N"]) -> tuple[Int64[np.ndarray, "*N"], Int64[np.ndarray, "*N"]]:
    """Give the part of 0 .. T - 1 that each latent owns under N(0, 1); see `intervals`."""
    return intervals(places, np.zeros_like(places), np.full_like(places, UNIT_SCALE))


def pop_prior(stack: Stack, count: int) -> list[int]:
    """Take so many latents off a stack under N(0, 1)."""
    return [symbol - LATENT_LIMIT for symbol in stack.pop_all([prior_table()] * count)]


def pop(stack: Stack, means: Integer[np.ndarray, " N"], scales: Integer[np.ndarray, " N"]) -> list[int]:
    """Take a latent off a stack under each of several normals, in their order.

    Args:
        stack: to take from.
        means: see `starts`.
        scales: likewise.

    Returns:
        j of each.
    """
    inverses, found = inverse_scales(), []
    for mean, scale in zip(means.tolist(), scales.tolist(), strict=True):
        begin = partial(_start, distribution(), mean, inverses[scale])
        j = bisect_right(_INNER, stack.target(), key=begin) - LATENT_LIMIT
        start = begin(j) if j > -LATENT_LIMIT else 0
        stack.pop(start, (begin(j + 1) if j < LATENT_LIMIT else TOTAL) - start)
        found.append(j)
    return found


def _start(table: tuple[int, ...], mean: int, inverse: int, j: int) -> int:
    """Give c(j) as `starts` does, -255 < j < 256."""
    steps = ((MEAN_STEPS * j - MEAN_STEPS // 2 - mean) * inverse + (1 << _SHIFT - 1)) >> _SHIFT
    return table[min(max(steps + _ENTRIES // 2, 0), _ENTRIES)] + j + LATENT_LIMIT
