"""What the command line says: lines on standard output, errors and a progress bar on standard error."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Reporter:
    """Says what happens, without tearing the progress bar."""

    def track(self, items: Iterable[T], count: int) -> Iterator[T]:
        """Go through files under a progress bar, where standard error is a terminal.

        Args:
            items: files, or what belongs to each.
            count: how many there are.

        Yields:
            Each of them.
        """
        yield from tqdm(items, total=count, unit="file", disable=None, leave=False)

    def say(self, line: str) -> None:
        """Write a line of the answer."""
        tqdm.write(line, file=sys.stdout)

    def error(self, line: str) -> None:
        """Write what went wrong."""
        tqdm.write(f"error: {line}", file=sys.stderr)
