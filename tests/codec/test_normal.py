"""Normals over a grid against scipy: tables that sum exactly, are near the mathematics, and undo themselves."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from codec import normal
from codec.ans import Stack
from codec.probabilities import TOTAL

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"
PLACES = np.arange(-normal.LATENT_LIMIT, normal.LATENT_LIMIT + 2)
EXTREMES = [(0, 80), (33, 0), (-5000, 60), (normal.MEAN_LIMIT, 95), (-normal.MEAN_LIMIT, 0), (17, 41)]


def edges(mean: int, scale: int) -> np.ndarray:
    return normal.starts(PLACES, np.full_like(PLACES, mean), np.full_like(PLACES, scale))


def test_the_distribution_function_is_the_normal_one() -> None:
    table = np.array(normal.distribution())
    exact = norm.cdf((np.arange(8193) - 4096) / 512)
    np.testing.assert_allclose(table / table[-1], exact, rtol=0, atol=2 / TOTAL)


def test_the_tables_are_those_of_the_specification() -> None:
    hashes = re.findall(r"[0-9a-f]{64}", FORMAT.read_text().partition("## Archives")[2])
    for table in (normal.distribution(), normal.inverse_scales()):
        assert hashlib.sha256(np.array(table, dtype="<u4").tobytes()).hexdigest() in hashes


@pytest.mark.parametrize(("mean", "scale"), EXTREMES)
def test_every_latent_has_a_part_and_all_parts_make_the_whole(mean: int, scale: int) -> None:
    found = edges(mean, scale)
    assert found[0] == 0
    assert found[-1] == TOTAL
    assert (np.diff(found) >= 1).all()


@pytest.mark.parametrize(("mean", "scale"), EXTREMES)
def test_probabilities_are_those_of_the_cells(mean: int, scale: int) -> None:
    inner = (PLACES[1:-1] - 0.5) / 16
    exact = np.diff(norm.cdf((inner - mean / 1024) / np.exp((scale - 80) / 16)), prepend=0, append=1)
    sizes = np.diff(edges(mean, scale)) / TOTAL
    wasted_bits = (exact * np.log2(np.maximum(exact, 1e-300) / sizes)).sum()
    assert 0 <= wasted_bits < 2e-3


def test_popped_latents_are_pushed_back_and_follow_their_normals() -> None:
    random = np.random.default_rng(0)
    stack, count = Stack(), 4000
    for start in random.integers(0, 2**16, 2 * count).tolist():
        stack.push(start, 1, 16)
    before = stack.to_bytes()
    means, scales = np.full(count, 700), np.full(count, 70)

    found = np.array(normal.pop(stack, means, scales))
    z = (found / 16 - 700 / 1024) / np.exp(-10 / 16)
    assert abs(z.mean()) < 4 / np.sqrt(count)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / count) + 0.001
    starts, sizes = normal.intervals(found, means, scales)
    stack.push_all(starts.tolist(), sizes.tolist())
    assert stack.to_bytes() == before
