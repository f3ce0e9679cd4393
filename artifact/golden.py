"""Golden outputs: what every graph gave for a small input when it was exported, to check a device and a runtime by."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from artifact.codes import Arrays, Signature
from artifact.errors import GoldenError
from artifact.examples import example_inputs
from artifact.manifest import GOLDEN_FILE, Precision
from artifact.store import Artifact

Run = Callable[[str, Arrays], Arrays]
"""Runs a graph, given its role and its inputs by name, and gives its outputs by name."""


_ENCODE = "encode"


@dataclass(frozen=True)
class Tolerance:
    """How far outputs may be from the golden ones.

    Attributes:
        numbers: largest `number_error` of a tensor of real numbers.
        codes: share of the values of a tensor of integers that may differ.
    """

    numbers: float
    codes: float


TOLERANCES: Mapping[Precision | None, Tolerance] = {
    None: Tolerance(numbers=1e-4, codes=0.0),
    "fp16": Tolerance(numbers=1e-2, codes=1e-2),
}
"""By the precision of the graphs; None is the full one."""


class Example(NamedTuple):
    """One row of a graph's inputs, and its outputs."""

    inputs: Arrays
    outputs: Arrays


@dataclass(frozen=True)
class GoldenReport:
    """What a check found.

    Attributes:
        errors: of each role the largest error of its outputs (see `number_error`; of integers the share that differs).
        skipped: why nothing was checked; None where something was.
    """

    errors: Mapping[str, float]
    skipped: str | None = None

    def __str__(self) -> str:
        """Say it in a sentence, for a log."""
        if self.skipped is not None:
            return f"golden outputs not checked: {self.skipped}"
        role = max(self.errors, key=self.errors.__getitem__)
        return f"golden outputs of {len(self.errors)} graphs agree, the farthest is {role} at {self.errors[role]:.1e}"


@dataclass(frozen=True)
class Golden:
    """The golden outputs of an artifact.

    Attributes:
        name: of the artifact, for messages.
        examples: by role; empty where the artifact has none.
    """

    name: str
    examples: Mapping[str, Example]

    def check(
        self, run: Run, *, precision: Precision | None = None, read: Mapping[str, tuple[str, ...]] | None = None
    ) -> GoldenReport:
        """Run every graph on its golden input and compare.

        Args:
            run: what is to be checked.
            precision: of the graphs that it runs, which sets the tolerance.
            read: the outputs that it gives of a role, where it does not give all.

        Returns:
            How far each graph was.

        Raises:
            GoldenError: an output is missing, of another shape or too far.
        """
        if not self.examples:
            return GoldenReport({}, f"{self.name} was exported without {GOLDEN_FILE}; export it again to have it")
        tolerance = TOLERANCES[precision]
        errors: dict[str, float] = {}
        for role, example in self.examples.items():
            found = run(role, example.inputs)
            names = (read or {}).get(role, tuple(example.outputs))
            errors[role] = max(self._compare(role, name, found, example.outputs[name], tolerance) for name in names)
        return GoldenReport(errors)

    def _compare(
        self, role: str, name: str, found: Arrays, expected: NDArray[np.generic], tolerance: Tolerance
    ) -> float:
        """Give the error of one output.

        Raises:
            GoldenError: it is missing, of another shape or too far.
        """
        place = f"{self.name}: graph {role!r}, output {name!r}"
        if name not in found:
            given = ", ".join(found) or "nothing"
            raise GoldenError(f"{place}: it is missing, the run gave {given}; export the model again")
        value = found[name]
        if value.shape != expected.shape:
            raise GoldenError(
                f"{place}: its shape is {list(value.shape)}, expected {list(expected.shape)}; export the model again"
            )
        if np.issubdtype(expected.dtype, np.integer):
            error, limit, kind = float((value != expected).mean()), tolerance.codes, "as a share of values that differ"
        else:
            error, limit, kind = number_error(value, expected), tolerance.numbers, "relative to its largest value"
        if not error <= limit:
            raise GoldenError(
                f"{place}: off by {error:.1e} {kind}, expected at most {limit:g}: this device, its driver or this "
                "version of ONNX Runtime computes something else than the model did when it was exported, or the "
                "files were exchanged; try the CPU, mend the driver or the versions, or export the model again"
            )
        return error


