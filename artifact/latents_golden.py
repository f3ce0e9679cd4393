"""Golden integers of an exact VAE, which a runtime that codes must reproduce, and the one table outside its graphs."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from artifact.codes import Arrays
from artifact.errors import InexactError
from artifact.exact_latents import DECODE, ENCODE, INFER, ExactLatents
from artifact.golden import Run
from artifact.golden_files import CAUSE, arrays_in, digest, naming, write_arrays
from artifact.store import Artifact


@dataclass(frozen=True)
class LatentsGolden:
    """Golden integers of an exact VAE.

    Attributes:
        part: which.
        x: pictures, 0 and 255.
        z: latents, integers j, not those of the pictures.
        digests: sha256 of each output as little-endian int32, by name.
    """

    part: ExactLatents
    x: UInt8[np.ndarray, "n H W C"]
    z: Int32[np.ndarray, "n D"]
    digests: dict[str, UInt8[np.ndarray, " 32"]]

    def check(self, run: Run) -> int:
        """Hold a runtime against them.

        Args:
            run: what is to be checked.

        Returns:
            How many integers were compared.

        Raises:
            InexactError: it gives others.
        """
        found = outputs_of(self.part.seen, self.x, self.z, run)
        for name, values in found.items():
            if not np.array_equal(digest(values), self.digests[name]):
                raise InexactError(f"{name} of the exact latents are not those of the export: {CAUSE}")
        return sum(values.size for values in found.values())


def outputs_of(seen: Sequence[str], x: UInt8[np.ndarray, "n H W C"], z: Int32[np.ndarray, "n D"], run: Run) -> Arrays:
    """Run the three graphs once.

    Args:
        seen: names of what `infer_exact` takes.
        x: pictures.
        z: latents.
        run: of the graphs.

    Returns:
        All outputs by name.
    """
    features = run(ENCODE, {"x": x})
    known = {"z": z} | features
    return features | run(INFER, {name: known[name] for name in seen}) | run(DECODE, {"z": z})


def record(
    seen: Sequence[str],
    x: UInt8[np.ndarray, "n H W C"],
    z: Int32[np.ndarray, "n D"],
    contexts: Int32[np.ndarray, " contexts"],
    run: Run,
    path: Path,
) -> None:
    """Take what a runtime gives for golden, and write it.

    Args:
        seen: names of what `infer_exact` takes.
        x: pictures.
        z: latents.
        contexts: logits of white of pictures that are coded directly, which are kept in the same file.
        run: of the graphs.
        path: the npz file.
    """
    digests = {f"digest_{name}": digest(values) for name, values in outputs_of(seen, x, z, run).items()}
    arrays: Arrays = {"x": x, "z": z, "contexts": contexts.astype(np.int16), **digests}
    write_arrays(path, arrays)


def read(artifact: Artifact, part: ExactLatents) -> LatentsGolden:
    """Read the golden integers of an artifact.

    Args:
        artifact: verified.
        part: its exact latents.

    Returns:
        The golden integers.

    Raises:
        InexactError: the file cannot be read, or lacks something.
    """
    path = artifact.path / part.golden
    with naming(path):
        arrays = arrays_in(path.read_bytes())
        digests = {name: arrays[f"digest_{name}"] for name in _names(part)}
        return LatentsGolden(part, arrays["x"], arrays["z"], digests)


def _names(part: ExactLatents) -> Iterator[str]:
    """Name all outputs."""
    return (tensor.name for graph in part.graphs.values() for tensor in graph.outputs)


def read_contexts(path: Path, sha256: str) -> Int32[np.ndarray, " contexts"]:
    """Read the table for pictures that are coded directly, see `codec.contexts`.

    Args:
        path: the file of golden integers.
        sha256: of it, as the manifest of the model that is served has it.

    Returns:
        Logits of white.

    Raises:
        InexactError: the file cannot be read, or is another one by now.
    """
    with naming(path):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("it was exchanged since the model was loaded")
        return arrays_in(content)["contexts"].astype(np.int32)
