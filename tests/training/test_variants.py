"""Reduced precision: graphs like the full ones, close to the model, and refused where they are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from artifact import golden
from artifact.codes import Arrays
from artifact.manifest import Graph, ImageGeometry
from artifact.store import Artifact
from models.families.vae import ConvConfig, VAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape
from training.cli import main
from training.data import load
from training.errors import ExportError
from training.graphs import graphs
from training.graphs.reduced import reduced_graphs
from training.graphs.spec import run_modules
from training.parity import LIMITS, Comparison, measure_parity
from training.run import Run

K, SIDE = 16, 8
HALF = onnx.TensorProto.FLOAT16


def session(artifact: Artifact, role: str, precision: str | None = None) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(artifact.file(role, precision), providers=["CPUExecutionProvider"])


def test_a_variant_is_published_beside_the_full_graphs(vq_artifact: Artifact) -> None:
    manifest = vq_artifact.manifest
    variant = manifest.variants["fp16"]
    assert set(variant.graphs) == set(manifest.graphs) - {"embed"}
    assert {graph.file for graph in variant.graphs.values()} == {f"{role}.fp16.onnx" for role in variant.graphs}
    half, full = (
        sum((vq_artifact.path / name).stat().st_size for name in names)
        for names in (("weights.fp16.data",), ("weights.data", "prior.data"))
    )
    assert 0.4 * full < half < 0.7 * full
    for role in variant.graphs:
        wide, narrow = (session(vq_artifact, role, precision) for precision in (None, "fp16"))
        for side in ("get_inputs", "get_outputs"):
            assert [(t.name, t.type, t.shape) for t in getattr(narrow, side)()] == [
                (t.name, t.type, t.shape) for t in getattr(wide, side)()
            ]
    card = (vq_artifact.path / "MODEL_CARD.md").read_text()
    assert "Variant `fp16`, the worse of ONNX Runtime on the CPU and of torch" in card
    assert f"tensors within {variant.parity.tensor_error:.2e} of their largest value" in card


def test_its_parity_is_that_of_reduced_precision(vq_artifact: Artifact) -> None:
    full, reduced = vq_artifact.manifest.parity, vq_artifact.manifest.variants["fp16"].parity
    assert full.tensor_error < 2.0**-13 < reduced.tensor_error < 1e-2
    assert full.bound_error_nats_per_dim < 1e-6 < reduced.bound_error_nats_per_dim < 1e-3
    assert full.codes is not None
    assert reduced.codes is not None
    assert reduced.codes.compared == full.codes.compared
    assert reduced.codes.differing <= 0.01 * full.codes.compared + full.codes.near_ties
    assert reduced.prior is not None
    assert 0.0 < reduced.prior.logits_error < 1e-2


def test_only_the_networks_are_reduced(vq_artifact: Artifact) -> None:
    """Distances, and all after the networks, keep float32 or float64."""

    def types(role: str) -> dict[str, set[int]]:
        """Give the types that nodes of each kind compute in."""
        graph = onnx.load(vq_artifact.file(role, "fp16"), load_external_data=False).graph
        known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
        known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        found: dict[str, set[int]] = {}
        for node in graph.node:
            found.setdefault(node.op_type, set()).update(known[name] for name in node.output if name in known)
        return found

    encode, likelihood = types("encode"), types("log_likelihood")
    assert encode["Conv"] == {HALF, onnx.TensorProto.FLOAT}  # the first one is float32
    assert encode["MatMul"] == {onnx.TensorProto.FLOAT}  # z times the codebook
    assert HALF in likelihood["Conv"] | likelihood["ConvTranspose"]
    for kind in ("Exp", "Log", "ReduceSum"):
        assert likelihood[kind]
        assert HALF not in likelihood[kind]


def test_it_holds_against_the_full_graphs(vq_artifact: Artifact, vq_run: Run) -> None:
    images = load(vq_run.recipe().data).test.fixed()
    wide, narrow = (session(vq_artifact, "log_likelihood", precision) for precision in (None, "fp16"))
    codes = session(vq_artifact, "encode").run(None, {"x": images})[0]
    nats = [one.run(None, {"x": images, "codes": codes})[0].sum((1, 2)) for one in (wide, narrow)]
    assert 0.0 < np.abs(nats[0] - nats[1]).max() < 1e-3 * SIDE * SIDE * 3
    sessions = {role: session(vq_artifact, role, "fp16") for role in vq_artifact.manifest.graphs}

    def run(role: str, feeds: Arrays) -> Arrays:
        names = [tensor.name for tensor in vq_artifact.manifest.graphs[role].outputs]
        return dict(zip(names, sessions[role].run(names, feeds), strict=True))

    report = golden.read(vq_artifact).check(run, precision="fp16")
    assert report.errors["embed"] == 0.0
    assert 0.0 < report.errors["decode"] < 1e-2


def test_golden_pictures_lie_far_from_ties(vq_artifact: Artifact, vq_run: Run) -> None:
    """The closest call of the chosen picture is among the least close of those that could be."""
    model = vq_run.model(vq_run.recipe(), (SIDE, SIDE, 3))
    encode: Graph = vq_artifact.manifest.graphs["encode"]

    def margin(x: np.ndarray) -> float:
        hidden = model.hidden(torch.from_numpy(x)).permute(0, 2, 3, 1)
        return float(model.bottleneck.quantizer.margins(hidden).min())  # type: ignore[union-attr, operator]

    chosen = margin(np.asarray(golden.read(vq_artifact).examples["encode"].inputs["x"]))
    others = [margin(np.asarray(golden.example_inputs(encode, 2, seed)["x"])) for seed in range(20)]
    assert chosen >= max(others)
    assert chosen > 1e-2


@pytest.fixture(scope="module")
def vae() -> LatentVariableModel:
    torch.manual_seed(0)
    network = ConvConfig(encoder_channels=(6,), decoder_channels=(6,), hidden=16)
    return VAEConfig(latent=3, network=network).build(ImageShape(1, 8, 8)).eval().requires_grad_(False)


GEOMETRY = ImageGeometry(channels=1, height=8, width=8)


def test_emulation_rounds_as_half_precision_does(vae: LatentVariableModel) -> None:
    """Torch's own half precision differs from the emulation by its last bit here and there."""
    images = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (50, 8, 8, 1))
    full, half, emulated = (
        run_modules(specs)("encode", {"x": images})["mean"]
        for specs in (
            graphs(vae, GEOMETRY),
            reduced_graphs(vae, GEOMETRY, "fp16"),
            reduced_graphs(vae, GEOMETRY, "fp16", emulated=True),
        )
    )
    assert np.array_equal(emulated, emulated.astype(np.float16).astype(np.float32))
    assert (half == emulated).mean() > 0.5
    errors = [np.sqrt(np.mean((one - full) ** 2)) for one in (half, emulated)]
    assert errors[0] == pytest.approx(errors[1], rel=0.25)
    assert errors[0] > 0


