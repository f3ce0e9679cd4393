"""Parity: whether the graphs that were written compute what the model computes, measured on held-out data."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Bool, Float32, Float64, Int32, UInt8
from numpy.typing import NDArray

from artifact import manifest as schema
from artifact.codes import Arrays, complete, draw_codes, sample_raster
from artifact.noise import CODES_STREAM, POSTERIOR_STREAM, batch_normal, batch_uniform
from models.bottleneck import GaussianBottleneck, VectorQuantizedBottleneck
from models.model import LatentVariableModel
from models.pixelcnn import GatedPixelCNN
from training.errors import ExportError
from training.graphs.spec import GraphSpec

TENSOR_TOLERANCE = 1e-4
"""Largest |onnx - torch| / (1 + |torch|): atol and rtol of 1e-4 together."""
BOUND_TOLERANCE = 1e-6
"""Largest difference of a bound, in nats per data dimension."""
NEAR_TIE = 1e-4
"""Two squared distances closer than this, relatively, are a near-tie; so is a draw this near the border of its code."""

_BATCH = 100
_SAMPLES = 4
_DRAWN_GRIDS = 32

Images = UInt8[np.ndarray, "N H W C"]


class Graphs:
    """The written graphs, opened on the CPU, with the torch modules behind them.

    Args:
        specs: the graphs.
        folder: where they were written.
    """

    def __init__(self, specs: tuple[GraphSpec, ...], folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.modules = {spec.role: spec.module for spec in specs}
        self.outputs = {spec.role: [tensor.name for tensor in spec.outputs] for spec in specs}
        self.sessions = {
            spec.role: onnxruntime.InferenceSession(
                folder / f"{spec.role}.onnx", options, providers=["CPUExecutionProvider"]
            )
            for spec in specs
        }

    def run(self, role: str, feeds: Arrays) -> Arrays:
        """Run a graph; outputs by name."""
        return dict(zip(self.outputs[role], self.sessions[role].run(self.outputs[role], feeds), strict=True))


@dataclass
class _Largest:
    """The largest differences seen so far; what is not a number stays."""

    tensor: float = 0.0
    bound: float = 0.0

    def tensors(self, found: Arrays, expected: tuple[torch.Tensor, ...]) -> None:
        """Take the outputs of one graph into account."""
        for value, reference in zip(found.values(), expected, strict=True):
            self.tensor = float(np.maximum(self.tensor, relative(value, reference.numpy())))

    def bounds(self, found: NDArray[np.generic], expected: torch.Tensor, dimensions: int) -> None:
        """Take bounds in nats into account."""
        self.bound = float(np.maximum(self.bound, np.abs(found - expected.numpy()).max() / dimensions))

    def check(self) -> None:
        """Refuse what is beyond tolerance.

        Raises:
            ExportError: a difference is too large, or not a number.
        """
        if not (self.tensor <= TENSOR_TOLERANCE and self.bound <= BOUND_TOLERANCE):
            raise ExportError(
                f"the exported graphs differ from the model: tensors by {self.tensor:.2e} (at most "
                f"{TENSOR_TOLERANCE:g}), bounds by {self.bound:.2e} nats a dimension (at most {BOUND_TOLERANCE:g}); "
                "nothing was published"
            )


def relative(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Give the largest |found - expected| / (1 + |expected|)."""
    reference = expected.astype(np.float64)
    return float((np.abs(found.astype(np.float64) - reference) / (1.0 + np.abs(reference))).max())


@torch.inference_mode()
def measure_parity(model: LatentVariableModel, graphs: Graphs, batches: list[Images]) -> schema.Parity:
    """Run the written graphs and the model side by side on held-out images.

    Args:
        model: in evaluation mode.
        graphs: as written.
        batches: held-out images; those of one array are of one size.

    Returns:
        What was measured.

    Raises:
        ExportError: a difference is beyond tolerance.
    """
    batches = [images[first : first + _BATCH] for images in batches for first in range(0, len(images), _BATCH)]
    largest = _Largest()
    codes = None
    bottleneck = model.bottleneck
    if isinstance(bottleneck, GaussianBottleneck):
        for index, images in enumerate(batches):
            _compare_continuous(bottleneck, graphs, images, index * _BATCH, largest)
    elif isinstance(bottleneck, VectorQuantizedBottleneck):
        counts = [_compare_discrete(model, bottleneck, graphs, images, largest) for images in batches]
        compared, near_ties, differing = np.sum(counts, axis=0)
        codes = schema.CodesParity(compared=int(compared), near_ties=int(near_ties), differing=int(differing))
    largest.check()
    return schema.Parity(
        examples=sum(map(len, batches)),
        tensor_error=largest.tensor,
        bound_error_nats_per_dim=largest.bound,
        codes=codes,
    )


def _compare_continuous(
    bottleneck: GaussianBottleneck, graphs: Graphs, x: Images, first_index: int, largest: _Largest
) -> None:
    """Compare the graphs of real-valued latents on a batch."""
    posterior = graphs.modules["encode"](torch.from_numpy(x))
    largest.tensors(graphs.run("encode", {"x": x}), posterior)
    z = posterior[0]
    largest.tensors(graphs.run("decode", {"z": z.numpy()}), graphs.modules["decode"](z))
    noise = batch_normal(0, first_index, len(x), (_SAMPLES, bottleneck.dimensions), stream=POSTERIOR_STREAM)
    moments = dict(zip(bottleneck.posterior.parameter_names, posterior, strict=True))
    expected = graphs.modules["log_weight"](torch.from_numpy(x), *posterior, torch.from_numpy(noise))
    feeds = {"x": x, "noise": noise} | {name: value.numpy() for name, value in moments.items()}
    found = graphs.run("log_weight", feeds)
    log_weight = np.add(found["log_p_x_given_z"], found["log_p_z"]) - np.asarray(found["log_q"], dtype=np.float64)
    largest.bounds(log_weight, expected[0] + expected[1] - expected[2], int(np.prod(x.shape[1:])))


