"""A small store of hand-made models, and their mathematics once more in plain NumPy."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.manifest import (
    MANIFEST_FILE,
    WEIGHTS_FILE,
    ContinuousLevel,
    Data,
    Graph,
    ImageGeometry,
    Manifest,
    NoiseInput,
    Parity,
    Tensor,
    model_hash,
)
from artifact.noise import POSTERIOR_STREAM
from artifact.store import Store
from service.settings import Settings

SIDE = 8
COLOUR_SCALE = 20.0
LOG_2_PI = float(np.log(2.0 * np.pi))
ALL = ("encode", "decode", "reconstruct", "sample", "likelihood")


@dataclass(frozen=True)
class ToyReference:
    """A linear VAE in float64: mean = Wx + b, log_variance = Vx + c, decoder output = Uz + d.

    Attributes:
        weights: W, b, V, c, U, d by name, float32 as stored.
        channels: of the images, 8x8 pixels.
        binary: Bernoulli with logits Uz + d, else a Gaussian density around Uz + d, in units of intensity.
    """

    weights: dict[str, np.ndarray]
    channels: int
    binary: bool

    @property
    def dimensions(self) -> int:
        return self.weights["b"].size

    @property
    def shape(self) -> tuple[int, int, int]:
        return SIDE, SIDE, self.channels

    def images(self, batch: int, seed: int = 0) -> np.ndarray:
        """Draw images that the model takes."""
        images = np.random.default_rng(seed).integers(0, 256, (batch, *self.shape), dtype=np.uint8)
        return np.where(images >= 128, 255, 0).astype(np.uint8) if self.binary else images

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = images.reshape(len(images), -1) / 255.0
        w = {name: value.astype(np.float64) for name, value in self.weights.items()}
        return x @ w["W"] + w["b"], x @ w["V"] + w["c"]

    def output(self, z: np.ndarray) -> np.ndarray:
        """Give the decoder's output, `[..., H * W * C]`."""
        return z.astype(np.float64) @ self.weights["U"].astype(np.float64) + self.weights["d"]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """Give the mean image before it is rounded, in 0..255."""
        output = self.output(z)
        mean = 255.0 / (1.0 + np.exp(-output)) if self.binary else output
        return mean.reshape(len(z), *self.shape)

    def log_weight(
        self, images: np.ndarray, mean: np.ndarray, log_variance: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        noise = noise.astype(np.float64)
        z = mean[:, None] + np.exp(log_variance / 2.0)[:, None] * noise
        x = images.reshape(len(images), 1, -1).astype(np.float64)
        output = self.output(z)
        if self.binary:
            log_p_x = (x / 255.0 * output - np.logaddexp(0.0, output)).sum(-1)
        else:
            log_p_x = _log_normal((x - output) / COLOUR_SCALE).sum(-1) - x.shape[-1] * np.log(COLOUR_SCALE)
        log_q = (_log_normal(noise) - log_variance[:, None] / 2.0).sum(-1)
        return log_p_x, _log_normal(z).sum(-1), log_q


def _log_normal(value: np.ndarray) -> np.ndarray:
    return -0.5 * (value**2 + LOG_2_PI)


def _toy(seed: int, channels: int, dimensions: int, *, binary: bool) -> ToyReference:
    generator = np.random.default_rng(seed)
    pixels = SIDE * SIDE * channels

    def draw(*shape: int, scale: float, shift: float = 0.0) -> np.ndarray:
        return (shift + scale * generator.standard_normal(shape)).astype(np.float32)

    spread, centre = (1.0, 0.0) if binary else (20.0, 128.0)
    weights = {
        "W": draw(pixels, dimensions, scale=1.0 / np.sqrt(pixels)),
        "b": draw(dimensions, scale=0.1),
        "V": draw(pixels, dimensions, scale=0.3 / np.sqrt(pixels)),
        "c": draw(dimensions, scale=0.1, shift=-1.0),
        "U": draw(dimensions, pixels, scale=spread),
        "d": draw(pixels, scale=spread / 2.0, shift=centre),
    }
    return ToyReference(weights, channels, binary)


def _tensors(toy: ToyReference) -> dict[str, Tensor]:
    D, pixels = toy.dimensions, ("B", *toy.shape)
    values = (0, 255) if toy.binary else None
    return {
        "x": Tensor(name="x", dtype="uint8", shape=pixels, minimum=0, maximum=255, values=values, unit="intensity"),
        "mean": Tensor(name="mean", dtype="float32", shape=("B", D), unit="latent"),
        "log_variance": Tensor(name="log_variance", dtype="float32", shape=("B", D), unit="log_variance"),
        "z": Tensor(name="z", dtype="float32", shape=("B", D), unit="latent"),
        "image": Tensor(name="mean", dtype="float32", shape=pixels, minimum=0, maximum=255, unit="intensity"),
        "logits": Tensor(name="logits", dtype="float32", shape=pixels, unit="logit"),
        "noise": Tensor(name="noise", dtype="float32", shape=("B", "S", D), unit="standard_normal"),
        "log_p_x_given_z": Tensor(name="log_p_x_given_z", dtype="float64", shape=("B", "S"), unit="nats"),
        "log_p_z": Tensor(name="log_p_z", dtype="float64", shape=("B", "S"), unit="nats"),
        "log_q": Tensor(name="log_q", dtype="float64", shape=("B", "S"), unit="nats"),
    }


def _signatures(toy: ToyReference) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
    t = _tensors(toy)
    return {
        "encode": ([t["x"]], [t["mean"], t["log_variance"]]),
        "decode": ([t["z"]], [t["image"], t["logits"]] if toy.binary else [t["image"]]),
        "log_weight": (
            [t["x"], t["mean"], t["log_variance"], t["noise"]],
            [t["log_p_x_given_z"], t["log_p_z"], t["log_q"]],
        ),
    }


# Graphs in ONNX's text form; W, b, V, c, U, d come from the shared weight file.
_ENCODE = """
    f = Cast <to = 1> (x)  g = Reshape (f, rows)  u = Div (g, full)
    m = MatMul (u, W)  mean = Add (m, b)
    v = MatMul (u, V)  log_variance = Add (v, c)
"""
_DECODE_BINARY = """
    m = MatMul (z, U)  o = Add (m, d)  logits = Reshape (o, image)
    p = Sigmoid (logits)  mean = Mul (p, full)
"""
_DECODE_COLOUR = "m = MatMul (z, U)  o = Add (m, d)  mean = Reshape (o, image)"
_LOG_WEIGHT = """
    h = Mul (log_variance, half)  k = Exp (h)  k1 = Unsqueeze (k, axis1)  m1 = Unsqueeze (mean, axis1)
    n = Mul (k1, noise)  z = Add (m1, n)  m = MatMul (z, U)  o = Add (m, d)
    f = Cast <to = 1> (x)  g = Reshape (f, pixels)
    {likelihood}
    e = Cast <to = 11> (log_p)  log_p_x_given_z = ReduceSum <keepdims = 0> (e, axis2)
    z2 = Mul (z, z)  pz = Add (z2, log2pi)  pzh = Mul (pz, minus)
    pd = Cast <to = 11> (pzh)  log_p_z = ReduceSum <keepdims = 0> (pd, axis2)
    n2 = Mul (noise, noise)  qn = Add (n2, log2pi)  lv1 = Unsqueeze (log_variance, axis1)  qv = Add (qn, lv1)
    qh = Mul (qv, minus)  qd = Cast <to = 11> (qh)  log_q = ReduceSum <keepdims = 0> (qd, axis2)
"""
_BERNOULLI = "u = Div (g, full)  y = Mul (u, o)  s = Softplus (o)  log_p = Sub (y, s)"
_GAUSSIAN = """
    r = Sub (g, o)  q = Div (r, scale)  q2 = Mul (q, q)  q3 = Add (q2, log2pi)  q4 = Mul (q3, minus)
    log_p = Sub (q4, logscale)
"""
_CONSTANTS = """
    int64[2] rows = {{0, -1}}, int64[3] pixels = {{0, 1, -1}}, int64[4] image = {{-1, {side}, {side}, {channels}}},
    int64[1] axis1 = {{1}}, int64[1] axis2 = {{2}}, float[1] full = {{255.0}}, float[1] half = {{0.5}},
    float[1] minus = {{-0.5}}, float[1] log2pi = {{{log2pi}}}, float[1] scale = {{{scale}}},
    float[1] logscale = {{{logscale}}}
"""
_ONNX_TYPES = {"uint8": "uint8", "float32": "float", "float64": "double"}


def _program(toy: ToyReference, role: str) -> str:
    decode = _DECODE_BINARY if toy.binary else _DECODE_COLOUR
    log_weight = _LOG_WEIGHT.format(likelihood=_BERNOULLI if toy.binary else _GAUSSIAN)
    body = {"encode": _ENCODE, "decode": decode, "log_weight": log_weight}[role]
    constants = _CONSTANTS.format(
        side=SIDE, channels=toy.channels, log2pi=LOG_2_PI, scale=COLOUR_SCALE, logscale=float(np.log(COLOUR_SCALE))
    )
    inputs, outputs = (", ".join(map(_declaration, tensors)) for tensors in _signatures(toy)[role])
    return f'<ir_version: 10, opset_import: ["": 20]> {role} ({inputs}) => ({outputs}) <{constants}> {{{body}}}'


def _declaration(tensor: Tensor) -> str:
    return f"{_ONNX_TYPES[tensor.dtype]}[{','.join(map(str, tensor.shape))}] {tensor.name}"


def _write_graph(toy: ToyReference, role: str, path: Path) -> None:
    import onnx

    model = onnx.parser.parse_model(_program(toy, role))
    used = {name for node in model.graph.node for name in node.input}
    offset = 0
    for name, value in toy.weights.items():
        if name in used:
            tensor = onnx.numpy_helper.from_array(value, name)
            onnx.external_data_helper.set_external_data(tensor, WEIGHTS_FILE, offset, value.nbytes)
            tensor.ClearField("raw_data")
            model.graph.initializer.append(tensor)
        offset += value.nbytes
    path.write_bytes(model.SerializeToString())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _publish(root: Path, name: str, toy: ToyReference, capabilities: tuple[str, ...]) -> None:
    """Publish a toy; one that cannot tell a likelihood has no `log_weight` graph and no bound."""
    bounded = "likelihood" in capabilities
    with Store(root).stage(name) as folder:
        (folder / WEIGHTS_FILE).write_bytes(b"".join(value.tobytes() for value in toy.weights.values()))
        graphs = {}
        for role, (inputs, outputs) in _signatures(toy).items():
            if role == "log_weight" and not bounded:
                continue
            path = folder / f"{role}.onnx"
            _write_graph(toy, role, path)
            graphs[role] = Graph(file=path.name, sha256=_sha256(path), opset=20, inputs=inputs, outputs=outputs)
        files = {WEIGHTS_FILE: _sha256(folder / WEIGHTS_FILE)}
        noise = NoiseInput(graph="log_weight", tensor="noise", distribution="standard_normal", stream=POSTERIOR_STREAM)
        manifest = Manifest(
            name=name,
            family="toy",
            created="2025-01-01T00:00:00Z",
            geometry=ImageGeometry(channels=toy.channels, height=SIDE, width=SIDE),
            latent=(ContinuousLevel(dimensions=toy.dimensions),),
            graphs=graphs,
            files=files,
            noise=(noise,) if bounded else (),
            capabilities=capabilities,
            bound="elbo" if bounded else None,
            parity=Parity(examples=1, tensor_error=0.0, bound_error_nats_per_dim=0.0),
            metrics={"elbo_nats": -1.0},
            metrics_note="made by hand",
            data=Data(name="none", source="none", licence="CC0-1.0"),
            licence="CC0-1.0",
            git_commit=None,
            model_hash=model_hash(graphs, files),
        )
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())


