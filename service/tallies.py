"""What was asked and answered, counted plainly: it is done for every request, and read a few times a minute."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Requests(Collector):
    """Requests, their items and their time, by endpoint. Owned by the event loop."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._rows: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._phases: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._within: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_SECONDS) + 1))

    def observe(self, endpoint: str, status: int, duration_s: float) -> None:
        """Count a request that has been answered."""
        self._answers[endpoint, status] += 1
        self._seconds[endpoint] += duration_s
        self._within[endpoint][bisect_left(_SECONDS, duration_s)] += 1

    def observe_rows(self, endpoint: str, rows: int, phases_ms: Mapping[str, float]) -> None:
        """Count the items of an answer and the time of its phases."""
        self._rows[endpoint] += rows
        for phase, duration_ms in phases_ms.items():
            self._phases[endpoint, phase] += duration_ms

    def collect(self) -> Iterator[Metric]:
        """Give everything in Prometheus' terms."""
        answers = CounterMetricFamily("latentd_requests", "Requests answered.", labels=("endpoint", "status"))
        for (endpoint, status), count in self._answers.items():
            answers.add_metric((endpoint, str(status)), count)
        rows = CounterMetricFamily("latentd_rows", "Items answered.", labels=("endpoint",))
        for endpoint, count in self._rows.items():
            rows.add_metric((endpoint,), count)
        phases = CounterMetricFamily(
            "latentd_phase_seconds",
            "Time of the phases of answered requests: media is reading, encode is writing, queue a part of compute.",
            labels=("endpoint", "phase"),
        )
        for labels, duration_ms in self._phases.items():
            phases.add_metric(labels, duration_ms / 1e3)
        yield from (answers, rows, phases, self._histogram())

    def _histogram(self) -> HistogramMetricFamily:
        """Give the time of requests, counted up to each bound."""
        family = HistogramMetricFamily(
            "latentd_request_seconds",
            "From the head of a request to the last byte of its answer.",
            labels=("endpoint",),
        )
        for endpoint, counts in self._within.items():
            family.add_metric((endpoint,), cumulative(_SECONDS, counts), self._seconds[endpoint])
        return family


def cumulative(bounds: Sequence[float], counts: list[int]) -> list[tuple[str, float]]:
    """Count up to each bound, the last of which is infinite, as Prometheus does.

    Args:
        bounds: rising.
        counts: in each interval, one more than there are bounds.

    Returns:
        Bounds as texts, with the counts up to them.
    """
    total, found = 0.0, []
    for bound, count in zip((*map(str, bounds), "+Inf"), counts, strict=True):
        total += count
        found.append((bound, total))
    return found
