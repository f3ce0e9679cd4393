"""What a process takes: memory, files and threads, as Linux tells it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self


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


def growth(values: Sequence[float], settle: int) -> float:
    """Tell how much something has grown once it has settled.

    Medians of stretches are compared, so that neither a spike nor a dip at the right moment decides.

    Args:
        values: samples at equal distances, at least three times as many as `settle`.
        settle: samples that do not count; as many of those after them are compared with as many of the last.

    Returns:
        The last over the first, less 1.
    """
    return median(values[-settle:]) / median(values[settle : 2 * settle]) - 1.0
