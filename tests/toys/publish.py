"""Hand-made models into a store: graphs in ONNX's text form, weights in a file beside them, and a manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from artifact import exact_golden, golden
from artifact.exact import EXACT_GOLDEN_FILE, ExactParity
from artifact.manifest import (
    EXACT_PRIOR_WEIGHTS_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    PRIOR_WEIGHTS_FILE,
    WEIGHTS_FILE,
    CodePrior,
    Data,
    DiscreteLevel,
    ExactPrior,
    Geometry,
    Graph,
    Level,
    Manifest,
    NoiseInput,
    Parity,
    Tensor,
    Windows,
    condition_input,
    is_of_prior,
    model_hash,
    prior_hash,
)
from artifact.store import Store

_ONNX_TYPES = {"uint8": "uint8", "int32": "int32", "int64": "int64", "float32": "float", "float64": "double"}

TOYS = ("toy-binary", "toy-colour", "toy-encoder", "toy-tokens", "toy-tokens-prior")
"""The toys, in the order in which they are defaults in most tests."""


@dataclass(frozen=True)
class Program:
    """One graph: its tensors, the constants of its text, and the text between them."""

    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    constants: str
    body: str


@dataclass(frozen=True)
class ExactToy:
    """An exact prior: its graphs by role, their tables of integers, and what the manifest says of it."""

    programs: Mapping[str, Program]
    weights: Mapping[str, np.ndarray]
    links: Sequence[Any]
    conditions: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Toy:
    """All that a toy's manifest and graphs are made of; a `CodePrior` without its hash where it has one."""

    geometry: Geometry
    latent: Level | tuple[Level, ...]
    programs: Mapping[str, Program]
    weights: Mapping[str, np.ndarray]
    capabilities: tuple[str, ...]
    bound: str | None
    noise: tuple[NoiseInput, ...] = ()
    prior: Mapping[str, Any] | None = None
    prior_weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    windows: Windows | None = None
    decoder: Literal["parallel", "autoregressive"] = "parallel"
    warnings: tuple[str, ...] = ()
    exact: ExactToy | None = None

    @property
    def levels(self) -> tuple[Level, ...]:
        return self.latent if isinstance(self.latent, tuple) else (self.latent,)


def publish(root: Path, name: str, toy: Toy) -> None:
    """Publish a toy as the next version of a model."""
    with Store(root).stage(name) as folder:
        graphs, files = {}, {}
        for file, weights in ((WEIGHTS_FILE, toy.weights), (PRIOR_WEIGHTS_FILE, toy.prior_weights)):
            if weights:
                (folder / file).write_bytes(b"".join(value.tobytes() for value in weights.values()))
                files[file] = _sha256(folder / file)
        for role, program in toy.programs.items():
            path = folder / f"{role}.onnx"
            is_prior = is_of_prior(role)
            _write_graph(
                role,
                program,
                toy.prior_weights if is_prior else toy.weights,
                PRIOR_WEIGHTS_FILE if is_prior else WEIGHTS_FILE,
                path,
            )
            graphs[role] = Graph(
                file=path.name, sha256=_sha256(path), opset=20, inputs=program.inputs, outputs=program.outputs
            )
        golden.write(golden.record(name, graphs, toy.geometry.multiple_of, _runner(folder)), folder / GOLDEN_FILE)
        files[GOLDEN_FILE] = _sha256(folder / GOLDEN_FILE)
        exact_prior = None if toy.exact is None else _publish_exact(folder, toy, toy.exact)
        files |= {file: _sha256(folder / file) for file in _EXACT_FILES if toy.exact is not None}
        prior = toy.prior and CodePrior(**toy.prior, prior_hash=prior_hash(graphs, files))
        manifest = Manifest(
            name=name,
            family="toy",
            created="2025-01-01T00:00:00Z",
            geometry=toy.geometry,
            latent=toy.levels,
            conditions=dict(toy.conditions),
            windows=toy.windows,
            warnings=toy.warnings,
            decoder=toy.decoder,
            graphs=graphs,
            files=files,
            prior=prior,
            exact_prior=exact_prior,
            noise=toy.noise,
            capabilities=toy.capabilities,
            bound=toy.bound,
            parity=Parity(examples=1, tensor_error=0.0, bound_error_nats_per_dim=0.0),
            metrics={"elbo_nats": -1.0},
            metrics_note="made by hand",
            data=Data(name="none", source="none", licence="CC0-1.0"),
            licence="CC0-1.0",
            git_commit=None,
            model_hash=model_hash(graphs, files),
        )
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())