@pytest.fixture(scope="session")
def toy_references() -> dict[str, ToyReference]:
    """The mathematics of every model of `store_root`, by name."""
    binary = _toy(1, channels=1, dimensions=4, binary=True)
    colour = _toy(2, channels=3, dimensions=3, binary=False)
    return {"toy-binary": binary, "toy-colour": colour, "toy-encoder": _toy(3, channels=1, dimensions=2, binary=True)}


@pytest.fixture(scope="session")
def store_root(tmp_path_factory: pytest.TempPathFactory, toy_references: dict[str, ToyReference]) -> Path:
    """A store that holds toy-binary, toy-colour and toy-encoder, one version each; copy it to change it."""
    root = tmp_path_factory.mktemp("store")
    for name, toy in toy_references.items():
        _publish(root, name, toy, ("encode", "decode") if name == "toy-encoder" else ALL)
    return root


@pytest.fixture
def settings(store_root: Path) -> Settings:
    """Settings for the toy store on one CPU thread."""
    return Settings(store=store_root, device="cpu", threads=1)


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Give a function that changes the JSON of a manifest in place and mends its `model_hash`."""

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads(path.read_text())
        change(content)
        graphs = {role: Graph.model_validate(graph) for role, graph in content["graphs"].items()}
        content["model_hash"] = model_hash(graphs, content["files"])
        path.write_text(json.dumps(content))

    return edit
