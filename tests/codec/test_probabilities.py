"""Integer frequencies: the specification's, near the softmax, and never 0."""

import hashlib
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from codec.probabilities import (
    EXPONENTIALS,
    LOGIT_STEPS,
    MAX_SYMBOLS,
    PRECISION,
    TOTAL,
    frequencies,
    intervals,
    located,
    shares,
    surprise_bits,
)

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


def rows_of(rng: np.random.Generator, count: int, K: int) -> np.ndarray:
    spread = rng.choice([1, 200, 1500, 20_000, 2**22], size=(count, 1))
    return (rng.uniform(-1, 1, (count, K)) * spread).astype(np.int32)


def test_the_table_is_the_exponential() -> None:
    with localcontext(prec=45):
        exact = [TOTAL * (Decimal(-step) / LOGIT_STEPS).exp() for step in range(len(EXPONENTIALS))]
    assert all(
        abs(Decimal(int(found)) - value) <= Decimal("0.5") for found, value in zip(EXPONENTIALS, exact, strict=True)
    )
    # No value is so near a tie that another precision would round it to the other side.
    assert all(abs(value % 1 - Decimal("0.5")) > Decimal("1e-9") for value in exact)
    assert EXPONENTIALS[-2] == 1
    assert EXPONENTIALS[-1] == 0


def test_the_table_is_the_specifications() -> None:
    digest = hashlib.sha256(EXPONENTIALS.astype("<u4").tobytes()).hexdigest()
    assert digest in FORMAT.read_text()
    assert EXPONENTIALS.size == 4438


@pytest.mark.parametrize("K", [1, 2, 3, 16, 512])
def test_frequencies_are_the_specifications(K: int, specified: dict[str, Callable[..., Any]]) -> None:
    logits = rows_of(np.random.default_rng(K), 40, K)
    logits[::5] = np.round(logits[::5] / 500) * 500
    expected = [specified["frequencies"](row.tolist()) for row in logits]

    assert frequencies(logits).tolist() == expected
    assert [frequencies(row).tolist() for row in logits] == expected
    assert frequencies(logits.reshape(8, 5, K)).reshape(-1, K).tolist() == expected


@pytest.mark.parametrize("K", [2, 300, MAX_SYMBOLS])
def test_frequencies_are_near_the_softmax(K: int) -> None:
    logits = rows_of(np.random.default_rng(K), 8, K)
    found = frequencies(logits)

    assert found.min() >= 1
    assert (found.sum(axis=-1) == TOTAL).all()
    exact = softmax(logits / LOGIT_STEPS, axis=-1) * TOTAL
    # Each symbol has 1 for certain, and a share of the rest; what rounding leaves goes to one of them.
    likeliest = np.arange(K) == logits.argmax(axis=-1)[:, None]
    distance = np.abs(found - (1 + exact * (TOTAL - K) / TOTAL))
    assert distance[~likeliest].max() <= 1 + K / 2
    assert distance.max() <= K + 1


def test_the_largest_tables_do_not_overflow() -> None:
    logits = np.zeros((1, MAX_SYMBOLS), dtype=np.int32)
    assert (frequencies(logits) == TOTAL // MAX_SYMBOLS).all()
    logits[0, 0], logits[0, 1:] = 2**22, -(2**22)
    assert frequencies(logits)[0, 0] == TOTAL - MAX_SYMBOLS + 1


def test_what_is_missing_goes_to_the_first_of_the_largest() -> None:
    assert shares(np.array([[0, 7, 7, 0]])).tolist() == [[1, TOTAL // 2 - 1, TOTAL // 2 - 1, 1]]
    assert shares(np.array([1, 3, 3, 3])).tolist() == frequencies_of_thirds()


def frequencies_of_thirds() -> list[int]:
    one, three = 1 + (TOTAL - 4) // 10, 1 + 3 * (TOTAL - 4) // 10
    return [one, TOTAL - one - 2 * three, three, three]


@pytest.mark.parametrize("K", [2, 700])
def test_intervals_are_those_of_the_table(K: int) -> None:
    rng = np.random.default_rng(K)
    # More rows than are shared out at a time.
    logits, symbols = rows_of(rng, 1000, K), rng.integers(0, K, 1000)
    starts, sizes = intervals(logits, symbols)

    table = [list(map(int, row)) for row in frequencies(logits)]
    assert sizes.tolist() == [row[symbol] for row, symbol in zip(table, symbols, strict=True)]
    assert starts.tolist() == [sum(row[:symbol]) for row, symbol in zip(table, symbols, strict=True)]
    expected = -np.log2(np.array(sizes.tolist()) / 2.0**PRECISION).sum()
    assert surprise_bits(sizes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("K", [0, MAX_SYMBOLS + 1])
def test_other_numbers_of_symbols_are_refused(K: int) -> None:
    with pytest.raises(ValueError, match=f"a table has {K} symbols, expected 1 .. 32768"):
        frequencies(np.zeros((2, K), dtype=np.int32))


@pytest.mark.parametrize("K", [1, 2, 3, 40, 512, 1 << 15])
@pytest.mark.parametrize("spread", [0, 30, 5000])
def test_the_symbol_that_owns_a_number_is_located(K: int, spread: int) -> None:
    random = np.random.default_rng(K + spread)
    logits = random.integers(-spread, spread + 1, K).astype(np.int32)
    sizes = frequencies(logits)
    ends = sizes.cumsum()
    some = random.integers(0, K, 40)
    for target in [0, TOTAL - 1, *(ends[some] - 1), *(ends[some] - sizes[some]), *random.integers(0, TOTAL, 40)]:
        symbol = int(np.searchsorted(ends, target, side="right"))
        expected = (symbol, int(ends[symbol] - sizes[symbol]), int(sizes[symbol]))
        assert located(logits, int(target)) == expected
