"""What a process takes: memory, files and threads, as Linux tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from bench.verdict import Claim


@dataclass(frozen=True)
class Resources:
    """What a process takes at one moment.

    Attributes:
        memory_bytes: resident.
        files: open ones, connections among them.
        threads: of all kinds.
    """

    memory_bytes: int
    files: int
    threads: int

    @classmethod
    def of(cls, process: int) -> Self:
        """Look at a process.

        Args:
            process: its number.

        Returns:
            What it takes now.

        Raises:
            OSError: there is no such process.
        """
        folder = Path(f"/proc/{process}")
        lines = (folder / "status").read_text("utf-8", "replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        memory_kb = int(fields["VmRSS"].split()[0])
        return cls(1024 * memory_kb, sum(1 for _ in (folder / "fd").iterdir()), int(fields["Threads"]))

    def __str__(self) -> str:
        return f"{megabytes(self.memory_bytes)} resident, {self.files} files, {self.threads} threads"


def megabytes(size: float) -> str:
    """Write a number of bytes."""
    return f"{size / 2**20:.1f} MB"


def first_and_last(values: Sequence[float], settle: int) -> tuple[float, float]:
    """Tell how something was once it had settled, and how it was at the end.

    Medians of stretches are taken, so that neither a spike nor a dip at the right moment decides.

    Args:
        values: samples at equal distances, at least three times as many as `settle`.
        settle: samples that do not count; a stretch is as long.

    Returns:
        The medians of the stretch after those and of the last stretch.
    """
    return median(values[settle : 2 * settle]), median(values[-settle:])


def memory_claim(samples: Sequence[Resources], settle: int, bound: float) -> Claim:
    """Judge whether a process has taken more and more memory.

    Args:
        samples: of it; see `first_and_last`.
        settle: likewise.
        bound: by what part it may grow.

    Returns:
        The claim.
    """
    sizes = [sample.memory_bytes for sample in samples]
    first, last = first_and_last(sizes, settle)
    grown = last / first - 1.0
    found = f"{100 * grown:+.1f}% ({', '.join(map(megabytes, (min(sizes), max(sizes), sizes[-1])))})"
    return Claim(f"memory grows by less than {100 * bound:g}% (least, most, last)", found, grown < bound)
