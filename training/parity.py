"""Parity: whether the graphs that were written compute what the model computes, measured on held-out data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Bool, Float32, Float64, Int32, UInt8
from numpy.typing import NDArray

from artifact import manifest as schema
from artifact.codes import Arrays, complete, draw_codes, sample_raster
from artifact.golden import TOLERANCES, Run, number_error
from artifact.noise import CODES_STREAM, POSTERIOR_STREAM, batch_normal, batch_uniform
from models.bottleneck import GaussianBottleneck, VectorQuantizedBottleneck
from models.model import LatentVariableModel
from training.errors import ExportError
from training.graphs.spec import GraphSpec

TENSOR_TOLERANCE = 1e-4
"""Largest |onnx - torch| / (1 + |torch|): atol and rtol of 1e-4 together."""
BOUND_TOLERANCE = 1e-6
"""Largest difference of a bound, in nats per data dimension."""
REDUCED_BOUND_TOLERANCE = 1e-3
"""Likewise of a variant."""
NEAR_TIE = 1e-4
"""Two squared distances closer than this, relatively, are a near-tie; so is a draw this near the border of its code."""

_BATCH = 100
_SAMPLES = 4
_DRAWN_GRIDS = 32

Images = UInt8[np.ndarray, "N H W C"]


def relative(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Give the largest |found - expected| / (1 + |expected|)."""
    reference = expected.astype(np.float64)
    return float((np.abs(found.astype(np.float64) - reference) / (1.0 + np.abs(reference))).max())


@dataclass(frozen=True)
class Limits:
    """How far graphs may be from their model before they are refused.

    Attributes:
        error: how a tensor of real numbers is compared, found with expected.
        tensor: the largest such error.
        bound: the largest difference of a bound, in nats per data dimension.
        codes: the share of codes that may differ though they are no near-ties.
        consequence: what a refusal means, for the message.
    """

    error: Callable[[NDArray[np.generic], NDArray[np.generic]], float]
    tensor: float
    bound: float
    codes: float
    consequence: str


LIMITS: dict[schema.Precision | None, Limits] = {
    None: Limits(relative, TENSOR_TOLERANCE, BOUND_TOLERANCE, 0.0, "nothing was published"),
    "fp16": Limits(
        number_error,
        TOLERANCES["fp16"].numbers,
        REDUCED_BOUND_TOLERANCE,
        TOLERANCES["fp16"].codes,
        "the variant fp16 is refused and nothing was published; export without it",
    ),
}
"""By the precision of the graphs; None is the full one."""