@pytest.mark.parametrize("limit", ["tensor", "bound"])
def test_a_variant_beyond_its_limit_is_refused(
    vae: LatentVariableModel, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    images = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (50, 8, 8, 1))
    run = run_modules((*graphs(vae, GEOMETRY), *reduced_graphs(vae, GEOMETRY, "fp16", emulated=True)))
    comparison = Comparison(graphs(vae, GEOMETRY), [run], "fp16")
    parity = measure_parity(vae, comparison, [images])
    assert 1e-6 < parity.tensor_error < 1e-2
    monkeypatch.setitem(LIMITS, "fp16", replace(LIMITS["fp16"], **{limit: 1e-9}))
    with pytest.raises(ExportError, match="the variant fp16 is refused and nothing was published; export without it"):
        measure_parity(vae, Comparison(graphs(vae, GEOMETRY), [run], "fp16"), [images])


@pytest.mark.parametrize(("every", "refused"), [(50, True), (200, False)])
def test_too_many_codes_that_differ_are_refused(vq_run: Run, every: int, refused: bool) -> None:
    model = vq_run.model(vq_run.recipe(), (SIDE, SIDE, 3))
    specs = graphs(model, ImageGeometry(channels=3, height=SIDE, width=SIDE, multiple_of=2))
    right = run_modules(specs)

    def flawed(role: str, feeds: Arrays) -> Arrays:
        found = right(role, feeds)
        if role == "encode":
            found["codes"].ravel()[::every] += 1
        return found

    images = np.random.default_rng(0).integers(0, 256, (100, SIDE, SIDE, 3), dtype=np.uint8)
    comparison = Comparison(specs, [right, flawed], "fp16")
    if refused:
        with pytest.raises(ExportError, match=r"at 32 of 1600 places .* \(at most 16\); the variant fp16 is refused"):
            measure_parity(model, comparison, [images])
    else:
        codes = measure_parity(model, comparison, [images]).codes
        assert codes is not None
        assert (codes.compared, codes.differing) == (1600, 8)


def test_a_precision_that_cannot_be_measured_is_refused(
    vq_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(vq_run.path), "--store", str(tmp_path), "--variants", "fp16,bf16"]) == 1
    assert "--variants 'bf16' is unknown, expected fp16" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_chains_of_layers_are_reduced(vae: LatentVariableModel) -> None:
    single = LatentVariableModel(nn.Linear(2, 2), vae.bottleneck, vae.decoder, vae.likelihood)
    with pytest.raises(ExportError, match="a Linear has no first layer"):
        reduced_graphs(single, GEOMETRY, "fp16")
