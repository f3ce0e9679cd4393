"""The graphs of a hierarchical VAE agree with the model, for any number of examples and samples."""

from pathlib import Path

import numpy as np
import torch

from artifact.manifest import ImageGeometry
from models.families.hierarchical_vae import GridConfig, HierarchicalVAEConfig, LadderConfig
from models.networks import ImageShape
from training.graphs import graphs
from training.graphs.write import write_graphs
from training.parity import BOUND_TOLERANCE, TENSOR_TOLERANCE, Comparison, Graphs


def test_the_graphs_of_a_hierarchy_agree(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = HierarchicalVAEConfig(
        family="hierarchical-vae",
        latent=3,
        levels=(GridConfig(downsampling=4, latent=2), GridConfig(downsampling=2, latent=1)),
        network=LadderConfig(channels=(4, 6), encoder_blocks=(0, 1), decoder_blocks=(0, 0), features=5, hidden=8),
    )
    model = config.build(ImageShape(1, 8, 12)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    specs = graphs(model, ImageGeometry(channels=1, height=8, width=12))
    assert [spec.role for spec in specs] == ["encode", "decode", "draw", "log_weight"], "p(z) is N(0, I)"
    written = (specs[0], specs[3])  # of which the others are parts
    write_graphs(written, tmp_path / "weights.data")
    comparison = Comparison(written, [Graphs(written, tmp_path).run])
    random = np.random.default_rng(0)
    for batch, samples in ((1, 1), (3, 7)):
        x = (random.random((batch, 8, 12, 1)) < 0.3).astype(np.uint8) * 255
        assert comparison.tensor_error("encode", {"x": x}) < TENSOR_TOLERANCE
        encoding = comparison.expected("encode", {"x": x})
        noise = random.normal(size=(batch, samples, model.bottleneck.noise_dimensions)).astype(np.float32)
        given = {name: encoding[name] for name in model.bottleneck.drawn_from}
        error = comparison.bound_error(
            "log_weight",
            {"x": x, "noise": noise} | given,
            lambda terms: terms["log_p_x_given_z"] + terms["log_p_z"] - terms["log_q"],
        )
        assert error < BOUND_TOLERANCE
