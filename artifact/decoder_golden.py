"""Golden integers of an exact decoder: the means of a small grid, which a runtime that decodes must reproduce."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from artifact.codes import Arrays
from artifact.errors import InexactError
from artifact.exact_decoder import EXACT_DECODE, ExactDecoder
from artifact.golden import Run
from artifact.golden_files import CAUSE, arrays_in, digest, naming, write_arrays
from artifact.store import Artifact


@dataclass(frozen=True)
class DecoderGolden:
    """Golden integers of an exact decoder.

    Attributes:
        codes: of small grids, by the names of inputs.
        digest: sha256 of the means as little-endian int32.
    """

    codes: Arrays
    digest: UInt8[np.ndarray, " 32"]

    def check(self, run: Run) -> int:
        """Hold a runtime against them.

        Args:
            run: what is to be checked.

        Returns:
            How many integers were compared.

        Raises:
            InexactError: it gives others.
        """
        mean = run(EXACT_DECODE, self.codes)["mean"]
        if not np.array_equal(digest(mean), self.digest):
            raise InexactError(f"the means of the exact decoder are not those of the export: {CAUSE}")
        return mean.size


def record(codes: Arrays, run: Run, path: Path) -> None:
    """Take what a runtime gives for golden, and write it.

    Args:
        codes: of small grids, by the names of inputs.
        run: of the graph.
        path: the npz file.
    """
    write_arrays(path, {"digest": digest(run(EXACT_DECODE, codes)["mean"]), **codes})


def read(artifact: Artifact, part: ExactDecoder) -> DecoderGolden:
    """Read the golden integers of an artifact.

    Args:
        artifact: verified.
        part: its exact decoder.

    Returns:
        The golden integers.

    Raises:
        InexactError: the file cannot be read, or lacks something.
    """
    path = artifact.path / part.golden
    with naming(path):
        arrays = arrays_in(path.read_bytes())
        return DecoderGolden({name: arrays[name] for name in arrays if name != "digest"}, arrays["digest"])
