"""At which batch sizes a graph is run, by what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

_TURN_S = 1e-4
"""What a run costs beside the graph: to take rows from the queue, lay them together and hand out the answers."""

_WORTH = 0.97
"""A larger batch must take this part of the time a row at most, else it only makes its first rows wait."""


@dataclass(frozen=True)
class Plan:
    """The batch sizes of a graph, its buckets, with the time that a run of each takes.

    Attributes:
        seconds: of a run, by bucket, rising; at least one.
    """

    seconds: Mapping[int, float]

    @classmethod
    def of(cls, measured: Mapping[int, float]) -> "Plan":
        """Keep the sizes up to the one that is the fastest a row.

        Args:
            measured: seconds in the graph by batch size, at least one.

        Returns:
            The plan; a size that is not clearly faster a row than a smaller one does not lengthen it.
        """
        seconds = {size: measured[size] + _TURN_S for size in sorted(measured)}
        largest = next(iter(seconds))
        for size in seconds:
            if seconds[size] / size < _WORTH * seconds[largest] / largest:
                largest = size
        return cls({size: time_s for size, time_s in seconds.items() if size <= largest})

    def capped(self, rows: int) -> "Plan":
        """Leave out the sizes above a number of rows; where that is all of them, rows run one by one."""
        kept = {size: seconds for size, seconds in self.seconds.items() if size <= rows}
        smallest = self.buckets[0]
        return Plan(kept or {1: self.seconds[smallest] / smallest})

    def scaled(self, factor: float) -> "Plan":
        """Give the plan of rows that take so many times as long."""
        return Plan({size: seconds * factor for size, seconds in self.seconds.items()})

    @cached_property
    def buckets(self) -> tuple[int, ...]:
        """The batch sizes, rising."""
        return tuple(self.seconds)

    @property
    def largest(self) -> int:
        """The most rows of one run."""
        return self.buckets[-1]

    @property
    def row_s(self) -> float:
        """The time of a row where many wait."""
        return self.seconds[self.largest] / self.largest

    def bucket(self, waiting: int) -> int:
        """Choose the size of the next run, so that all that waits is done soonest.

        A run may be padded, or leave rows to the next one, whichever costs less: where time grows with the batch, five
        rows are a run of four and one of one; where it does not, they are a run of eight.

        Args:
            waiting: rows, at least 1.

        Returns:
            One of the buckets.
        """
        return self._first[min(waiting, self.largest)]

    def holding(self, rows: int) -> int:
        """Give the smallest bucket that holds so many rows."""
        return next(bucket for bucket in self.buckets if bucket >= rows)

    @cached_property
    def _first(self) -> list[int]:
        """The first bucket for each number of rows, by dynamic programming over what is left after it."""
        cost, first = [0.0], [0]
        for rows in range(1, self.largest + 1):
            totals = {bucket: self.seconds[bucket] + cost[max(0, rows - bucket)] for bucket in self.buckets}
            best = min(totals, key=lambda bucket: (totals[bucket], -bucket))
            cost.append(totals[best])
            first.append(best)
        return first
