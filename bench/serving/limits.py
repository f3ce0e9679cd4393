"""What the service must reach, as ratios of medians of the same benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from bench.serving.contenders import LATENTD

BARE = "ONNX Runtime, bare"

Results = Mapping[str, Mapping[str, list[float]]]
"""Figures of the runs, by contender and case."""


@dataclass(frozen=True)
class Limit:
    """A claim.

    Attributes:
        text: what must hold.
        value: the figure, from medians; it raises KeyError where something was not measured.
        bound: what it must reach.
        is_most: whether it must stay at or below the bound instead.
    """

    text: str
    value: Callable[["Medians"], float]
    bound: float
    is_most: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether a figure is within the limit."""
        return value <= self.bound if self.is_most else value >= self.bound


class Medians:
    """Medians of all figures."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def of(self, contender: str, case: str) -> float:
        """Give one median.

        Raises:
            KeyError: it was not measured.
        """
        return median(self._results[contender][case])

    def ratio(self, case: str, other: str) -> float:
        """Compare the service with another in a case."""
        return self.of(LATENTD, case) / self.of(other, case)

    def best(self, group: str, case: str) -> str:
        """Name the best setting of a peer.

        Raises:
            KeyError: none was measured.
        """
        names = [name for name in self._results if name.startswith(group) and case in self._results[name]]
        if not names:
            raise KeyError(group)
        return max(names, key=lambda name: self.of(name, case))


LIMITS = (
    Limit("32 connections: of bare ONNX Runtime's best", lambda m: m.ratio("many", BARE), 0.88),
    Limit("32 connections: of mosec's best setting", lambda m: m.ratio("many", m.best("mosec", "many")), 1.0),
    Limit("32 connections: times LitServe", lambda m: m.ratio("many", "LitServe"), 5.0),
    Limit("one connection: p50 over a bare run, ms", lambda m: m.of(LATENTD, "one") - m.of(BARE, "one"), 0.4, True),
    Limit("batches of 64: of bare ONNX Runtime's best", lambda m: m.ratio("batches", BARE), 0.95),
    Limit("PNG: of what decoding and runtime allow", lambda m: m.ratio("png", BARE), 0.85),
    Limit("idle: % of a core", lambda m: m.of(LATENTD, "idle"), 1.0, True),
)


def verdicts(results: Results) -> list[tuple[Limit, float]]:
    """Work out every claim whose parts were measured."""
    medians = Medians(results)
    found = []
    for limit in LIMITS:
        try:
            found.append((limit, limit.value(medians)))
        except KeyError:
            continue
    return found
