"""Code lengths and draws from logits, against scipy."""

import numpy as np
import pytest
from scipy import special, stats

from artifact.codes import ALL_CODES, draw_codes, surprise_nats

LOGITS = np.random.default_rng(0).normal(scale=2.0, size=(4000, 6)).astype(np.float32)


def test_surprise_is_minus_log_softmax() -> None:
    logits = LOGITS[:24].reshape(2, 3, 4, 6)
    codes = np.random.default_rng(1).integers(0, 6, (2, 3, 4), dtype=np.int32)
    expected = -np.take_along_axis(special.log_softmax(logits.astype(np.float64), -1), codes[..., None].astype(int), -1)
    np.testing.assert_allclose(surprise_nats(logits, codes), expected[..., 0], rtol=1e-12)
    huge = np.full((1, 1, 1, 3), 1e30, dtype=np.float32)
    assert surprise_nats(huge, np.zeros((1, 1, 1), dtype=np.int32)) == pytest.approx(np.log(3))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 1, 3, 6])
def test_draws_follow_their_distribution(temperature: float, top_k: int | None) -> None:
    logits = np.repeat(LOGITS[:1], 20_000, axis=0)
    uniform = np.random.default_rng(2).random(len(logits))
    scores = LOGITS[0].astype(np.float64) / temperature
    if top_k is not None:
        scores[np.argsort(-scores)[top_k:]] = -np.inf
    expected = special.softmax(scores) * len(logits)
    drawn = np.bincount(draw_codes(logits, uniform, temperature=temperature, top_k=top_k), minlength=6)
    assert (drawn[expected == 0] == 0).all()
    possible = expected > 0
    assert possible.sum() == 1 or stats.chisquare(drawn[possible], expected[possible]).pvalue > 1e-3


def test_the_inverse_of_the_distribution_is_exact_at_its_borders() -> None:
    logits = np.log(np.array([[0.25, 0.25, 0.5]], dtype=np.float32))
    for uniform, code in ((0.0, 0), (0.2499, 0), (0.2501, 1), (0.4999, 1), (0.5001, 2), (1.0 - 2.0**-53, 2)):
        assert draw_codes(logits, np.array([uniform])) == code


def test_no_temperature_and_one_candidate_give_the_most_probable_code() -> None:
    uniform = np.random.default_rng(3).random(len(LOGITS))
    for found in (draw_codes(LOGITS, uniform, temperature=0.0), draw_codes(LOGITS, uniform, top_k=1)):
        assert found.dtype == np.int32
        assert np.array_equal(found, LOGITS.argmax(1))


def test_the_least_temperatures_are_as_none() -> None:
    uniform = np.random.default_rng(3).random(len(LOGITS))
    for temperature in (1e-320, 5e-324):
        assert np.array_equal(draw_codes(LOGITS, uniform, temperature=temperature), LOGITS.argmax(1))


def test_a_code_without_weight_is_never_drawn() -> None:
    logits = np.array([[0.0, -2e4, -2e4]], dtype=np.float32)
    assert draw_codes(logits, np.array([1.0 - 2.0**-53])) == 0
    ties = np.zeros((1, 4), dtype=np.float32)
    assert draw_codes(ties, np.array([0.999]), top_k=2) == 1, "of equal logits the first count"


def test_each_row_has_a_temperature_and_candidates_of_its_own() -> None:
    generator = np.random.default_rng(4)
    logits = np.round(generator.normal(scale=2.0, size=(500, 9))).astype(np.float32)  # with many ties
    uniform, temperature = generator.random(500), generator.choice([0.0, 1e-320, 0.4, 1.0, 9.0], 500)
    top_k = generator.choice([1, 2, 5, 9, ALL_CODES], 500)
    found = draw_codes(logits, uniform, temperature=temperature, top_k=top_k)
    for row in range(500):
        allowed = np.sort(np.argsort(-logits[row], kind="stable")[: top_k[row]])
        scores = logits[row, allowed].astype(np.float64)
        if temperature[row] == 0:
            assert found[row] == allowed[scores.argmax()]
            continue
        with np.errstate(over="ignore"):
            weights = np.exp((scores - scores.max()) / temperature[row]).cumsum()
        assert found[row] == allowed[np.searchsorted(weights, uniform[row] * weights[-1], side="right")]


def nucleus(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Give the probabilities of a row, by going through its codes from the most probable one on."""
    scores = (logits.astype(np.float64) - logits.max()) / temperature
    p, reached = np.zeros(len(logits)), 0.0
    ranked = sorted(range(len(logits)), key=lambda code: (-logits[code], code))[:top_k]
    total = sum(np.exp(scores[code]) for code in ranked)
    for code in ranked:
        if reached < top_p:
            p[code] = np.exp(scores[code])
            reached += p[code] / total
    return p / p.sum()


def test_the_nucleus_is_the_fewest_most_probable_codes_that_have_enough() -> None:
    generator = np.random.default_rng(5)
    logits = np.round(2.0 * generator.normal(scale=2.0, size=(2000, 9))).astype(np.float32) / 2  # with many ties
    uniform, temperature = generator.random(2000), generator.choice([0.4, 1.0, 3.0], 2000)
    top_k, top_p = generator.choice([2, 5, 9, ALL_CODES], 2000), generator.choice([1e-9, 0.3, 0.77, 0.95, 1.0], 2000)
    found = draw_codes(logits, uniform, temperature=temperature, top_k=top_k, top_p=top_p)
    for row in range(2000):
        p = nucleus(logits[row], temperature[row], top_k[row], top_p[row])
        assert found[row] == np.searchsorted(p.cumsum(), uniform[row], side="right"), row
    sure = draw_codes(logits, uniform, temperature=temperature * (np.arange(2000) % 2), top_p=1e-9)
    assert np.array_equal(sure, logits.argmax(1)), "the least nucleus is the most probable code, as no temperature is"