class Graphs:
    """The written graphs, opened on the CPU.

    Args:
        specs: the graphs.
        folder: where they were written.
    """

    def __init__(self, specs: Iterable[GraphSpec], folder: Path) -> None:
        specs = tuple(specs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.outputs = {spec.role: [tensor.name for tensor in spec.outputs] for spec in specs}
        self.sessions = {
            spec.role: onnxruntime.InferenceSession(folder / spec.file, options, providers=["CPUExecutionProvider"])
            for spec in specs
        }

    def run(self, role: str, feeds: Arrays) -> Arrays:
        """Run a graph; outputs by name."""
        return dict(zip(self.outputs[role], self.sessions[role].run(self.outputs[role], feeds), strict=True))


class Comparison:
    """Written graphs beside the modules of the full model.

    Args:
        reference: the full graphs.
        runs: of what is compared with them; the worst counts.
        precision: of that, where it is not the full one.
    """

    def __init__(
        self, reference: Sequence[GraphSpec], runs: Sequence[Run], precision: schema.Precision | None = None
    ) -> None:
        self.reference = {spec.role: spec for spec in reference}
        self.runs = runs
        self.limits = LIMITS[precision]

    def expected(self, role: str, feeds: Arrays) -> Arrays:
        """Give the outputs of the full model's module."""
        return self.reference[role].run(feeds)

    def found(self, role: str, feeds: Arrays) -> list[Arrays]:
        """Give the outputs of every run."""
        return [run(role, feeds) for run in self.runs]

    def tensor_error(self, role: str, feeds: Arrays) -> float:
        """Give the largest error of the outputs of a graph, of the worst run; NaN where something is not a number."""
        expected = self.expected(role, feeds)
        found = self.found(role, feeds)
        return float(np.max([self.limits.error(one[name], value) for one in found for name, value in expected.items()]))

    def bound_error(self, role: str, feeds: Arrays, bound: Callable[[Arrays], NDArray[np.float64]]) -> float:
        """Likewise of a bound in nats, which is made of the outputs of a graph; in nats per data dimension."""
        expected = bound(self.expected(role, feeds))
        dimensions = int(np.prod(feeds["x"].shape[1:]))
        return float(np.max([np.abs(bound(one) - expected) for one in self.found(role, feeds)]) / dimensions)

    def check_codes(self, told: str, differs: NDArray[np.bool_], close: NDArray[np.bool_]) -> None:
        """Refuse codes that differ where they should not.

        Raises:
            ExportError: too many differ that are no near-ties.
        """
        stray, limit = int((differs & ~close).sum()), int(self.limits.codes * differs.size)
        if stray > limit:
            raise ExportError(
                f"{told} at {stray} of {differs.size} places where there is no near-tie (at most {limit}); "
                f"{self.limits.consequence}"
            )


@torch.inference_mode()
def measure_parity(model: LatentVariableModel, comparison: Comparison, batches: list[Images]) -> schema.Parity:
    """Run the written graphs and the model side by side on held-out images.

    Args:
        model: in evaluation mode.
        comparison: of its graphs.
        batches: held-out images; those of one array are of one size.

    Returns:
        What was measured.

    Raises:
        ExportError: a difference is beyond tolerance.
    """
    batches = [images[first : first + _BATCH] for images in batches for first in range(0, len(images), _BATCH)]
    codes = None
    bottleneck = model.bottleneck
    if isinstance(bottleneck, GaussianBottleneck):
        errors = [_compare_continuous(bottleneck, comparison, x, i * _BATCH) for i, x in enumerate(batches)]
    elif isinstance(bottleneck, VectorQuantizedBottleneck):
        codes = _compare_codes(model, bottleneck, comparison, batches)
        errors = [_compare_discrete(model, comparison, x) for x in batches]
    else:
        raise ExportError(f"there is no parity to measure for a {type(bottleneck).__name__}")
    tensor, bound = (float(error) for error in np.max(errors, axis=0))
    limits = comparison.limits
    if not (tensor <= limits.tensor and bound <= limits.bound):
        raise ExportError(
            f"the exported graphs differ from the model: tensors by {tensor:.2e} (at most {limits.tensor:g}), bounds "
            f"by {bound:.2e} nats a dimension (at most {limits.bound:g}); {limits.consequence}"
        )
    return schema.Parity(
        examples=sum(map(len, batches)), tensor_error=tensor, bound_error_nats_per_dim=bound, codes=codes
    )


def _compare_continuous(
    bottleneck: GaussianBottleneck, comparison: Comparison, x: Images, first_index: int
) -> tuple[float, float]:
    """Compare the graphs of real-valued latents on a batch: the errors of tensors and of bounds."""
    posterior = comparison.expected("encode", {"x": x})
    noise = batch_normal(0, first_index, len(x), (_SAMPLES, bottleneck.dimensions), stream=POSTERIOR_STREAM)
    tensors = (comparison.tensor_error("encode", {"x": x}), comparison.tensor_error("decode", {"z": posterior["mean"]}))
    return float(np.max(tensors)), comparison.bound_error("log_weight", {"x": x, "noise": noise} | posterior, _weight)


def _weight(terms: Arrays) -> NDArray[np.float64]:
    """Make importance weights of their terms."""
    log_p_x_given_z, log_p_z, log_q = (
        terms[name].astype(np.float64) for name in ("log_p_x_given_z", "log_p_z", "log_q")
    )
    total: NDArray[np.float64] = log_p_x_given_z + log_p_z - log_q
    return total


def _compare_codes(
    model: LatentVariableModel, bottleneck: VectorQuantizedBottleneck, comparison: Comparison, batches: list[Images]
) -> schema.CodesParity:
    """Count codes, near-ties among them, and codes that differ.

    Raises:
        ExportError: codes differ that are no near-ties.
    """
    differs, close = [], []
    for x in batches:
        hidden = model.hidden(torch.from_numpy(x))
        codes = bottleneck.encoding(hidden)["codes"].numpy()
        margins = bottleneck.quantizer.margins(hidden.permute(0, 2, 3, 1)).numpy()
        differs.append(np.any([one["codes"] != codes for one in comparison.found("encode", {"x": x})], axis=0).ravel())
        close.append(margins.ravel() <= NEAR_TIE)
    different, near = np.concatenate(differs), np.concatenate(close)
    comparison.check_codes("the exported graphs give other codes than the model", different, near)
    return schema.CodesParity(compared=near.size, near_ties=int(near.sum()), differing=int(different.sum()))


def _compare_discrete(model: LatentVariableModel, comparison: Comparison, x: Images) -> tuple[float, float]:
    """Compare the graphs of codes on a batch: the errors of tensors and of bounds."""
    codes = model.encode(torch.from_numpy(x))["codes"].numpy()
    tensors = [comparison.tensor_error(role, {"codes": codes}) for role in ("embed", "decode")]
    return float(np.max(tensors)), comparison.bound_error("log_likelihood", {"x": x, "codes": codes}, _pixels)


def _pixels(outputs: Arrays) -> NDArray[np.float64]:
    """Add up the pixels of every image."""
    total: NDArray[np.float64] = outputs["log_p_x_given_z"].sum(axis=(1, 2))
    return total


@torch.inference_mode()
def measure_prior_parity(comparison: Comparison, classes: int, codes: Int32[np.ndarray, "N h w"]) -> schema.PriorParity:
    """Compare the written prior with the model's on held-out codes, and its steps with its parallel pass on drawn ones.

    Args:
        comparison: of its graphs.
        classes: that the prior can be conditioned on; 0 for none.
        codes: held out.

    Returns:
        What was measured.

    Raises:
        ExportError: a difference is beyond tolerance.
    """
    limits = comparison.limits
    batches = ((first, codes[first : first + _BATCH]) for first in range(0, len(codes), _BATCH))
    errors = [
        comparison.tensor_error("prior", {"codes": batch} | _conditions(first, len(batch), classes))
        for first, batch in batches
    ]
    drawn = [_draw(comparison, run, codes.shape[1:], classes) for run in comparison.runs]
    logits_error, incremental_error = float(np.max(errors)), float(np.max([one.error for one in drawn]))
    if not (logits_error <= limits.tensor and incremental_error <= limits.tensor):
        raise ExportError(
            f"the exported prior differs: from the model by {logits_error:.2e}, and its steps from its parallel pass "
            f"by {incremental_error:.2e} (at most {limits.tensor:g}); {limits.consequence}"
        )
    differs, close = (np.concatenate(parts) for parts in zip(*((one.differs, one.close) for one in drawn), strict=True))
    comparison.check_codes("the steps of the exported prior draw other codes than its parallel pass", differs, close)
    return schema.PriorParity(
        examples=len(codes),
        logits_error=logits_error,
        incremental_error=incremental_error,
        drawn=differs.size,
        differing=int(differs.sum()),
    )


@dataclass(frozen=True)
class _Draw:
    """Codes drawn step by step, beside those that the parallel pass would draw from the same noise.

    Attributes:
        error: of the steps' logits.
        differs: which codes differ.
        close: which noise lies next to the border between two codes.
    """

    error: float
    differs: Bool[np.ndarray, " places"]
    close: Bool[np.ndarray, " places"]


def _draw(comparison: Comparison, run: Run, grid: tuple[int, ...], classes: int) -> _Draw:
    """Draw grids by the steps of a prior, and see what its parallel pass makes of them."""
    height, width = grid
    uniform = batch_uniform(0, 0, _DRAWN_GRIDS, height * width, stream=CODES_STREAM)
    given = _conditions(0, _DRAWN_GRIDS, classes)
    told: list[NDArray[np.generic]] = []

    def step(role: str, feeds: Arrays) -> Arrays:
        answer = run(role, feeds)
        if role == "prior_pixel":
            told.append(answer["logits"])
        return answer

    condition = given["condition"].astype(np.int64) if given else None
    codes = complete(sample_raster(comparison.reference, height, width, uniform, condition), step)
    parallel = run("prior", {"codes": codes} | given)["logits"].reshape(codes.size, -1).astype(np.float32)
    stepwise = np.stack(told, axis=1).reshape(codes.size, -1)
    again = draw_codes(parallel, uniform.ravel())
    return _Draw(
        comparison.limits.error(stepwise, parallel), again != codes.ravel(), _near_border(parallel, uniform.ravel())
    )


def _near_border(logits: Float32[np.ndarray, "N K"], uniform: Float64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Tell draws whose number lies next to the border between two codes."""
    weights = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    borders = weights.cumsum(axis=1) / weights.sum(axis=1, keepdims=True)
    near: NDArray[np.bool_] = np.abs(borders - uniform[:, None]).min(axis=1) <= NEAR_TIE
    return near


def _conditions(first: int, batch: int, classes: int) -> Arrays:
    """Give the input that names classes, none among them, where there is one."""
    return {"condition": np.arange(first, first + batch) % (classes + 1)} if classes else {}
