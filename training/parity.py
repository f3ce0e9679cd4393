"""Parity: whether the graphs that were written compute what the model computes, measured on held-out data."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from artifact import manifest as schema
from artifact.codes import Arrays
from artifact.golden import TOLERANCES, Run, number_error
from artifact.memory import Memory
from artifact.noise import POSTERIOR_STREAM, PRIOR_STREAM, batch_normal
from models.autoregressive import AutoregressiveModel
from models.bottleneck import DiscreteBottleneck
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from models.sound_likelihoods import mu_law, pcm
from training.codes import first_codebooks
from training.errors import ExportError
from training.graphs.spec import GraphSpec

TENSOR_TOLERANCE = 1e-4
"""Largest |onnx - torch| / (1 + |torch|): atol and rtol of 1e-4 together."""
_SCALES = {"intensity": 127.5}
"""What counts as 1 of a unit: the network's own, since a ten-thousandth of a grey level is below float32's rounding."""
BOUND_TOLERANCE = 1e-6
"""Largest difference of a bound, in nats per data dimension; as a share of a bound of more than 1 nat a dimension."""
SOUND_BOUND_FACTOR = 10.0
"""By how much more it may be for sounds: of their finer values, of 16 bits, the rounding of a mean counts for more."""
REDUCED_BOUND_TOLERANCE = 1e-3
"""Likewise of a variant."""
NEAR_TIE = 1e-4
"""Two squared distances closer than this, relatively, are a near-tie; so is a draw this near the border of its code."""

_BATCH = 100
_SAMPLES = 4
_STEPPED = 2
"""Sounds along which the steps of a decoder are run."""
_DRAWN_BATCH = 10
"""In place of `_BATCH` where each sample has a probability of every class."""

Images = UInt8[np.ndarray, "N H W C"]
Sounds = Float32[np.ndarray, "N T"]


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
        threads: of a run; 0 for as many as there are cores.
    """

    def __init__(self, specs: Iterable[GraphSpec], folder: Path, threads: int = 0) -> None:
        specs = tuple(specs)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
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
        expected, outputs = self.expected(role, feeds), self.reference[role].outputs
        scales = {tensor.name: _SCALES.get(tensor.unit, 1.0) for tensor in outputs}
        errors = [
            self.limits.error(one[name].astype(np.float64) / scales[name], value.astype(np.float64) / scales[name])
            for one in self.found(role, feeds)
            for name, value in expected.items()
        ]
        return float(np.max(errors))

    def bound_error(self, role: str, feeds: Arrays, bound: Callable[[Arrays], NDArray[np.float64]]) -> float:
        """Likewise of a bound in nats, which is made of the outputs of a graph; in nats per data dimension.

        Where a bound is of more than 1 nat a dimension, as of fine values under narrow densities, its own rounding
        counts: the difference is a share of it.
        """
        expected = bound(self.expected(role, feeds))
        scale = np.maximum(np.abs(expected), np.prod(feeds["x"].shape[1:]))
        return float(np.max([np.abs(bound(one) - expected) / scale for one in self.found(role, feeds)]))

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
    size = _DRAWN_BATCH if isinstance(model, AutoregressiveModel) else _BATCH
    batches = [images[first : first + size] for images in batches for first in range(0, len(images), size)]
    codes = None
    bottleneck = model.bottleneck
    if isinstance(bottleneck, ContinuousBottleneck):
        errors = [_compare_continuous(bottleneck, comparison, x, i * _BATCH) for i, x in enumerate(batches)]
    elif isinstance(bottleneck, DiscreteBottleneck):
        codes = _compare_codes(model, bottleneck, comparison, batches)
        errors = [_compare_discrete(model, bottleneck, comparison, x) for x in batches]
        if isinstance(model, AutoregressiveModel):
            errors.append((_step_error(model, comparison, batches[0][:_STEPPED]), 0.0))
    else:
        raise ExportError(f"there is no parity to measure for a {type(bottleneck).__name__}")
    tensor, bound = (float(error) for error in np.max(errors, axis=0))
    limits = comparison.limits
    bound_limit = limits.bound * (SOUND_BOUND_FACTOR if batches[0].ndim == 2 else 1.0)
    if not (tensor <= limits.tensor and bound <= bound_limit):
        raise ExportError(
            f"the exported graphs differ from the model: tensors by {tensor:.2e} (at most {limits.tensor:g}), bounds "
            f"by {bound:.2e} nats a dimension (at most {bound_limit:g}); {limits.consequence}"
        )
    return schema.Parity(
        examples=sum(map(len, batches)), tensor_error=tensor, bound_error_nats_per_dim=bound, codes=codes
    )


