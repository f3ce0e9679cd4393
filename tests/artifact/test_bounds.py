"""The streaming reduction of log-weights against scipy and against repeated draws."""

import numpy as np
import pytest
from scipy import special

from artifact.bounds import BoundAccumulator, bits_per_dim


def terms(batch: int, samples: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.normal(-1000.0, spread, (batch, samples)),
        random.normal(-50.0, 1.0, (batch, samples)),
        random.normal(-20.0, 1.0, (batch, samples)),
    )


@pytest.mark.parametrize("width", [1, 7, 100, 1000])
@pytest.mark.parametrize("spread", [0.0, 1.0, 300.0])
def test_slices_give_what_the_whole_gives(width: int, spread: float) -> None:
    log_p_x, log_p_z, log_q = terms(5, 1000, spread)
    accumulator = BoundAccumulator(5)
    for first in range(0, 1000, width):
        part = slice(first, first + width)
        accumulator.add(log_p_x[:, part], log_p_z[:, part], log_q[:, part])
    found, log_w = accumulator.result(), log_p_x + log_p_z - log_q
    np.testing.assert_allclose(found.elbo_nats, log_w.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.iwae_nats, special.logsumexp(log_w, axis=1) - np.log(1000), rtol=1e-12)
    np.testing.assert_allclose(found.elbo_nats, found.reconstruction_nats - found.kl_nats, rtol=1e-12)
    normalised = special.softmax(log_w, axis=1)
    np.testing.assert_allclose(found.effective_sample_size, 1 / (normalised**2).sum(1), rtol=1e-9)
    assert (found.iwae_nats >= found.elbo_nats).all()


def test_the_standard_error_is_the_spread_over_repeated_draws() -> None:
    random = np.random.default_rng(1)
    log_w = random.normal(0.0, 0.5, (2000, 200))
    zeros = np.zeros_like(log_w)
    accumulator = BoundAccumulator(2000)
    accumulator.add(log_w, zeros, zeros)
    found = accumulator.result()
    assert found.iwae_standard_error_nats.mean() == pytest.approx(found.iwae_nats.std(), rel=0.1)


def test_one_sample_has_no_standard_error() -> None:
    accumulator = BoundAccumulator(2)
    accumulator.add(*terms(2, 1, 1.0))
    found = accumulator.result()
    assert np.isnan(found.iwae_standard_error_nats).all()
    assert found.iwae_nats.tolist() == found.elbo_nats.tolist()
    assert found.effective_sample_size.tolist() == [1.0, 1.0]


def test_nothing_has_no_bound() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BoundAccumulator(1).result()


def test_a_fair_coin_costs_a_bit() -> None:
    assert bits_per_dim(np.array([-784 * np.log(2)]), 784).tolist() == pytest.approx([1.0])