_EXACT_FILES = (EXACT_PRIOR_WEIGHTS_FILE, EXACT_GOLDEN_FILE)


def _publish_exact(folder: Path, toy: Toy, exact: ExactToy) -> ExactPrior:
    """Write the graphs, the tables and the golden integers of an exact prior."""
    content = b"".join(value.tobytes() for value in exact.weights.values())
    (folder / EXACT_PRIOR_WEIGHTS_FILE).write_bytes(content)
    graphs = {}
    for role, program in exact.programs.items():
        path = folder / f"{role}.onnx"
        _write_graph(role, program, exact.weights, EXACT_PRIOR_WEIGHTS_FILE, path)
        graphs[role] = Graph(
            file=path.name, sha256=_sha256(path), opset=20, inputs=program.inputs, outputs=program.outputs
        )
    prior = ExactPrior(
        graphs=graphs,
        canonical_hash=hashlib.sha256(content).hexdigest(),
        links=tuple(exact.links),
        conditions=dict(exact.conditions),
        float_bits_per_token=2.0,
        exact_bits_per_token=2.0,
        parity=ExactParity(grids=1, integers=1),
    )
    generator, grids = np.random.default_rng(0), []
    for link in prior.links:
        level = toy.levels[link.level]
        assert isinstance(level, DiscreteLevel)
        grids.append(generator.integers(0, level.num_embeddings, (2, *link.grid), dtype=np.int32))
    classes = {condition_input(name): np.array([0, len(names)]) for name, names in prior.conditions.items()}
    exact_golden.write(exact_golden.record(prior, grids, classes, _runner(folder)), folder / prior.golden)
    return prior


def _runner(folder: Path) -> golden.Run:
    """Run graphs where they were written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3

    def run(role: str, feeds: golden.Arrays) -> golden.Arrays:
        session = onnxruntime.InferenceSession(folder / f"{role}.onnx", options, providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def mend_hashes(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest's JSON with the hashes that its graphs and files have now."""
    graphs = {role: Graph.model_validate(graph) for role, graph in content["graphs"].items()}
    content["model_hash"] = model_hash(graphs, content["files"])
    if content.get("prior"):
        content["prior"]["prior_hash"] = prior_hash(graphs, content["files"])
    path.write_text(json.dumps(content))


def _write_graph(role: str, program: Program, weights: Mapping[str, np.ndarray], file: str, path: Path) -> None:
    import onnx

    inputs, outputs = (", ".join(map(_declare, tensors)) for tensors in (program.inputs, program.outputs))
    text = f"{role} ({inputs}) => ({outputs}) <{program.constants}> {{{program.body}}}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> {text}')
    used = {name for node in model.graph.node for name in node.input}
    offset = 0
    for name, value in weights.items():
        if name in used:
            tensor = onnx.numpy_helper.from_array(value, name)
            onnx.external_data_helper.set_external_data(tensor, file, offset, value.nbytes)
            tensor.ClearField("raw_data")
            model.graph.initializer.append(tensor)
        offset += value.nbytes
    path.write_bytes(model.SerializeToString())


def _declare(tensor: Tensor) -> str:
    return f"{_ONNX_TYPES[tensor.dtype]}[{','.join(map(str, tensor.shape))}] {tensor.name}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
