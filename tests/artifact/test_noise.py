"""The noise convention: pinned, independent of neighbours, normal."""

import numpy as np
import pytest
from scipy import stats

from artifact.noise import (
    CODES_STREAM,
    MAX_SEED,
    POSTERIOR_STREAM,
    PRIOR_STREAM,
    batch_normal,
    batch_uniform,
    draw_seed,
    standard_normal,
    uniform,
)

_M0, _M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_W0, _W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_MASK = 2**64 - 1


def philox_block(counter: list[int], key: int) -> list[int]:
    """Philox4x64-10 in Python's integers, from the paper's definition (Salmon et al. 2011, section 4.3)."""
    x, k0, k1 = list(counter), key, 0
    for _ in range(10):
        p0, p1 = _M0 * x[0], _M1 * x[2]
        x = [(p1 >> 64) ^ x[1] ^ k0, p1 & _MASK, (p0 >> 64) ^ x[3] ^ k1, p0 & _MASK]
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return x


def test_values_follow_from_the_papers_generator_and_box_muller() -> None:
    """NumPy counts up before it draws, so the first block has counter 1."""
    seed, index = 1234567890123, 42
    found = standard_normal(seed, index, (2, 6), stream=POSTERIOR_STREAM)
    for sample in range(2):
        words = [w for block in (1, 2) for w in philox_block([2 * sample + block, 0, 0, index], seed)]
        u = [(word >> 11) * 2.0**-53 for word in words]
        expected = []
        for first, second in zip(u[0::2], u[1::2], strict=True):
            radius = np.sqrt(-2 * np.log(first + 2.0**-53))
            expected += [radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)]
        np.testing.assert_allclose(found[sample], expected[:6], rtol=1e-6)


def test_values_never_change() -> None:
    found = standard_normal(7, 3, (1, 4), stream=PRIOR_STREAM)[0]
    again = standard_normal(7, 3, (1, 4), stream=PRIOR_STREAM)[0]
    assert found.dtype == np.float32
    assert found.tolist() == again.tolist()
    assert found.tolist() != standard_normal(7, 3, (1, 4), stream=POSTERIOR_STREAM)[0].tolist()


@pytest.mark.parametrize("dimensions", [1, 3, 4, 40])
def test_any_range_of_samples_can_be_drawn_alone(dimensions: int) -> None:
    whole = standard_normal(1, 2, (50, dimensions), stream=0)
    assert np.array_equal(whole[:10], standard_normal(1, 2, (10, dimensions), stream=0))
    assert np.array_equal(whole[17:30], standard_normal(1, 2, (13, dimensions), stream=0, first_sample=17))


def test_rows_do_not_depend_on_their_batch() -> None:
    batch = batch_normal(5, 100, 8, (3, 7), stream=1)
    for row in range(8):
        assert np.array_equal(batch[row], standard_normal(5, 100 + row, (3, 7), stream=1))


def test_values_are_independent_standard_normals() -> None:
    values = batch_normal(11, 0, 200, (20, 25), stream=0)
    assert stats.kstest(values.ravel(), "norm").pvalue > 0.01
    rows = values.reshape(200, -1)
    assert np.abs(np.corrcoef(rows[:20]) - np.eye(20)).max() < 5 / np.sqrt(500)


@pytest.mark.parametrize("bad", [{"seed": -1}, {"seed": MAX_SEED + 1}, {"index": -1}, {"first_sample": -1}])
def test_numbers_out_of_range_are_refused(bad: dict[str, int]) -> None:
    arguments = {"seed": 0, "index": 0, "first_sample": 0} | bad
    with pytest.raises(ValueError, match=next(iter(bad))):
        standard_normal(arguments["seed"], arguments["index"], (1, 1), stream=0, first_sample=arguments["first_sample"])


def test_drawn_seeds_survive_json() -> None:
    seeds = {draw_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_uniform_numbers_follow_from_the_papers_generator() -> None:
    seed, index = 987654321, 5
    words = [word for block in (1, 2, 3) for word in philox_block([block, 0, CODES_STREAM, index], seed)]
    expected = [(word >> 11) * 2.0**-53 for word in words]
    assert uniform(seed, index, 10, stream=CODES_STREAM).tolist() == expected[:10]
    batch = batch_uniform(seed, 4, 3, 7, stream=CODES_STREAM)
    assert batch[1].tolist() == expected[:7]
    assert batch.min() >= 0.0
    assert batch.max() < 1.0
    with pytest.raises(ValueError, match="seed"):
        uniform(-1, 0, 1, stream=CODES_STREAM)
