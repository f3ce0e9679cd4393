"""Logistic distributions over the 256 values of a pixel, as integers: what coders must agree on to the last bit.

A mean is an integer in units of 1/16 of a value. Under a logistic distribution with that mean and one of 48 scales a
value owns the part of 0 .. T - 1 of its bin; those of 0 and 255 reach to infinity (Salimans et al. 2017, eq. 2). No
floating-point number is involved. docs/format.md has the definition.
"""

from bisect import bisect_right
from decimal import Context, Decimal
from functools import cache

import numpy as np
from jaxtyping import Int64, Integer

from codec.probabilities import PRECISION, TOTAL
from codec.range_coder import Decoder

VALUES = 256
MEAN_STEPS = 16
"""A mean is in units of 1/16 of a value."""
MEAN_LIMIT = MEAN_STEPS * (VALUES - 1)
"""The largest mean; the least is 0."""
SCALES = 48
"""s(i) = 2^(i / 4) units of a mean, for i = 0 .. 47."""

_REACH = MEAN_STEPS * VALUES
_HALF = MEAN_STEPS // 2
_SHIFT = MEAN_STEPS.bit_length() - 1
_FIXED_BITS = 64
_DIGITS = 60


@cache
def distribution(scale: int) -> tuple[int, ...]:
    """Tabulate G(u) for u = -4096 .. 4096, steps to the right of a mean.

    G(u) = floor(F(u) (T - 1024) / T) + 512 + floor(u / 16), which rises from one value to the next. F is the logistic
    function in units of 1 / T: F(u) = floor(T 2^64 / (2^64 + E(u))) and F(-u) = T - F(u), where E(0) = 2^64 and
    E(u + 1) = floor(E(u) a / 2^64) with a = floor(2^64 exp(-1 / s) + 1/2).

    Args:
        scale: i of s(i).

    Returns:
        8193 integers, each 1 .. T - 1.
    """
    ratio, one, power = _ratio(scale), 1 << _FIXED_BITS, 1 << _FIXED_BITS
    right = []
    for _ in range(_REACH + 1):
        right.append((one << PRECISION) // (one + power))
        power = power * ratio >> _FIXED_BITS
    both = [*(TOTAL - part for part in reversed(right[1:])), *right]
    steps = range(-_REACH, _REACH + 1)
    floor = 2 * VALUES
    return tuple(
        (part * (TOTAL - 2 * floor) >> PRECISION) + floor + (u >> _SHIFT) for part, u in zip(both, steps, strict=True)
    )


def _ratio(scale: int) -> int:
    """Give floor(2^64 exp(-1 / s) + 1/2)."""
    context = Context(prec=_DIGITS)
    s = context.sqrt(context.sqrt(Decimal(1 << scale)))
    exact = context.multiply(Decimal(1 << _FIXED_BITS), context.exp(context.divide(Decimal(-1), s)))
    return int(context.add(exact, Decimal("0.5")))


@cache
def _tables() -> Int64[np.ndarray, "scales U"]:
    """Give the tables of all scales."""
    return np.array([distribution(scale) for scale in range(SCALES)], dtype=np.int64)


def intervals(
    values: Integer[np.ndarray, " N"], means: Integer[np.ndarray, " N"], scales: Integer[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Give the part of 0 .. T - 1 that each value owns: c(x) = G(16 x - 8 - mean), but c(0) = 0 and c(256) = T.

    Args:
        values: x, 0 .. 255.
        means: 0 .. `MEAN_LIMIT`.
        scales: i of each, 0 .. 47.

    Returns:
        c and f, each f at least 1.
    """
    tables = _tables()
    place = MEAN_STEPS * values.astype(np.int64) - _HALF - means + _REACH
    starts = np.where(values == 0, 0, tables[scales, place])
    last = values == VALUES - 1
    ends = np.where(last, TOTAL, tables[scales, np.where(last, place, place + MEAN_STEPS)])
    return starts, ends - starts


def pop(decoder: Decoder, means: Integer[np.ndarray, " N"], scales: Integer[np.ndarray, " N"]) -> list[int]:
    """Read a value under each of several distributions, in their order.

    Args:
        decoder: to read from.
        means: see `intervals`.
        scales: likewise.

    Returns:
        The values.
    """
    return [pop_one(decoder, mean, scale) for mean, scale in zip(means.tolist(), scales.tolist(), strict=True)]


def pop_one(decoder: Decoder, mean: int, scale: int) -> int:
    """Read a value under one distribution; see `pop`."""
    value = bisect_right(distribution(scale), decoder.target()) - 1 - (_REACH - _HALF - mean) >> _SHIFT
    value = min(max(value, 0), VALUES - 1)
    decoder.pop(*interval(value, mean, scale))
    return value


def interval(value: int, mean: int, scale: int) -> tuple[int, int]:
    """Give the part of 0 .. T - 1 that one value owns; see `intervals`."""
    table, place = distribution(scale), MEAN_STEPS * value + _REACH - _HALF - mean
    start = table[place] if value else 0
    return start, (table[place + MEAN_STEPS] if value < VALUES - 1 else TOTAL) - start
