"""Priors in exact integers as they are written: torch in float64 against ONNX Runtime, and what keeps one from it."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from artifact import exact_golden
from artifact.errors import InexactError
from artifact.manifest import EXACT_PRIOR
from artifact.store import Artifact, Store
from models.chain import Chain, LinkGrid
from models.code_priors import CodePrior
from models.exact.convert import exact_prior
from models.exact.layers import ExactLinear, calibrating, freeze
from models.families.pixelcnn import PixelCNNConfig
from models.families.wavenet import WaveNetConfig
from training.cli import main
from training.errors import ExportError
from training.exact_export import Batch, check_sums, describe_exact, golden_grids, measure_exact
from training.graphs.exact import ALLOWED, check_operations, write_exact_graphs
from training.graphs.folding import fold
from training.graphs.prior import graphs
from training.graphs.shortening import shorten
from training.graphs.spec import GraphSpec
from training.parity import Graphs
from training.run import Run

CONDITIONS = {"label": 3, "speaker": 2}
CLASSES = {"label": ("a", "b", "c"), "speaker": ("x", "y")}
SOUND = (LinkGrid(11, (12,), 0, 0, 1),)
PICTURE = (LinkGrid(7, (3, 4), 0, 0, 1), LinkGrid(9, (6, 8), 1, 0, 2))
N = 3


def exactly(prior: CodePrior, codes: list[torch.Tensor]) -> CodePrior:
    """Give the exact counterpart of a prior whose weights are as after a fit: nothing is nearly nothing."""
    for parameter in prior.parameters():
        nn.init.normal_(parameter, std=0.25)
    exact = exact_prior(prior).eval()
    with torch.no_grad(), calibrating(exact):
        exact(codes[-1], exact.given(codes[:-1]), {name: torch.arange(N) for name in prior.conditions})
    freeze(exact)
    return exact.requires_grad_(False)


def chain_of(grids: tuple[LinkGrid, ...]) -> tuple[Chain, Batch]:
    """Make a chain of tiny links and codes for it."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    codes = [generator.integers(0, grid.num_embeddings, (N, *grid.shape), dtype=np.int32) for grid in grids]
    tensors = [torch.from_numpy(grid) for grid in codes]
    if grids == SOUND:
        config = WaveNetConfig(channels=8, skip_channels=8, cycles=1, layers=3, hidden=8)
        links = [exactly(config.build(grids[0], (), CONDITIONS), tensors)]
    else:
        sizes = {"channels": 6, "radius": 1, "hidden": 8, "features": 6, "feature_blocks": 1}
        links = [
            exactly(PixelCNNConfig(layers=1 + i, **sizes).build(grid, grids[:i], {}), tensors[: i + 1])
            for i, grid in enumerate(grids)
        ]
    conditions = CONDITIONS if grids == SOUND else {}
    return Chain(links, grids), Batch(codes, {name: np.arange(N) % (n + 1) for name, n in conditions.items()})


class Written:
    def __init__(self, folder: Path, grids: tuple[LinkGrid, ...]) -> None:
        self.folder = folder
        self.chain, self.batch = chain_of(grids)
        strides = (2, 1) if len(grids) > 1 else (1,)
        self.specs = graphs(self.chain, strides, any_size=True, prefix=EXACT_PRIOR)
        write_exact_graphs(self.specs, folder / "prior_exact.data")
        conditions = {name: CLASSES[name] for name in self.chain.conditions}
        self.prior = describe_exact(self.chain, self.specs, folder, any_size=True, conditions=conditions)
        self.run = Graphs(self.specs, folder).run


