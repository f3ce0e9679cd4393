"""Golden integers: the logits that an exact prior has for small grids, which a runtime that codes must reproduce."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from artifact.codes import Arrays
from artifact.coding import Grid, Logits, weigh_by_steps, weigh_codes
from artifact.errors import InexactError
from artifact.exact import ExactPrior
from artifact.golden import Run
from artifact.golden_files import CAUSE, arrays_in, digest, naming, write_arrays
from artifact.sampling import complete
from artifact.store import Artifact

_SHOWN = 4
"""Places of each grid, the last ones, whose logits are kept as they are; of all others there is a digest."""


@dataclass(frozen=True)
class GoldenLink:
    """What a link gave.

    Attributes:
        codes: of small grids side by side.
        logits: of their last places, in raster order.
        digest: sha256 of the logits of all places as little-endian int32, in the order of their axes.
    """

    codes: Grid
    logits: Int32[np.ndarray, "n places K"]
    digest: UInt8[np.ndarray, " 32"]


@dataclass(frozen=True)
class ExactGolden:
    """The golden integers of an exact prior.

    Attributes:
        prior: which.
        links: of each.
        conditions: classes of the grids, by the names of inputs.
    """

    prior: ExactPrior
    links: Sequence[GoldenLink]
    conditions: Mapping[str, Int64[np.ndarray, " n"]]

    def check(self, run: Run) -> int:
        """Hold a runtime against them: all places at once, and step by step.

        Args:
            run: what is to be checked.

        Returns:
            How many integers were compared.

        Raises:
            InexactError: it gives others.
        """
        compared = 0
        codes = [link.codes for link in self.links]
        for weigh in (weigh_codes, weigh_by_steps):
            found = complete(weigh(self.prior, codes, self.conditions), integers_of(run))
            for index, (link, logits) in enumerate(zip(self.links, found, strict=True)):
                _compare(index, link, logits)
                compared += logits.size
        return compared


def record(
    prior: ExactPrior, grids: Sequence[Grid], conditions: Mapping[str, Int64[np.ndarray, " n"]], run: Run
) -> ExactGolden:
    """Take what a runtime gives for golden.

    Args:
        prior: in exact integers.
        grids: small ones, of each link.
        conditions: classes by the names of inputs.
        run: of its graphs.

    Returns:
        The golden integers.
    """
    found = complete(weigh_codes(prior, grids, conditions), integers_of(run))
    links = [GoldenLink(codes, _shown(logits), digest(logits)) for codes, logits in zip(grids, found, strict=True)]
    return ExactGolden(prior, links, conditions)


def write(golden: ExactGolden, path: Path) -> None:
    """Write golden integers as npz: `codes_i`, `logits_i` and `digest_i` of link i, and the classes by name."""
    arrays: Arrays = dict(golden.conditions)
    for index, link in enumerate(golden.links):
        arrays |= {f"codes_{index}": link.codes, f"logits_{index}": link.logits, f"digest_{index}": link.digest}
    write_arrays(path, arrays)


def read(artifact: Artifact, prior: ExactPrior) -> ExactGolden:
    """Read the golden integers of an artifact.

    Args:
        artifact: verified.
        prior: its exact prior.

    Returns:
        The golden integers.

    Raises:
        InexactError: the file cannot be read, or lacks something.
    """
    path = artifact.path / prior.golden
    with naming(path):
        arrays = arrays_in(path.read_bytes())
        links = [
            GoldenLink(arrays.pop(f"codes_{i}"), arrays.pop(f"logits_{i}"), arrays.pop(f"digest_{i}"))
            for i in range(len(prior.links))
        ]
    return ExactGolden(prior, links, arrays)


def integers_of(run: Run) -> Run:
    """Run graphs, and refuse logits that are no integers.

    Raises:
        InexactError: some are.
    """

    def checked(role: str, feeds: Arrays) -> Arrays:
        outputs = run(role, feeds)
        logits = outputs.get("logits")
        if logits is not None and not (logits == np.floor(logits)).all():
            raise InexactError(f"graph {role!r} gives logits that are no integers, so that nothing can be coded")
        return outputs

    return checked


def _shown(logits: Logits) -> Int32[np.ndarray, "n places K"]:
    return logits.reshape(len(logits), -1, logits.shape[-1])[:, -_SHOWN:]


def _compare(index: int, link: GoldenLink, logits: Logits) -> None:
    """Refuse other integers than the golden ones."""
    if np.array_equal(digest(logits), link.digest):
        return
    differing = int((_shown(logits) != link.logits).sum())
    raise InexactError(
        f"the logits of link {index} are not those of the export; of the {link.logits.size} that were kept {differing} "
        f"differ: {CAUSE}"
    )