def _compare_continuous(
    bottleneck: ContinuousBottleneck, comparison: Comparison, x: Images, first_index: int
) -> tuple[float, float]:
    """Compare the graphs of real-valued latents on a batch: the errors of tensors and of bounds."""
    posterior = comparison.expected("encode", {"x": x})
    point = posterior[bottleneck.quantities[0].name]
    tensors = [comparison.tensor_error("encode", {"x": x})]
    if "decode" in comparison.reference:
        tensors.append(comparison.tensor_error("decode", {"z": point}))
    if not bottleneck.bounds_log_p:
        return float(np.max(tensors)), 0.0
    noise = batch_normal(0, first_index, len(x), (_SAMPLES, bottleneck.noise_dimensions), stream=POSTERIOR_STREAM)
    given = {"noise": noise} | {name: posterior[name] for name in bottleneck.drawn_from}
    tensors.append(comparison.tensor_error("draw", given))
    if not bottleneck.prior_is_standard_normal:
        shape = (1, bottleneck.prior_noise_dimensions)
        drawn = batch_normal(0, first_index, len(x), shape, stream=PRIOR_STREAM)[:, 0]
        temperature = np.ones(len(x), dtype=np.float32)
        tensors.append(comparison.tensor_error("draw_prior", {"noise": drawn, "temperature": temperature}))
    bounds = [comparison.bound_error("log_weight", {"x": x} | given, _weight)]
    if "exact" in comparison.reference:
        bounds.append(comparison.bound_error("exact", {"x": x}, _log_p))
    return float(np.max(tensors)), float(np.max(bounds))


def _weight(terms: Arrays) -> NDArray[np.float64]:
    """Make importance weights of their terms."""
    log_p_x_given_z, log_p_z, log_q = (
        terms[name].astype(np.float64) for name in ("log_p_x_given_z", "log_p_z", "log_q")
    )
    total: NDArray[np.float64] = log_p_x_given_z + log_p_z - log_q
    return total


def _log_p(outputs: Arrays) -> NDArray[np.float64]:
    """Give log p(x) itself."""
    return outputs["log_p_x"].astype(np.float64)


def _compare_codes(
    model: LatentVariableModel, bottleneck: DiscreteBottleneck, comparison: Comparison, batches: list[Images]
) -> schema.CodesParity:
    """Count codes, near-ties among them, and codes that differ.

    Where a level of an example differs, the levels below it choose from something else, and so do not count.

    Raises:
        ExportError: codes differ that are no near-ties.
    """
    differs, close = [], []
    for x in batches:
        hidden = model.hidden(torch.from_numpy(x))
        codes, margins = bottleneck.encoding(hidden), bottleneck.margins(hidden)
        found = comparison.found("encode", {"x": x})
        same = np.ones(len(x), dtype=np.bool_)
        for name, expected in codes.items():
            other = np.any([one[name] != expected.numpy() for one in found], axis=0)
            differs.append(other[same].ravel())
            close.append(margins[name].numpy()[same].ravel() <= NEAR_TIE)
            same &= ~other.reshape(len(x), -1).any(axis=1)
    different, near = np.concatenate(differs), np.concatenate(close)
    comparison.check_codes("the exported graphs give other codes than the model", different, near)
    return schema.CodesParity(compared=near.size, near_ties=int(near.sum()), differing=int(different.sum()))


def _compare_discrete(
    model: LatentVariableModel, bottleneck: DiscreteBottleneck, comparison: Comparison, x: Images
) -> tuple[float, float]:
    """Compare the graphs of codes on a batch, with all codebooks and with the first alone: tensors and bounds."""
    codes = {name: value.numpy() for name, value in model.encode(torch.from_numpy(x)).items()}
    conditions = {name: np.arange(len(x)) % (count + 1) for name, count in model.conditions.items()}
    tensors, bounds = [], []
    for codebooks in {1, max(quantizer.num_codebooks for quantizer in bottleneck.quantizers)}:
        given = first_codebooks(bottleneck, codes, codebooks)
        tensors.append(comparison.tensor_error("embed", given))
        if isinstance(model, AutoregressiveModel):
            tensors.append(comparison.tensor_error("decode_given", given))
        else:
            tensors.append(comparison.tensor_error("decode", given | conditions))
        bounds.append(comparison.bound_error("log_likelihood", {"x": x} | given | conditions, _pixels))
    return float(np.max(tensors)), float(np.max(bounds))


def _step_error(model: AutoregressiveModel, comparison: Comparison, x: Sounds) -> float:
    """Give the error of the steps of a decoder, along the beginning of real sounds, against the parallel pass."""
    sound, encoding = torch.from_numpy(x), model.encode(torch.from_numpy(x))
    conditions = {name: np.arange(len(x)) % (count + 1) for name, count in model.conditions.items()}
    known = {name: torch.from_numpy(value) for name, value in conditions.items()}
    expected = model.decoder.logits(sound, model.bottleneck.point(encoding), known).numpy()
    codes = {name: value.numpy() for name, value in encoding.items()}
    classes = mu_law(pcm(sound)).numpy().astype(np.int32)
    errors = []
    for run in comparison.runs:
        memory = Memory(comparison.reference["decode_step"], {"B": len(x)}, np.array)
        given = run("decode_given", codes)["given"]
        for place in range(min(model.decoder.reach, x.shape[1])):
            position = np.full(len(x), place)
            feeds = {"code": classes[:, place - 1], "position": position, "given": given[:, place]}
            found = run("decode_step", feeds | memory.feeds | conditions)
            memory.take(found, position)
            errors.append(comparison.limits.error(found["logits"], expected[..., place]))
    return float(np.max(errors))


def _pixels(outputs: Arrays) -> NDArray[np.float64]:
    """Add up the pixels or samples of every example."""
    log_p = outputs["log_p_x_given_z"]
    total: NDArray[np.float64] = log_p.reshape(len(log_p), -1).sum(axis=1)
    return total