@pytest.fixture(scope="module", params=[SOUND, PICTURE], ids=["sound", "picture"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(tmp_path_factory.mktemp("graphs"), request.param)


def test_every_integer_equals_torchs_at_once_and_step_by_step(written: Written) -> None:
    parity = measure_exact(written.prior, written.chain, written.run, [written.batch])
    grids = zip(written.batch.codes, written.chain.grids, strict=True)
    assert parity.integers == 2 * sum(codes.size * grid.num_embeddings for codes, grid in grids)


def test_another_integer_is_another_prior(written: Written) -> None:
    layer = next(module for module in written.chain.modules() if isinstance(module, ExactLinear))
    layer.weight[0, 0] += 1
    other = describe_exact(written.chain, written.specs, written.folder, any_size=True, conditions={})
    layer.weight[0, 0] -= 1
    again = describe_exact(written.chain, written.specs, written.folder, any_size=True, conditions={})
    assert again.canonical_hash == written.prior.canonical_hash != other.canonical_hash


def test_graphs_have_small_weights_and_operations_that_no_order_changes(written: Written) -> None:
    for spec in written.specs:
        model = onnx.load(written.folder / spec.file)
        large = {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) >= 256}
        assert large <= {onnx.TensorProto.INT8, onnx.TensorProto.INT16}
        assert [(one.domain, one.version) for one in model.opset_import] == [("", 17)]
        assert model.ir_version == 8
        assert {node.op_type for node in model.graph.node} <= ALLOWED | {"Div"}
        assert not {"Conv", "Softmax", "Exp", "Tanh", "Sigmoid", "Sqrt"} & {node.op_type for node in model.graph.node}


def test_golden_integers_tell_a_runtime_that_gives_others(written: Written, tmp_path: Path) -> None:
    grids, classes = golden_grids(written.chain, written.prior, written.batch.codes)
    golden = exact_golden.record(written.prior, grids, classes, written.run)
    assert golden.check(written.run) == 2 * sum(
        grid.size * link.num_embeddings for grid, link in zip(grids, written.chain.grids, strict=True)
    )

    def wrong(role: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = written.run(role, feeds)
        if "logits" in outputs and role.endswith(("pixel", "step")):
            outputs["logits"][0, 0] += (feeds["position"][0] == 1).astype(np.float32)
        return outputs

    with pytest.raises(InexactError, match="not those of the export"):
        golden.check(wrong)

    def torn(role: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: value + np.float32(0.25) for name, value in written.run(role, feeds).items()}

    with pytest.raises(InexactError, match="no integers"):
        golden.check(torn)


def test_a_graph_whose_integers_differ_is_not_published(written: Written) -> None:
    def wrong(role: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = written.run(role, feeds)
        return outputs | ({"logits": outputs["logits"] + 1} if "logits" in outputs else {})

    with pytest.raises(ExportError, match="differ from torch's in float64"):
        measure_exact(written.prior, written.chain, wrong, [written.batch])


def test_sums_that_could_be_inexact_are_refused() -> None:
    chain, _ = chain_of(SOUND)
    layer = next(module for module in chain.modules() if isinstance(module, ExactLinear))
    layer.bias[0] = 2**24
    with pytest.raises(ExportError, match=r"sums of layer .* can reach"):
        check_sums(chain)
    floating = WaveNetConfig(channels=8, skip_channels=8, cycles=1, layers=1, hidden=8).build(SOUND[0], (), {})
    with pytest.raises(ExportError, match="fit-exact"):
        check_sums(Chain([floating], SOUND))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("y = Softmax (x)", "Softmax"),
        ("y = Conv (x, w)", "Conv"),
        ("y = Div (x, x)", "Div"),
        ("y = Sigmoid (x)", "Sigmoid"),
    ],
)
def test_other_operations_are_refused(body: str, named: str) -> None:
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> g (float[1,1,4] x, float[1,1,3] w) => (float[1,1,N] y) {{ {body} }}'
    )
    with pytest.raises(ExportError, match=rf"may differ between machines: {named};"):
        check_operations("g", onnx.parser.parse_model(text))
    whole = '<ir_version: 8, opset_import: ["": 17]> g (int64[4] x) => (int64[4] y) { z = Div (x, x)  y = Add (z, x) }'
    check_operations("g", onnx.parser.parse_model(whole))