def number_error(found: NDArray[np.generic], expected: NDArray[np.generic]) -> float:
    """Give the largest |found - expected| / max(1, largest |expected|); NaN where a value is not a number.

    The whole tensor is the measure, since a number near 0 has the rounding of the larger ones that it is the
    difference of, and devices round differently.

    Args:
        found: real numbers.
        expected: of the same shape.

    Returns:
        At least 0.
    """
    reference = expected.astype(np.float64)
    difference = np.abs(found.astype(np.float64) - reference).max()
    return float(difference / np.maximum(1.0, np.abs(reference).max()))


def record(
    name: str,
    graphs: Mapping[str, Signature],
    multiple_of: int,
    run: Run,
    *,
    seeds: Mapping[str, int] | None = None,
    downsamplings: Sequence[int] = (),
) -> Golden:
    """Run every graph on an example.

    Real numbers that `encode` gives and another graph takes are those that it gave: a posterior's parameters cannot be
    any numbers.

    Args:
        name: of the artifact.
        graphs: their signatures by role.
        multiple_of: of the model's geometry.
        run: gives the outputs that are to be golden.
        seeds: of the example of a role, where it is not 0.
        downsamplings: of each level; see `example_inputs`.

    Returns:
        The golden outputs.

    Raises:
        GoldenError: an output is not finite, which no check could pass.
    """
    examples: dict[str, Example] = {}
    encoded: Arrays = {}
    for role in sorted(graphs, key=lambda role: role != _ENCODE):
        inputs = example_inputs(graphs[role], multiple_of, (seeds or {}).get(role, 0), downsamplings)
        inputs |= {tensor: array for tensor, array in encoded.items() if tensor in inputs}
        outputs = run(role, inputs)
        for tensor, array in outputs.items():
            if not np.isfinite(array).all():
                raise GoldenError(f"{name}: graph {role!r} gives a {tensor!r} that is not finite; mend it")
        if role == _ENCODE:
            encoded = {tensor: array for tensor, array in outputs.items() if array.dtype.kind == "f"}
        examples[role] = Example(inputs, outputs)
    return Golden(name, {role: examples[role] for role in graphs})


def write(golden: Golden, path: Path) -> None:
    """Write golden outputs as npz: `role/inputs/tensor` and `role/outputs/tensor`.

    Args:
        golden: what to write.
        path: the file.
    """
    arrays = {
        f"{role}/{kind}/{name}": array
        for role, example in golden.examples.items()
        for kind, tensors in example._asdict().items()
        for name, array in tensors.items()
    }
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read(artifact: Artifact) -> Golden:
    """Read the golden outputs of an artifact.

    Args:
        artifact: verified.

    Returns:
        The golden outputs; empty for an artifact that was exported before there were any.

    Raises:
        GoldenError: the file cannot be read, or lacks a tensor of a graph.
    """
    if GOLDEN_FILE not in artifact.manifest.files:
        return Golden(artifact.reference, {})
    path = artifact.path / GOLDEN_FILE
    try:
        arrays = _arrays(path)
        examples = {
            role: Example(
                {tensor.name: arrays[f"{role}/inputs/{tensor.name}"] for tensor in graph.inputs},
                {tensor.name: arrays[f"{role}/outputs/{tensor.name}"] for tensor in graph.outputs},
            )
            for role, graph in artifact.manifest.graphs.items()
        }
    except KeyError as error:
        raise GoldenError(f"{path}: {error.args[0]!r} is missing; export the model again") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise GoldenError(f"{path}: not an npz file of arrays: {error}; export the model again") from error
    return Golden(artifact.reference, examples)


def _arrays(path: Path) -> Arrays:
    """Read the arrays of an npz file by name.

    Raises:
        ValueError: it is one array, or holds objects.
    """
    with path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise ValueError("it holds one array without a name")
        return dict(found)
