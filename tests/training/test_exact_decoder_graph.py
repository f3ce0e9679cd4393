"""The graph of an exact decoder as it is written: ONNX Runtime gives torch's integers; golden ones tell others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from artifact import decoder_golden
from artifact.errors import InexactError
from artifact.exact_decoder import EXACT_DECODE
from artifact.manifest import ImageGeometry
from models.exact.decoder import ExactDecoder
from models.exact.layers import calibrating, freeze
from models.families.hierarchical_vqvae import HierarchicalVQVAEConfig, HierarchyConfig
from models.families.quantizers import QuantizerConfig
from models.networks import ImageShape
from training.graphs import graphs
from training.graphs.exact import write_exact_graphs
from training.graphs.exact_decoder import exact_decoder_graph
from training.parity import Graphs


def test_the_written_graph_gives_the_integers_of_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = HierarchyConfig(hidden=8, residual_hidden=6, residual_blocks=1, downsamplings=(4, 2), features=6)
    quantizer = QuantizerConfig(num_embeddings=9, embedding_dim=4, initialisation="random")
    config = HierarchicalVQVAEConfig(family="hierarchical-vqvae", network=network, quantizer=quantizer)
    model = config.build(ImageShape(channels=3, height=8, width=8)).eval().requires_grad_(False)
    exact, random = ExactDecoder(model).eval(), np.random.default_rng(0)

    def drawn(batch: int, height: int, width: int) -> dict[str, np.ndarray]:
        sides = ((height, width), (2 * height, 2 * width))
        return {n: random.integers(0, 9, (batch, *s), dtype=np.int32) for n, s in zip(exact.names, sides, strict=True)}

    with torch.no_grad(), calibrating(exact):
        exact(*(torch.from_numpy(grid) for grid in drawn(4, 3, 4).values()))
    freeze(exact)
    decode = next(
        spec for spec in graphs(model, ImageGeometry(channels=3, multiple_of=4, maximum=64)) if spec.role == "decode"
    )
    graph = exact_decoder_graph(exact, decode)
    write_exact_graphs((graph,), tmp_path / "decoder_exact.data")
    run = Graphs((graph,), tmp_path).run
    for shape in ((1, 1, 1), (3, 5, 2)):
        codes = drawn(*shape)
        found = run(EXACT_DECODE, codes)["mean"]
        expected = exact.double()(*(torch.from_numpy(grid) for grid in codes.values())).numpy()
        assert found.dtype == np.int32
        assert np.array_equal(found, expected)
    decoder_golden.record(codes, run, tmp_path / "golden.npz")
    with np.load(tmp_path / "golden.npz") as arrays:
        golden = decoder_golden.DecoderGolden({name: arrays[name] for name in codes}, arrays["digest"])
    assert golden.check(run) == found.size

    def inexact(role: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        mean = run(role, feeds)["mean"].copy()
        mean[0, 0, 0, 0] += 1
        return {"mean": mean}

    with pytest.raises(InexactError, match="not those of the export"):
        golden.check(inexact)
