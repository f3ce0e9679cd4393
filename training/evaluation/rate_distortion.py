"""Rate and distortion of models of real-valued latents, several runs in one picture (Alemi et al. 2018)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from training.errors import RunError
from training.evaluation.plot import FAINT, GRID, INK, OWN
from training.run import Run, write_text

_LINES = 12
_MARKERS = "os^DvP"
_NEEDED = ("kl_nats", "reconstruction_nats", "elbo_nats")


@dataclass(frozen=True)
class Point:
    """One model.

    Attributes:
        name: of the run.
        rate_nats: mean KL(q || p) of an example.
        distortion_nats: mean -log p(x given z) of an example.
    """

    name: str
    rate_nats: float
    distortion_nats: float

    @property
    def elbo_nats(self) -> float:
        """The bound: minus the sum of both."""
        return -self.distortion_nats - self.rate_nats


def points_of_runs(runs: Sequence[Run]) -> tuple[str, tuple[Point, ...]]:
    """Read what `evaluate` stored of each run.

    Args:
        runs: of models of real-valued latents, measured on the same examples.

    Returns:
        What they were measured on, and a point for each, in order.

    Raises:
        RunError: a run is not evaluated with its present weights, has no rate, or was measured on other examples.
    """
    notes, points = [], []
    for run in runs:
        stored = json.loads(run.metrics_file.read_text("utf-8")) if run.metrics_file.exists() else {}
        if stored.get("weights") != run.weights() or not stored.get("metrics"):
            raise RunError(
                f"{run.path} has no figures of its weights; run `python -m training evaluate {run.path}` first"
            )
        metrics = stored["metrics"]
        if any(name not in metrics for name in _NEEDED):
            raise RunError(f"{run.path} has no rate in nats, as a plain autoencoder's; leave it out")
        notes.append(stored["note"].partition(", by")[0])
        points.append(Point(run.path.name, metrics["kl_nats"], -metrics["reconstruction_nats"]))
    if len(set(notes)) > 1:
        raise RunError(
            f"the runs were measured on different examples: {'; '.join(sorted(set(notes)))}; evaluate them alike"
        )
    return notes[0], tuple(points)


def write(note: str, points: Sequence[Point], path: Path) -> None:
    """Write the points as a picture, and as JSON beside it.

    Args:
        note: what they were measured on.
        points: one or more.
        path: of the PNG.
    """
    found = {"note": note, "points": [asdict(point) | {"elbo_nats": point.elbo_nats} for point in points]}
    write_text(path.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
    plot(note, points, path)


def plot(note: str, points: Sequence[Point], path: Path) -> None:
    """Draw rate against distortion, and lines on which the ELBO is the same.

    Args:
        note: what they were measured on.
        points: one or more.
        path: of the PNG.
    """
    rates, distortions = (
        np.array([getattr(point, name) for point in points]) for name in ("rate_nats", "distortion_nats")
    )
    figure = Figure(figsize=(6.4, 5.2), dpi=160, layout="constrained")
    axes = figure.subplots()
    room = 0.15 * max(float(np.ptp(rates)), float(np.ptp(distortions)), 1.0)
    left, right = max(0.0, float(rates.min()) - room), float(rates.max()) + room
    low, high = max(0.0, float(distortions.min()) - room), float(distortions.max()) + room
    for total in _round_numbers(left + low, right + high):
        ends = np.array([left, right])
        axes.plot(ends, total - ends, color=GRID, linewidth=1.0, zorder=1)
        rate = left + 0.02 * (right - left)
        if low < total - rate < high:
            axes.annotate(f"{-total:g}", (rate, total - rate), fontsize=7, color=FAINT, zorder=1)
    for point, marker, color in zip(points, cycle(_MARKERS), cycle(OWN)):
        axes.scatter(point.rate_nats, point.distortion_nats, marker=marker, color=color, zorder=3, label=point.name)
    axes.legend(frameon=False, fontsize=8)
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    axes.set_title("Rate and distortion; grey: lines of equal ELBO, nats", loc="left", fontsize=10, color=INK)
    axes.set_xlabel(f"rate: mean KL(q || p), nats\n{note}", fontsize=8, color=FAINT)
    axes.set_ylabel("distortion: mean -log p(x given z), nats", fontsize=8, color=FAINT)
    axes.tick_params(which="both", length=0, colors=FAINT, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(path)


def _round_numbers(low: float, high: float) -> list[float]:
    """Give about a dozen round numbers between two."""
    step = 10.0 ** np.floor(np.log10((high - low) / _LINES))
    step *= next(factor for factor in (1.0, 2.0, 5.0, 10.0) if (high - low) / (factor * step) <= _LINES)
    return [float(number) for number in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


def table(points: Sequence[Point]) -> str:
    """Set the points in columns."""
    width = max(len(point.name) for point in points)
    lines = [f"{'':<{width}}  {'rate, nats':>12}  {'distortion, nats':>16}  {'elbo, nats':>12}"]
    for point in points:
        lines.append(
            f"{point.name:<{width}}  {point.rate_nats:>12.3f}  {point.distortion_nats:>16.3f}  {point.elbo_nats:>12.3f}"
        )
    return "\n".join(lines)
