"""Scores of disentanglement on representations whose scores are known."""

import numpy as np
import pytest
from scipy import stats

from training.evaluation.disentanglement import beta_vae_metric, mutual_information_gaps

SIZES = {"shape": 3, "scale": 4, "x": 16}


@pytest.fixture(scope="module")
def factors() -> dict[str, np.ndarray]:
    """Every combination, ten times over."""
    grid = np.indices(tuple(SIZES.values())).reshape(len(SIZES), -1).repeat(10, axis=1)
    return dict(zip(SIZES, grid, strict=True))


def themselves(factors: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack(list(factors.values()), axis=1).astype(np.float64)


def test_the_factors_themselves_score_1(factors: dict[str, np.ndarray]) -> None:
    z = themselves(factors) * np.array([-3.0, 0.1, 1.0])
    assert beta_vae_metric(z, factors, seed=0) == 1.0
    assert mutual_information_gaps(z, factors) == pytest.approx(dict.fromkeys(SIZES, 1.0))


def test_a_factor_that_two_latents_share_has_no_gap(factors: dict[str, np.ndarray]) -> None:
    z = themselves(factors)
    gaps = mutual_information_gaps(np.concatenate([z, 2.0 * z[:, :1]], axis=1), factors)
    assert gaps == pytest.approx({"shape": 0.0, "scale": 1.0, "x": 1.0})


def test_a_rotation_of_the_factors_scores_low(factors: dict[str, np.ndarray]) -> None:
    z = themselves(factors)
    z = (z - z.mean(0)) / z.std(0)
    rotation = stats.special_ortho_group.rvs(3, random_state=np.random.default_rng(3))
    gaps = mutual_information_gaps(z @ rotation, factors)
    assert np.mean(list(gaps.values())) < 0.3


def test_noise_is_at_chance(factors: dict[str, np.ndarray]) -> None:
    z = np.random.default_rng(0).normal(size=(len(factors["x"]), 4))
    assert beta_vae_metric(z, factors, seed=0) == pytest.approx(1 / 3, abs=0.05)
    assert max(mutual_information_gaps(z, factors).values()) < 0.05
