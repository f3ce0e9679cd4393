"""Export: write a run's graphs, measure that they compute what the model computes, and publish them or refuse."""

import json
import logging
import subprocess
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray

from artifact import manifest as schema
from artifact.noise import POSTERIOR_STREAM, batch_normal
from artifact.store import Artifact, Store, file_sha256
from media.images import write_png
from models.model import LatentVariableModel
from training import pictures
from training.card import card
from training.data import Splits
from training.errors import ExportError
from training.graphs import GraphSpec, example, graphs
from training.recipe import Recipe
from training.run import Run
from training.weights import write_shared

OPSET = 20
PARITY_EXAMPLES = 1000
_PARITY_BATCH = 100
_PARITY_SAMPLES = 4

TENSOR_TOLERANCE = 1e-4
"""Largest |onnx - torch| / (1 + |torch|): atol and rtol of 1e-4 together."""
BOUND_TOLERANCE = 1e-6
"""Largest difference of a bound, in nats per data dimension."""

_PICTURE_EXAMPLES = 32
_PICTURE_SAMPLES = 64


def export(run: Run, splits: Splits, store: Store) -> Artifact:
    """Publish a run's best weights as the next version of its model.

    Args:
        run: fitted, and evaluated if the artifact is to bear metrics.
        splits: its data; the test split is what parity is measured on.
        store: where to publish.

    Returns:
        The published artifact.

    Raises:
        RunError: the run is not complete.
        ExportError: the graphs are not within tolerance of the model; nothing is published then.
    """
    recipe = run.recipe()
    shape = splits.test.shape[1:]
    model = run.model(recipe, shape)
    with store.stage(recipe.name) as stage:
        specs = graphs(model, shape)
        write_graphs(specs, stage)
        parity = measure_parity(model, specs, stage, splits.test[:PARITY_EXAMPLES])
        (stage / "samples.png").write_bytes(write_png(pictures.samples(model, _PICTURE_SAMPLES)))
        shown = pictures.reconstructions(model, splits.test[:: max(1, len(splits.test) // _PICTURE_EXAMPLES)][:32])
        (stage / "reconstructions.png").write_bytes(write_png(shown))
        (stage / "recipe.toml").write_bytes(run.recipe_file.read_bytes())
        measured = _metrics(run)
        (stage / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n", "utf-8")
        draft = _manifest(recipe, model, splits, specs, stage, parity, measured)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        text = card(
            draft, recipe.card.description, parameters, f"make train RECIPE=training/recipes/{recipe.name}.toml"
        )
        (stage / "MODEL_CARD.md").write_text(text, "utf-8")
        files = draft.files | {"MODEL_CARD.md": file_sha256(stage / "MODEL_CARD.md")}
        final = draft.model_copy(update={"files": files})
        (stage / schema.MANIFEST_FILE).write_text(final.model_dump_json(indent=2) + "\n", "utf-8")
    return store.open(recipe.name)


def write_graphs(specs: tuple[GraphSpec, ...], folder: Path) -> None:
    """Write every graph as `<role>.onnx` with the shared `weights.data` beside it.

    Args:
        specs: the graphs.
        folder: where to.
    """
    written = {folder / f"{spec.role}.onnx": _trace(spec) for spec in specs}
    write_shared(written, folder / schema.WEIGHTS_FILE)


def _trace(spec: GraphSpec) -> onnx.ModelProto:
    """Turn a module into an ONNX graph with symbolic batch and sample axes."""
    arguments = tuple(example(tensor) for tensor in spec.inputs)
    symbols = {name: torch.export.Dim(name, min=1, max=2**20) for name in ("B", "S")}
    shapes = tuple(
        {axis: symbols[name] for axis, name in enumerate(tensor.shape) if isinstance(name, str)}
        for tensor in spec.inputs
    )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing of the model's
        program = torch.onnx.export(
            spec.module.eval(),
            arguments,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ExportError(f"torch gave no graph for {spec.role}")
    graph: onnx.ModelProto = program.model_proto
    return graph


@dataclass
class _Differences:
    """The largest differences seen so far."""

    tensor: float = 0.0
    bound: float = 0.0

    def tensors(self, found: list[NDArray[np.generic]], expected: tuple[torch.Tensor, ...]) -> None:
        """Take the outputs of one graph into account."""
        for onnx_value, torch_value in zip(found, expected, strict=True):
            value = torch_value.double().numpy()
            error = np.abs(onnx_value.astype(np.float64) - value) / (1.0 + np.abs(value))
            self.tensor = max(self.tensor, float(error.max()))


@torch.inference_mode()
def measure_parity(
    model: LatentVariableModel, specs: tuple[GraphSpec, ...], folder: Path, images: UInt8[np.ndarray, "N H W C"]
) -> schema.Parity:
    """Run the written graphs and the model side by side on held-out images.

    Args:
        model: in evaluation mode.
        specs: the graphs.
        folder: where they were written.
        images: held out.

    Returns:
        What was measured.

    Raises:
        ExportError: a difference is beyond tolerance.
    """
    sessions = {spec.role: _session(folder / f"{spec.role}.onnx") for spec in specs}
    modules = {spec.role: spec.module for spec in specs}
    difference = _Differences()
    dimensions = int(np.prod(images.shape[1:]))
    for first in range(0, len(images), _PARITY_BATCH):
        x = images[first : first + _PARITY_BATCH]
        posterior = modules["encode"](torch.from_numpy(x))
        difference.tensors(sessions["encode"].run(None, {"x": x}), posterior)
        z = posterior[0]
        difference.tensors(sessions["decode"].run(None, {"z": z.numpy()}), modules["decode"](z))
        noise = batch_normal(0, first, len(x), (_PARITY_SAMPLES, model.bottleneck.dimensions), stream=POSTERIOR_STREAM)
        moments = dict(zip(model.bottleneck.posterior.parameter_names, posterior, strict=True))
        expected = modules["log_weight"](torch.from_numpy(x), *posterior, torch.from_numpy(noise))
        feeds = {"x": x, "noise": noise} | {name: value.numpy() for name, value in moments.items()}
        found = sessions["log_weight"].run(None, feeds)
        error = np.abs((found[0] + found[1] - found[2]) - (expected[0] + expected[1] - expected[2]).numpy())
        difference.bound = max(difference.bound, float(error.max()) / dimensions)
    parity = schema.Parity(
        examples=len(images), tensor_error=difference.tensor, bound_error_nats_per_dim=difference.bound
    )
    if not (parity.tensor_error <= TENSOR_TOLERANCE and parity.bound_error_nats_per_dim <= BOUND_TOLERANCE):
        raise ExportError(
            f"the exported graphs differ from the model: tensors by {parity.tensor_error:.2e} "
            f"(at most {TENSOR_TOLERANCE:g}), bounds by {parity.bound_error_nats_per_dim:.2e} nats a dimension "
            f"(at most {BOUND_TOLERANCE:g}); nothing was published"
        )
    return parity


def _session(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _metrics(run: Run) -> dict[str, object]:
    """Read what `evaluate` stored, if it ran."""
    if not run.metrics_file.exists():
        return {"split": "none", "seed": 0, "metrics": {}}
    stored: dict[str, object] = json.loads(run.metrics_file.read_text("utf-8"))
    return stored


def _manifest(
    recipe: Recipe,
    model: LatentVariableModel,
    splits: Splits,
    specs: tuple[GraphSpec, ...],
    stage: Path,
    parity: schema.Parity,
    measured: dict[str, object],
) -> schema.Manifest:
    """Describe what lies in the stage."""
    height, width, channels = splits.test.shape[1:]
    roles = {
        spec.role: schema.Graph(
            file=f"{spec.role}.onnx",
            sha256=file_sha256(stage / f"{spec.role}.onnx"),
            opset=OPSET,
            inputs=spec.inputs,
            outputs=spec.outputs,
        )
        for spec in specs
    }
    graph_files = {graph.file for graph in roles.values()}
    files = {path.name: file_sha256(path) for path in sorted(stage.iterdir()) if path.name not in graph_files}
    return schema.Manifest(
        name=recipe.name,
        family=recipe.model.family,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        geometry=schema.ImageGeometry(channels=channels, height=height, width=width),
        latent=(schema.ContinuousLevel(dimensions=model.bottleneck.dimensions),),
        graphs=roles,
        files=files,
        noise=(
            schema.NoiseInput(
                graph="log_weight", tensor="noise", distribution="standard_normal", stream=POSTERIOR_STREAM
            ),
        ),
        capabilities=("encode", "decode", "reconstruct", "sample", "likelihood"),
        bound="elbo",
        parity=parity,
        metrics=measured["metrics"],
        metrics_note=(
            f"Means over the {measured['split']} split of {splits.name}, by `python -m training evaluate`, "
            f"noise seed {measured['seed']}."
            if measured["metrics"]
            else "Not evaluated."
        ),
        data=schema.Data(name=splits.name, source=splits.source, licence=splits.licence),
        licence=recipe.card.licence,
        git_commit=_git_commit(),
        model_hash=schema.model_hash(roles, files),
    )


def _git_commit() -> str | None:
    """Name the checked-out commit; None outside a checkout or without git."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()
