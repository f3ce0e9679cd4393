"""Graphs of likelihoods over all values of a pixel, of decoders pixel by pixel, and of log p(x), against torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from artifact.manifest import ImageGeometry
from artifact.noise import POSTERIOR_STREAM, batch_normal
from models.families import FamilyConfig, build
from models.families.decoders import PixelCNNDecoderConfig
from models.families.delta_vae import DeltaVAEConfig
from models.families.parts import CategoricalConfig, GaussianConfig, LogisticMixtureConfig
from models.families.ppca import PPCAConfig
from models.families.vae import MLPConfig, VAEConfig
from training.graphs import graphs
from training.graphs.write import write_graphs
from training.parity import BOUND_TOLERANCE, Comparison, Graphs, measure_parity

NETWORK = MLPConfig(hidden=(10,))
PIXELCNN = PixelCNNDecoderConfig(features=3, channels=4, layers=2, hidden=5)
CONFIGS: dict[str, tuple[FamilyConfig, int]] = {
    "logistic-mixture": (VAEConfig(latent=4, network=NETWORK, likelihood=LogisticMixtureConfig(mixtures=3)), 3),
    "categorical": (VAEConfig(latent=4, network=NETWORK, likelihood=CategoricalConfig()), 3),
    "optimal": (VAEConfig(latent=4, network=NETWORK, likelihood=GaussianConfig(variance="optimal", scale=60.0)), 3),
    "pixelcnn": (DeltaVAEConfig(family="delta-vae", latent=4, delta_nats=0.5, network=NETWORK, decoder=PIXELCNN), 1),
    "fixed-variance": (
        DeltaVAEConfig(family="delta-vae", latent=4, construction="fixed-variance", network=NETWORK, decoder=None),
        1,
    ),
    "ppca": (PPCAConfig(family="ppca", latent=4), 3),
}
DECODED = {"encode", "decode", "draw", "log_weight"}
ROLES = {
    "logistic-mixture": DECODED,
    "categorical": DECODED,
    "optimal": DECODED,
    "pixelcnn": {"encode", "draw", "log_weight", "draw_prior"},
    "fixed-variance": DECODED,
    "ppca": DECODED | {"exact"},
}


def made(kind: str, count: int) -> tuple[torch.nn.Module, np.ndarray, ImageGeometry]:
    """Make a model away from where its weights begin, some pictures, and their geometry."""
    torch.manual_seed(0)
    config, channels = CONFIGS[kind]
    model = build(config, (4, 5, channels)).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    values = np.array(model.likelihood.values or range(256), dtype=np.uint8)
    x = np.random.default_rng(0).choice(values, (count, 4, 5, channels))
    return model, x, ImageGeometry(channels=channels, height=4, width=5)


@pytest.mark.parametrize("kind", ["logistic-mixture", "categorical", "pixelcnn", "ppca"])
def test_bounds_are_the_models(kind: str, tmp_path: Path) -> None:
    model, x, geometry = made(kind, 6)
    every = {spec.role: spec for spec in graphs(model, geometry)}
    assert set(every) == ROLES[kind]
    role = "exact" if kind == "ppca" else "log_weight"
    write_graphs((every[role],), tmp_path / "weights.data")
    comparison = Comparison([every[role]], [Graphs([every[role]], tmp_path).run])
    for batch, samples in ((1, 1), (6, 4)):
        feeds = {"x": x[:batch]}
        if role == "log_weight":
            encoding = every["encode"].run(feeds)
            noise = batch_normal(0, 0, batch, (samples, 4), stream=POSTERIOR_STREAM)
            feeds |= {"noise": noise} | {name: encoding[name] for name in model.bottleneck.drawn_from}
        assert comparison.bound_error(role, feeds, lambda terms: sum(terms.values())) <= BOUND_TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
def test_all_graphs_agree(kind: str, tmp_path: Path) -> None:
    model, x, geometry = made(kind, 120)
    specs = graphs(model, geometry)
    write_graphs(specs, tmp_path / "weights.data")
    assert measure_parity(model, Comparison(specs, [Graphs(specs, tmp_path).run]), [x]).examples == 120
