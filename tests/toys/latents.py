"""A toy with exact latents: three of them, each of which tilts the logits of all pixels by integers."""

import hashlib
import json
from pathlib import Path

import numpy as np

from artifact.exact import ExactParity
from artifact.exact_latents import DECODE, ENCODE, INFER, LATENTS_WEIGHTS_FILE, ExactLatents
from artifact.latents_golden import record
from artifact.manifest import MANIFEST_FILE, Graph, Tensor
from artifact.store import file_sha256
from codec.contexts import CONTEXTS
from tests.toys import vectors
from tests.toys.publish import Program, _runner, _write_graph, publish

REFERENCE = vectors.make(11, channels=1, dimensions=3, binary=True)
CONTEXT_LOGITS = np.full(CONTEXTS, -200, dtype=np.int32)
D, SIDE = 3, vectors.SIDE
WEIGHTS = {
    "S": np.array([[40.0, -25.0, 10.0]], dtype=np.float32),
    "A": np.array([70, 75, 78], dtype=np.int32),
    "U": np.random.default_rng(1).integers(-9, 10, (D, SIDE * SIDE)).astype(np.float32),
}
"""Slopes of the means by the number of white pixels, scales, and how latents tilt logits."""

_X = Tensor(
    name="x", dtype="uint8", shape=("B", SIDE, SIDE, 1), minimum=0, maximum=255, values=(0, 255), unit="intensity"
)
_FEATURES = Tensor(name="features_0", dtype="float32", shape=("B", 1), unit="hidden")
_Z = Tensor(name="z", dtype="int32", shape=("B", D), unit="1/16 latent")
_MEAN = Tensor(name="mean", dtype="int32", shape=("B", D), unit="1/1024 latent")
_SCALE = Tensor(name="scale", dtype="int32", shape=("B", D), unit="index")
_LOGITS = Tensor(name="logits", dtype="int32", shape=("B", SIDE, SIDE, 1), unit="1/256 nats")

_CONSTANTS = f"""
    int64[2] rows = {{0, -1}}, int64[1] last = {{1}}, int64[4] image = {{-1, {SIDE}, {SIDE}, 1}},
    float zero = {{0.0}}, float one = {{1.0}}, float middle = {{32.0}}, int32 none = {{0}}
"""
_PROGRAMS = {
    ENCODE: Program(
        [_X],
        [_FEATURES],
        _CONSTANTS,
        "f = Cast <to = 1> (x) g = Reshape (f, rows) c = Clip (g, zero, one)"
        " s = ReduceSum (c, last) features_0 = Sub (s, middle)",
    ),
    INFER: Program(
        [_FEATURES],
        [_MEAN, _SCALE],
        _CONSTANTS,
        "m = Mul (features_0, S) mean = Cast <to = 6> (m) e = Mul (mean, none) scale = Add (e, A)",
    ),
    DECODE: Program(
        [_Z],
        [_LOGITS],
        _CONSTANTS,
        "f = Cast <to = 1> (z) m = MatMul (f, U) i = Cast <to = 6> (m) logits = Reshape (i, image)",
    ),
}


def publish_archiving(root: Path, name: str) -> None:
    """Publish a toy VAE, and give it exact latents."""
    publish(root, name, vectors.toy(REFERENCE, ("encode", "decode", "likelihood")))
    folder = max((root / name).iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else 0)
    content = b"".join(value.tobytes() for value in WEIGHTS.values())
    (folder / LATENTS_WEIGHTS_FILE).write_bytes(content)
    graphs = {}
    for role, program in _PROGRAMS.items():
        path = folder / f"{role}.onnx"
        _write_graph(role, program, WEIGHTS, LATENTS_WEIGHTS_FILE, path)
        graphs[role] = Graph(
            file=path.name, sha256=file_sha256(path), opset=20, inputs=program.inputs, outputs=program.outputs
        )
    part = ExactLatents(
        graphs=graphs,
        canonical_hash=hashlib.sha256(content).hexdigest(),
        sizes=(D,),
        float_elbo_nats=-1.0,
        exact_elbo_nats=-1.0,
        parity=ExactParity(grids=1, integers=1),
    )
    z = np.array([[1, -2, 3], [200, 0, -50]], dtype=np.int32)
    record(part.seen, REFERENCE.images(2, seed=3), z, CONTEXT_LOGITS, _runner(folder), folder / part.golden)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["exact_latents"] = part.model_dump(mode="json")
    for file in (LATENTS_WEIGHTS_FILE, part.golden):
        manifest["files"][file] = file_sha256(folder / file)
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def pictures(count: int, seed: int = 0) -> np.ndarray:
    """Draw black and white pictures that are darker or lighter as a whole."""
    random = np.random.default_rng(seed)
    shares = random.random((count, 1, 1, 1))
    return (random.random((count, SIDE, SIDE, 1)) < shares).astype(np.uint8) * np.uint8(255)
