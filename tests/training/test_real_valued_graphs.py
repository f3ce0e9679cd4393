"""Graphs of flows, of normals with any covariance, and of priors other than the standard normal one, against torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from artifact.manifest import ImageGeometry
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM, batch_normal
from models.continuous import VectorBottleneck
from models.flows import AffineCoupling, Flow, InverseAutoregressive, Planar, Radial
from models.likelihoods import Bernoulli
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.networks.mlp import mlp
from models.posteriors import DiagonalGaussianPosterior, FlowPosterior, FullCovariancePosterior, Posterior
from models.priors import AR1, FlowPrior, Prior, VampPrior
from training.graphs import graphs
from training.graphs.write import write_graphs
from training.parity import BOUND_TOLERANCE, TENSOR_TOLERANCE, Comparison, Graphs

D, C, SHAPE = 6, 4, ImageShape(1, 8, 8)


def every_flow() -> Posterior:
    steps = [
        Planar(D, C),
        Radial(D, C),
        AffineCoupling(D, C, 8, even=True),
        InverseAutoregressive(D, C, 8, backwards=True),
    ]
    return FlowPosterior(D, C, Flow(steps))


def model_of(kind: str) -> LatentVariableModel:
    """Compose a small model whose weights are away from where they begin."""
    torch.manual_seed(0)
    posterior = {
        "flows": every_flow,
        "normals": lambda: FullCovariancePosterior(D),
        "mixture": lambda: DiagonalGaussianPosterior(D),
    }[kind]()
    network = mlp(SHAPE, 1, hidden=(10,), latent=D, posterior_outputs=posterior.outputs)
    prior: Prior = FlowPrior(D, Flow([AffineCoupling(D, 0, 8, even=True)]))
    if kind == "normals":
        prior = AR1.committed(3, 2, 1.0)
    elif isinstance(posterior, DiagonalGaussianPosterior):
        prior = VampPrior(network.encoder, posterior, 5, SHAPE)
    model = LatentVariableModel(network.encoder, VectorBottleneck(posterior, prior), network.decoder, Bernoulli())
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", [pytest.param("flows", marks=pytest.mark.slow), "normals", "mixture"])
def test_graphs_give_what_the_model_gives(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    every = {spec.role: spec for spec in graphs(model, ImageGeometry(channels=1, height=8, width=8))}
    assert set(every) == {"encode", "decode", "draw", "log_weight", "draw_prior"}
    roles = (*(("encode",) if kind == "normals" else ()), "log_weight", "draw_prior")  # what is new in the others
    specs = tuple(every[role] for role in roles)
    write_graphs(specs, tmp_path / "weights.data")
    comparison = Comparison(specs, [Graphs(specs, tmp_path).run])
    for batch, samples in ((1, 1), (1, 3), (5, 1), (4, 7)):
        x = np.random.default_rng(batch).choice(np.array([0, 255], dtype=np.uint8), (batch, 8, 8, 1))
        if "encode" in roles:
            assert comparison.tensor_error("encode", {"x": x}) <= TENSOR_TOLERANCE
        encoding = every["encode"].run({"x": x})
        given = {"noise": batch_normal(0, 0, batch, (samples, D), stream=POSTERIOR_STREAM)}
        given |= {name: encoding[name] for name in model.bottleneck.drawn_from}
        bounds = comparison.bound_error("log_weight", {"x": x} | given, lambda terms: sum(terms.values()))
        assert bounds <= BOUND_TOLERANCE
        numbers = model.bottleneck.prior_noise_dimensions
        noise = batch_normal(0, 0, batch, (1, numbers), stream=PRIOR_STREAM)[:, 0]
        temperature = np.linspace(0.5, 1.0, batch, dtype=np.float32)
        drawn = {"noise": noise, "temperature": temperature}
        assert comparison.tensor_error("draw_prior", drawn) <= TENSOR_TOLERANCE
