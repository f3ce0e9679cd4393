"""`python -m bench.serving.make_model`: publishes the benchmark's model, an encoder of the `vae` family, never fitted.

Of a size that ONNX Runtime runs at about 8,500 rows/s on one core of a server of 2025: a run then costs about as much
as an answer over HTTP, so that what the serving takes shows.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from artifact import manifest as schema
from artifact.store import Artifact, Store, file_sha256
from bench.load import random_images
from models.families.parts import GaussianConfig
from models.families.vae import ConvConfig, VAEConfig
from models.networks import ImageShape
from training.graphs import graphs
from training.graphs.spec import GraphSpec
from training.graphs.write import OPSET, write_graphs
from training.parity import TENSOR_TOLERANCE, Graphs, relative

STORE = Path(__file__).with_name("model")
NAME = "bench-encoder"
SIDE = 64
LATENT = 32

_NETWORK = ConvConfig(
    encoder_channels=(24, 48, 80), decoder_channels=(8, 8, 8), encoder_blocks=0, decoder_blocks=0, hidden=32
)


def main() -> int:
    """Publish the model into the benchmark's own store, as its next version."""
    artifact = publish(Store(STORE))
    size = sum(path.stat().st_size for path in artifact.path.iterdir())
    print(f"{artifact.reference} in {artifact.path}, {size / 1e3:.0f} kB")
    return 0


def publish(store: Store) -> Artifact:
    """Build the model from a fixed seed and publish its `encode` graph.

    Args:
        store: where to.

    Returns:
        The artifact.
    """
    geometry = schema.ImageGeometry(channels=3, height=SIDE, width=SIDE)
    torch.manual_seed(0)
    config = VAEConfig(latent=LATENT, network=_NETWORK, likelihood=GaussianConfig())
    model = config.build(ImageShape(3, SIDE, SIDE)).eval()
    spec = next(spec for spec in graphs(model, geometry) if spec.role == "encode")
    with store.stage(NAME) as stage:
        write_graphs((spec,), stage / schema.WEIGHTS_FILE)
        described = _manifest(geometry, spec, stage)
        (stage / schema.MANIFEST_FILE).write_text(described.model_dump_json(indent=2) + "\n", "utf-8")
    return store.open(NAME)


def _manifest(geometry: schema.ImageGeometry, spec: GraphSpec, stage: Path) -> schema.Manifest:
    """Describe what lies in the stage."""
    file = f"{spec.role}.onnx"
    graph = schema.Graph(
        file=file, sha256=file_sha256(stage / file), opset=OPSET, inputs=spec.inputs, outputs=spec.outputs
    )
    files = {schema.WEIGHTS_FILE: file_sha256(stage / schema.WEIGHTS_FILE)}
    return schema.Manifest(
        name=NAME,
        family="vae",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        geometry=geometry,
        latent=(schema.ContinuousLevel(dimensions=LATENT),),
        graphs={spec.role: graph},
        files=files,
        noise=(),
        capabilities=("encode",),
        bound=None,
        parity=_parity(spec, stage),
        metrics={},
        metrics_note="Random weights.",
        data=schema.Data(name="none", source="none", licence="CC0-1.0"),
        licence="CC0-1.0",
        git_commit=None,
        model_hash=schema.model_hash({spec.role: graph}, files),
    )


@torch.inference_mode()
def _parity(spec: GraphSpec, stage: Path) -> schema.Parity:
    """Compare the written graph with the module on random pictures.

    Raises:
        RuntimeError: they differ.
    """
    images = random_images((64, SIDE, SIDE, 3))
    found = Graphs((spec,), stage).run(spec.role, {"x": images})
    expected = spec.module(torch.from_numpy(images))
    error = float(np.max([relative(found[t.name], y.numpy()) for t, y in zip(spec.outputs, expected, strict=True)]))
    if not error <= TENSOR_TOLERANCE:
        raise RuntimeError(f"the graph differs from its module by {error:.1e}, at most {TENSOR_TOLERANCE:g} is allowed")
    return schema.Parity(examples=len(images), tensor_error=error, bound_error_nats_per_dim=0.0)


if __name__ == "__main__":
    raise SystemExit(main())
