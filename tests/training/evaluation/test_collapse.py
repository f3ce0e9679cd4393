"""How latents are used: each figure against numeric integration or a closed form, and the warnings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import integrate, stats

from models.continuous import VectorBottleneck
from models.posteriors import DiagonalGaussianPosterior
from models.priors import StandardNormal
from tests.models.test_linear_gaussian import data, linear_gaussian
from training.evaluation.collapse import CollapseReport, information, kl_per_dimension, report
from training.posterior_collapse import collapse_warnings

MEANS, SCALES = np.array([-1.2, 0.1, 1.5]), np.array([0.3, 0.9, 0.5])


def test_information_equals_numeric_integration() -> None:
    """Three examples in one dimension: I and the aggregate KL are integrals over the mixture of their posteriors."""
    samples = 6_000
    bottleneck = VectorBottleneck(DiagonalGaussianPosterior(1), StandardNormal(1))
    encoding = {
        "mean": torch.tensor(MEANS, dtype=torch.float32)[:, None],
        "log_variance": torch.tensor(2.0 * np.log(SCALES), dtype=torch.float32)[:, None],
    }
    noise = torch.randn(3, samples, 1, generator=torch.Generator().manual_seed(0))
    found = information(bottleneck, encoding, noise)

    def mixture(z: float) -> float:
        return float(stats.norm(MEANS, SCALES).pdf(z).mean())

    entropy = integrate.quad(lambda z: -mixture(z) * np.log(mixture(z)), -9, 9, limit=200)[0]
    to_prior = integrate.quad(lambda z: mixture(z) * np.log(mixture(z) / stats.norm.pdf(z)), -9, 9, limit=200)[0]
    mutual = entropy - stats.norm(MEANS, SCALES).entropy().mean()
    assert found.mutual_information_nats == pytest.approx(mutual, abs=0.03)
    assert found.aggregate_kl_nats == pytest.approx(to_prior, abs=0.03)
    kl = 0.5 * (MEANS**2 + SCALES**2 - 2 * np.log(SCALES) - 1).mean()
    assert found.mutual_information_nats + found.aggregate_kl_nats == pytest.approx(kl, abs=0.03)
    assert found.mutual_information_at_most_nats == pytest.approx(np.log(3))


def test_information_of_a_known_model_is_below_the_true_one() -> None:
    """With exact posteriors q(z) is the prior and I = sum log(1 + w^2 / s^2) / 2; the estimate lacks little."""
    model, mean, covariance = linear_gaussian()
    x = data(1000, mean, covariance)[0].numpy()
    found = report(model, x, seed=0)
    variance = torch.exp(model.encoder.log_variance).numpy()
    true = -0.5 * np.log(variance).sum()
    information = found.information
    assert information is not None
    noise = 4.0 * information.mutual_information_standard_error_nats
    assert -noise < true - information.mutual_information_nats < 0.1 * true
    assert 0.0 < information.aggregate_kl_nats < 0.1 * true
    per_dimension = -0.5 * np.log(variance)  # E mean^2 = 1 - variance
    np.testing.assert_allclose(found.kl_per_dimension_nats, per_dimension, rtol=0.1)
    assert found.warnings == ()


def test_without_a_closed_form_the_kl_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    model, mean, covariance = linear_gaussian(shift=0.4)
    x = data(1500, mean, covariance)[0].numpy()
    closed = kl_per_dimension(model, x)
    monkeypatch.setattr(StandardNormal, "kl", lambda prior, posterior: None)
    (sampled,) = kl_per_dimension(model, x)
    assert sampled == pytest.approx(closed.sum(), rel=0.06)


def test_the_report_is_written_with_its_picture(tmp_path: Path) -> None:
    kl = (3.0, 0.5, 0.001, 0.002)
    CollapseReport(kl, None, collapse_warnings(kl)).write(tmp_path / "collapse.json")
    stored = json.loads((tmp_path / "collapse.json").read_text())
    assert stored["kl_per_dimension_nats"] == list(kl)
    assert stored["information"] is None
    with Image.open(tmp_path / "collapse.png") as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    ("kl", "message"),
    [
        ((1e-3, 2e-3), "posterior collapsed: mean KL 0.003 nats"),
        ((0.05,), "posterior collapsed"),
        ((1e-3, 2e-3, 5.0), "2 of 3 dimensions carry less than 0.01 nats"),
        ((1e-3, 2.0, 5.0), None),
        ((4.0,), None),
    ],
)
def test_warnings(kl: tuple[float, ...], message: str | None) -> None:
    found = collapse_warnings(kl)
    assert len(found) == (message is not None)
    assert message is None or message in found[0]
