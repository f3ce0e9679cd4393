import numpy as np
import pytest
from scipy.linalg import sqrtm

from training.errors import RunError
from training.evaluation.frechet import frechet_distance


@pytest.mark.parametrize(("many", "features"), [(500, 12), (9, 12)])
def test_equals_the_formula_with_a_matrix_root(many, features):
    random = np.random.default_rng(0)
    x = random.standard_normal((many, features)) @ random.standard_normal((features, features)) + 1.0
    y = random.standard_normal((many + 3, features)) @ random.standard_normal((features, features))
    covariances = np.cov(x.T), np.cov(y.T)
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)

    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)


def test_a_set_is_at_no_distance_from_itself_and_at_that_of_a_shift():
    x = np.random.default_rng(1).standard_normal((50, 4))

    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(x, x + 2.0) == pytest.approx(16.0)
    assert frechet_distance(x, 3.0 * x - 2.0 * x.mean(0)) == pytest.approx(4.0 * np.trace(np.cov(x.T)))


def test_refuses_a_single_member():
    with pytest.raises(RunError, match="two members"):
        frechet_distance(np.zeros((1, 2)), np.zeros((5, 2)))
