"""Code lengths and draws from logits, against scipy."""

import numpy as np
import pytest
from scipy import special, stats

from artifact.codes import draw_codes, surprise_nats

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
