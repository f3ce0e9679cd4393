"""From integer logits to integer frequencies: what encoder and decoder must agree on to the last bit.

No floating-point number is involved, so every machine finds the same. docs/format.md has the definition.
"""

from decimal import Context, Decimal
from functools import lru_cache

import numpy as np
from jaxtyping import Int32, Int64, Integer

PRECISION = 24
"""Binary digits of a probability."""

TOTAL = 1 << PRECISION
"""T, the sum of the frequencies of all symbols."""

MAX_SYMBOLS = 1 << 15
"""Most symbols of a table: K times the largest weight fits 39 bits, a weight times T fits 48."""

LOGIT_STEPS = 256
"""Logits are integers in units of 1/256 nats."""

# Rows are shared out in blocks of about so many frequencies, which bounds the memory.
_BLOCK = 1 << 18
# Tables for so many numbers of symbols are kept.
_TABLES = 16


def _exponentials() -> Int64[np.ndarray, " D"]:
    """Tabulate floor(2^24 exp(-d / 256) + 1/2) for d = 0, 1, .. up to the first 0, which is the last entry."""
    context = Context(prec=60)
    ratio = context.exp(context.divide(Decimal(-1), Decimal(LOGIT_STEPS)))
    exact, half, table = Decimal(TOTAL), Decimal("0.5"), [TOTAL]
    while table[-1]:
        exact = context.multiply(exact, ratio)
        table.append(int(context.add(exact, half)))
    found = np.array(table, dtype=np.int64)
    found.flags.writeable = False
    return found


EXPONENTIALS = _exponentials()
"""EXP[d], the weight of a symbol whose logit lies d steps below the largest; 0 from the last entry on."""


def frequencies(logits: Int32[np.ndarray, "*N K"]) -> Int64[np.ndarray, "*N K"]:
    """Share T out among the symbols of each row, in proportion to exp(logits / 256).

    Args:
        logits: integers in units of 1/256 nats, each |l| <= 2^22.

    Returns:
        f, each at least 1; each row sums to T.

    Raises:
        ValueError: there are no symbols, or more than `MAX_SYMBOLS`.
    """
    _check_symbols(logits.shape[-1])
    if logits.ndim == 1:
        return _share_row(EXPONENTIALS.take(logits.max() - logits, mode="clip"))
    return shares(EXPONENTIALS.take(logits.max(axis=-1, keepdims=True) - logits, mode="clip"))


def shares(weights: Int64[np.ndarray, "*N K"]) -> Int64[np.ndarray, "*N K"]:
    """Share T out among the symbols of each row: f_k = 1 + floor(w_k (T - K) / sum_j w_j).

    What is missing to T goes to the first of the symbols with the largest weight.

    Args:
        weights: each 0 .. 2^24, at least one of a row above 0.

    Returns:
        f, each at least 1; each row sums to T.

    Raises:
        ValueError: there are no symbols, or more than `MAX_SYMBOLS`.
    """
    K = weights.shape[-1]
    _check_symbols(K)
    sizes = weights * (TOTAL - K)
    sizes //= weights.sum(axis=-1, keepdims=True)
    sizes += 1
    rows = sizes.reshape(-1, K)
    likeliest = weights.reshape(-1, K).argmax(axis=-1)
    rows[np.arange(len(rows)), likeliest] += TOTAL - rows.sum(axis=-1)
    return sizes


def located(logits: Int32[np.ndarray, " K"], target: int) -> tuple[int, int, int]:
    """Find the symbol that owns a number, as `frequencies` share T out: what decoding asks again and again.

    Args:
        logits: as `frequencies` takes them.
        target: 0 .. T - 1.

    Returns:
        The symbol, c and f; see `intervals`.

    Raises:
        ValueError: as `frequencies`.
    """
    K = logits.size
    weights, likeliest = _scaled(K), int(logits.argmax())
    ends = weights.take(logits.item(likeliest) - logits, mode="clip")
    ends //= int(np.add.reduce(ends)) // (TOTAL - K)
    ends += 1
    np.add.accumulate(ends, out=ends)
    # What is missing to T lies behind `border`, and is not among `ends`: few operations on whole rows, for each costs.
    missing, border = TOTAL - ends.item(-1), ends.item(likeliest)
    sought = target if target < border else max(border - 1, target - missing)
    symbol = int(ends.searchsorted(sought, side="right"))
    start = ends.item(symbol - 1) if symbol else 0
    size = ends.item(symbol) - start
    if symbol == likeliest:
        size += missing
    return symbol, (start + missing if symbol > likeliest else start), size


@lru_cache(maxsize=_TABLES)
def _scaled(K: int) -> Int64[np.ndarray, " D"]:
    """Give the weights times T - K; as many of them as there may be symbols sum up to less than 2^63."""
    _check_symbols(K)
    return EXPONENTIALS * (TOTAL - K)


def _share_row(weights: Int64[np.ndarray, " K"]) -> Int64[np.ndarray, " K"]:
    """Do as `shares` does; a single row, which is asked for again and again, takes a third of the time so."""
    sizes = weights * (TOTAL - weights.size)
    sizes //= weights.sum()
    sizes += 1
    sizes[weights.argmax()] += TOTAL - sizes.sum()
    return sizes


def _check_symbols(K: int) -> None:
    if not 1 <= K <= MAX_SYMBOLS:
        raise ValueError(f"a table has {K} symbols, expected 1 .. {MAX_SYMBOLS}")


def intervals(
    logits: Int32[np.ndarray, "N K"], symbols: Integer[np.ndarray, " N"]
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Give the part of 0 .. T - 1 that each symbol owns under the logits of its row.

    Args:
        logits: as `frequencies` takes them.
        symbols: each 0 .. K - 1.

    Returns:
        c, the sum of the frequencies of the symbols before it, and f, its own.

    Raises:
        ValueError: as `frequencies`.
    """
    count, K = logits.shape
    starts, sizes = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    step = max(_BLOCK // max(K, 1), 1)
    for first in range(0, count, step):
        block = slice(first, first + step)
        table, chosen = frequencies(logits[block]), symbols[block, None]
        sizes[block] = np.take_along_axis(table, chosen, axis=-1)[:, 0]
        starts[block] = np.take_along_axis(table.cumsum(axis=-1), chosen, axis=-1)[:, 0] - sizes[block]
    return starts, sizes


def surprise_bits(sizes: Integer[np.ndarray, " N"], precision: int = PRECISION) -> float:
    """Sum -log2 of the probabilities f / 2^precision: what no coder under these tables can go below on average.

    Args:
        sizes: f of each symbol, at least 1.
        precision: binary digits of a probability.

    Returns:
        Bits, 0 where there is no symbol.
    """
    return float(np.sum(precision - np.log2(sizes.astype(np.float64))))
