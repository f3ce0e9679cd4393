"""Codes as a Markov chain, against counts by hand."""

import math
from collections import Counter

import numpy as np
import pytest

from training.markov import markov_bits

K = 3


def before(grid: np.ndarray, row: int, column: int) -> int | None:
    if column:
        return int(grid[row, column - 1])
    return int(grid[row - 1, 0]) if row else None


def test_code_lengths_are_those_of_counts_with_a_discount() -> None:
    random = np.random.default_rng(0)
    learned = random.integers(0, K - 1, (4, 3, 4), dtype=np.int32)  # code 2 is never seen
    measured = random.integers(0, K, (2, 2, 5), dtype=np.int32)
    single, pairs = Counter(learned.ravel().tolist()), Counter[tuple[int | None, int]]()
    for grid in learned:
        pairs.update((before(grid, row, column), int(grid[row, column])) for row in range(3) for column in range(4))

    def share(a: int | None, b: int) -> float:
        alone = (single[b] + 0.5) / (learned.size + 0.5 * K)
        behind = sum(pairs[a, code] for code in range(K))
        if a is None or not behind:
            return alone
        kinds = sum(pairs[a, code] > 0 for code in range(K))
        return max(pairs[a, b] - 0.75, 0.0) / behind + 0.75 * kinds / behind * alone

    assert sum(share(0, b) for b in range(K)) == pytest.approx(1.0)
    places = [(grid, row, column) for grid in measured for row in range(2) for column in range(5)]
    expected = np.mean([-math.log2(share(before(*place), int(place[0][place[1:]]))) for place in places])
    assert markov_bits([learned], [measured], K) == pytest.approx(expected)


def test_many_codes_that_follow_from_the_one_before_cost_nothing_and_independent_ones_their_entropy() -> None:
    turns = (np.arange(4000)[None] % 7).astype(np.int32)
    assert markov_bits([turns], [turns[:, :500]], 7) < 0.02
    random = np.random.default_rng(1).integers(0, 16, (2, 40_000), dtype=np.int32)
    assert markov_bits([random[:1]], [random[1:]], 16) == pytest.approx(4.0, abs=0.02)