_GATE = """<ir_version: 8, opset_import: ["": 17]> g (float[N,4] x, int64[N] code) => (float[N,3] y, float[N,3] z)
    <float[6,4] W, float[6] b, float[6] scale, float half = {0.5}, float least = {-900.0}, float most = {900.0},
     float eighth = {0.125}, float middle = {1024.0}, float zero = {0.0}, float last = {2047.0}, float[2048,1] table,
     int64[1] i0 = {0}, int64[1] i3 = {3}, int64[1] i6 = {6}, int64[1] axis = {-1}, int64[1] axis2 = {2}>
    {
        w = Gemm <transB = 1> (x, W, b)  m = Mul (w, scale)  h = Add (m, half)  f = Floor (h)  c = Clip (f, least, most)
        e = Mul (c, eighth)  k = Floor (e)  j = Add (k, middle)  l = Clip (j, zero, last)  index = Cast <to = 7> (l)
        i = Slice (index, i0, i3, axis)  o = Slice (index, i3, i6, axis)
        p = Gather <axis = 0> (table, i)  q = Gather <axis = 0> (table, o)
        u = Squeeze (p, axis2)  v = Squeeze (q, axis2)  y = Mul (u, v)
        n = Neg (x)  s = Slice (n, i0, i3, axis)  z = Identity (s)
    }"""


def test_shorter_graphs_give_the_same_numbers() -> None:
    generator = np.random.default_rng(0)
    constants = {
        "W": generator.integers(-127, 128, (6, 4)),
        "b": generator.integers(-(2**18), 2**18, 6),
        "scale": 2.0 ** np.array([-3, -9, 0, 2, -12, -1]),
        "table": generator.integers(-(2**12), 2**12, (2048, 1)),
    }
    model = onnx.parser.parse_model(_GATE)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in constants]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(values, dtype=np.float32), name) for name, values in constants.items()
    )
    feeds = {
        "x": generator.integers(-127, 128, (500, 4)).astype(np.float32),
        "code": np.zeros(500, dtype=np.int64),
    }
    expected = ReferenceEvaluator(model).run(None, feeds)
    shorten(model)
    fold(model)
    onnx.checker.check_model(model, full_check=True)
    for found, wanted in zip(ReferenceEvaluator(model).run(None, feeds), expected, strict=True):
        assert np.array_equal(found, wanted)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Floor") == kinds.count("Split") == kinds.count("Slice") == 1
    assert {tensor.data_type for tensor in model.graph.initializer if np.prod(tensor.dims) > 256} == {
        onnx.TensorProto.INT16
    }


@pytest.mark.slow
def test_a_run_is_published_again_with_its_exact_prior(vq_run: Run, vq_artifact: Artifact, tmp_path: Path) -> None:
    run, store = Run(tmp_path / "run"), tmp_path / "store"
    shutil.copytree(vq_run.path, run.path)
    shutil.copytree(vq_artifact.path, store / vq_artifact.manifest.name / "1")
    assert main(["fit-exact", str(run.path), "--exact.fit.steps", "2", "--exact.fit.threads", "1"]) == 0
    assert main(["export", str(run.path), "--store", str(store)]) == 0
    artifact = Store(store).open(vq_artifact.manifest.name)
    manifest, prior = artifact.manifest, artifact.manifest.exact_prior
    assert artifact.version == 2
    assert manifest.model_hash == vq_artifact.manifest.model_hash
    assert manifest.prior == vq_artifact.manifest.prior
    assert prior is not None
    assert set(prior.graphs) == {"prior_exact", "prior_exact_row", "prior_exact_pixel"}
    assert prior.parity.grids == 20
    assert f"`{prior.canonical_hash}`" in (artifact.path / "MODEL_CARD.md").read_text()
    specs = [GraphSpec(role, nn.Identity(), graph.inputs, graph.outputs) for role, graph in prior.graphs.items()]
    assert exact_golden.read(artifact, prior).check(Graphs(specs, artifact.path).run) > 0
