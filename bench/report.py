"""What a load came to: answers by status, percentiles, goodput, and a compact table of them."""

from array import array
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

OK, TOO_MANY = 200, 429


@dataclass(frozen=True)
class Answers:
    """The answers of one status: how many, and how long they took."""

    count: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: "array[float]") -> Self:
        """Take the percentiles of what was measured, in seconds; at least one."""
        times = np.frombuffer(seconds, np.float64) * 1e3
        return cls(len(times), *(float(value) for value in np.percentile(times, (50, 90, 95, 99, 100))))


@dataclass(frozen=True)
class Report:
    """What a load came to.

    Attributes:
        sent: requests.
        seconds: the time that rates are taken over: of an open loop that of the arrivals, of a closed one the time
            until the last answer.
        answers: by status.
        connection_errors: requests that a connection took with it, or for which none could be opened.
        unanswered: requests that waited in vain when the load ended.
        deadline_s: what goodput is measured by.
        goodput_per_s: answers 200 within the deadline.
        retry_after_percent: of the answers 429; None where there were none.
        late_p99_ms: of an open loop, how late requests left after they were due, at the 99th percentile: what the
            load generator itself adds to the times; None for a closed loop.
    """

    sent: int
    seconds: float
    answers: dict[int, Answers]
    connection_errors: int
    unanswered: int
    deadline_s: float
    goodput_per_s: float
    retry_after_percent: float | None
    late_p99_ms: float | None

    @property
    def ok(self) -> int:
        """Answers 200."""
        return self.answers[OK].count if OK in self.answers else 0

    def to_json(self) -> dict[str, Any]:
        """Give the report as JSON has it."""
        return asdict(self)

    def table(self) -> str:
        """Write the report for people."""
        lines = [
            f"{self.sent} sent in {self.seconds:.1f} s ({self.sent / self.seconds:.1f}/s), goodput "
            f"{self.goodput_per_s:.1f}/s (200 within {self.deadline_s:g} s), {self.connection_errors} connection "
            f"errors, {self.unanswered} unanswered",
            f"{'status':>8} {'answers':>9} {'p50 ms':>9} {'p90 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'max ms':>9}",
        ]
        for status, found in sorted(self.answers.items()):
            times = (found.p50_ms, found.p90_ms, found.p95_ms, found.p99_ms, found.max_ms)
            lines.append(f"{status:>8} {found.count:>9} " + " ".join(f"{value:>9.2f}" for value in times))
        if self.retry_after_percent is not None:
            lines.append(f"{self.retry_after_percent:.1f}% of the answers 429 bear Retry-After")
        if self.late_p99_ms is not None:
            lines.append(f"requests left at most {self.late_p99_ms:.2f} ms after they were due, 99% of them")
        return "\n".join(lines)


class Tally:
    """Counts answers while the load runs."""

    def __init__(self) -> None:
        self.sent = 0
        self.connection_errors = 0
        self._seconds: defaultdict[int, array[float]] = defaultdict(lambda: array("d"))
        self._late: array[float] = array("d")
        self._retry_after = 0

    @property
    def answered(self) -> int:
        """Answers of any status."""
        return sum(map(len, self._seconds.values()))

    @property
    def outstanding(self) -> int:
        """Requests that were sent, or are due, and have neither been answered nor failed."""
        return self.sent - self.answered - self.connection_errors

    def add(self, status: int, seconds: float, *, has_retry_after: bool) -> None:
        """Count an answer."""
        self._seconds[status].append(seconds)
        self._retry_after += has_retry_after and status == TOO_MANY

    def add_late(self, seconds: float) -> None:
        """Note how long after it was due a request left."""
        self._late.append(seconds)

    def report(self, seconds: float, deadline_s: float) -> Report:
        """Sum up.

        Args:
            seconds: that rates are taken over.
            deadline_s: what goodput is measured by.

        Returns:
            The report.
        """
        within = int((np.frombuffer(self._seconds.get(OK, array("d")), np.float64) <= deadline_s).sum())
        refused = len(self._seconds.get(TOO_MANY, ()))
        return Report(
            sent=self.sent,
            seconds=seconds,
            answers={status: Answers.of(times) for status, times in self._seconds.items()},
            connection_errors=self.connection_errors,
            unanswered=self.outstanding,
            deadline_s=deadline_s,
            goodput_per_s=within / seconds,
            retry_after_percent=100 * self._retry_after / refused if refused else None,
            late_p99_ms=1e3 * float(np.percentile(self._late, 99)) if self._late else None,
        )