def _compare_discrete(
    model: LatentVariableModel, bottleneck: VectorQuantizedBottleneck, graphs: Graphs, x: Images, largest: _Largest
) -> tuple[int, int, int]:
    """Compare the graphs of codes on a batch; count codes, near-ties among them, and codes that differ.

    Raises:
        ExportError: codes differ that are no near-ties.
    """
    images = torch.from_numpy(x)
    hidden = model.hidden(images)
    codes = bottleneck.encoding(hidden)["codes"]
    close = (bottleneck.quantizer.margins(hidden.permute(0, 2, 3, 1)) <= NEAR_TIE).numpy()
    differs = graphs.run("encode", {"x": x})["codes"] != codes.numpy()
    if (differs & ~close).any():
        raise ExportError(
            f"the exported graphs give other codes than the model at {int((differs & ~close).sum())} of "
            f"{codes.numel()} places where the two nearest codes are no near-tie; nothing was published"
        )
    for role in ("embed", "decode"):
        expected = graphs.modules[role](codes)
        largest.tensors(graphs.run(role, {"codes": codes.numpy()}), (expected,) if role == "embed" else expected)
    log_p = graphs.modules["log_likelihood"](images, codes).sum((1, 2))
    found = graphs.run("log_likelihood", {"x": x, "codes": codes.numpy()})["log_p_x_given_z"]
    largest.bounds(found.sum(axis=(1, 2)), log_p, int(np.prod(x.shape[1:])))
    return codes.numel(), int(close.sum()), int(differs.sum())


@torch.inference_mode()
def measure_prior_parity(
    prior: GatedPixelCNN,
    graphs: Graphs,
    specs: tuple[GraphSpec, ...],
    codes: Int32[np.ndarray, "N h w"],
) -> schema.PriorParity:
    """Compare the written prior with the model's on held-out codes, and its steps with its parallel pass on drawn ones.

    Args:
        prior: in evaluation mode.
        graphs: as written.
        specs: of the same.
        codes: held out.

    Returns:
        What was measured.

    Raises:
        ExportError: a difference is beyond tolerance.
    """
    classes = prior.num_classes
    logits_error = 0.0
    for first in range(0, len(codes), _BATCH):
        batch = codes[first : first + _BATCH]
        condition = np.arange(first, first + len(batch)) % (classes + 1) if classes else None
        expected = graphs.modules["prior"](
            torch.from_numpy(batch), None if condition is None else torch.from_numpy(condition)
        )
        found = graphs.run("prior", {"codes": batch} | _condition(condition))["logits"]
        logits_error = float(np.maximum(logits_error, relative(found, expected.numpy())))
    height, width = codes.shape[1:]
    uniform = batch_uniform(0, 0, _DRAWN_GRIDS, height * width, stream=CODES_STREAM)
    condition = np.arange(_DRAWN_GRIDS) % (classes + 1) if classes else None
    told: list[NDArray[np.generic]] = []

    def run(role: str, feeds: Arrays) -> Arrays:
        answer = graphs.run(role, feeds)
        if role == "prior_pixel":
            told.append(answer["logits"])
        return answer

    drawn = complete(sample_raster({spec.role: spec for spec in specs}, height, width, uniform, condition), run)
    stepwise = np.stack(told, axis=1).reshape(_DRAWN_GRIDS, height, width, -1)
    parallel = graphs.run("prior", {"codes": drawn} | _condition(condition))["logits"]
    incremental_error = relative(stepwise, parallel)
    again = draw_codes(parallel.reshape(-1, parallel.shape[-1]), uniform.ravel()).reshape(drawn.shape)
    close = _near_border(parallel.reshape(-1, parallel.shape[-1]), uniform.ravel()).reshape(drawn.shape)
    if not (logits_error <= TENSOR_TOLERANCE and incremental_error <= TENSOR_TOLERANCE):
        raise ExportError(
            f"the exported prior differs: from the model by {logits_error:.2e}, and its steps from its parallel pass "
            f"by {incremental_error:.2e} (at most {TENSOR_TOLERANCE:g}); nothing was published"
        )
    if ((again != drawn) & ~close).any():
        raise ExportError(
            f"the steps of the exported prior draw other codes than its parallel pass at {drawn.size} places, "
            f"{int(((again != drawn) & ~close).sum())} times where there is no near-tie; nothing was published"
        )
    return schema.PriorParity(
        examples=len(codes),
        logits_error=logits_error,
        incremental_error=incremental_error,
        drawn=drawn.size,
        differing=int((again != drawn).sum()),
    )


def _near_border(logits: Float32[np.ndarray, "N K"], uniform: Float64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Tell draws whose number lies next to the border between two codes."""
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    borders = weights.cumsum(axis=1) / weights.sum(axis=1, keepdims=True)
    near: NDArray[np.bool_] = np.abs(borders - uniform[:, None]).min(axis=1) <= NEAR_TIE
    return near


def _condition(condition: NDArray[np.int64] | None) -> Arrays:
    """Give the input that names classes, where there is one."""
    return {} if condition is None else {"condition": condition}
