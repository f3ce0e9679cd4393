"""The results as a picture: bars for medians, whiskers from the least to the most."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.serving.cases import CONNECTIONS
from bench.serving.contenders import LATENTD
from bench.serving.limits import BARE, Results

_INK, _FAINT, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_COLOURS = {LATENTD: "#d9480f", BARE: "#3e4c59"}
_PEER = "#b8c4d0"
_LEAST_MS = 0.05
"""Where the logarithmic axis begins: below a run of the graph alone."""


def plot(results: Results, setting: str, path: Path) -> None:
    """Draw throughput at many connections beside latency at one.

    Args:
        results: the figures; contenders without both of these cases are left out.
        setting: a line about model and machine.
        path: of the PNG.
    """
    names = [name for name, figures in results.items() if {"many", "one"} <= figures.keys()]
    names.sort(key=lambda name: median(results[name]["many"]))
    figure = Figure(figsize=(10, 0.9 + 0.42 * len(names)), dpi=160, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, names, [results[name]["many"] for name in names], "{:,.0f}")
    left.set_title(f"pictures a second, {CONNECTIONS} connections", loc="left", fontsize=11, color=_INK)
    _bars(right, names, [results[name]["one"] for name in names], "{:.2f} ms")
    right.set_title("median answer, one connection (log scale)", loc="left", fontsize=11, color=_INK)
    left.set_yticks(range(len(names)), names)
    for tick, name in zip(left.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if name == LATENTD else "normal")
    right.set_xscale("log")
    left.xaxis.set_major_formatter("{x:,.0f}")
    right.xaxis.set_major_formatter("{x:g} ms")
    _make_room(left, 0.16)
    right.set_xlim(_LEAST_MS, right.get_xlim()[1] * 2.2)
    figure.supxlabel(setting, fontsize=8, color=_FAINT)
    figure.savefig(path)


def _bars(axes: Axes, names: Sequence[str], runs: Sequence[Sequence[float]], label: str) -> None:
    """Draw one panel."""
    middles = [median(values) for values in runs]
    spans = [
        [middle - min(values) for middle, values in zip(middles, runs, strict=True)],
        [max(values) - middle for middle, values in zip(middles, runs, strict=True)],
    ]
    colours = [_COLOURS.get(name, _PEER) for name in names]
    whiskers = {"ecolor": _FAINT, "elinewidth": 1.2, "capsize": 3}
    axes.barh(range(len(names)), middles, height=0.66, color=colours, xerr=spans, error_kw=whiskers, zorder=2)
    for place, (middle, values) in enumerate(zip(middles, runs, strict=True)):
        weight = "bold" if names[place] == LATENTD else "normal"
        axes.annotate(
            label.format(middle),
            (max(values), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontweight=weight,
        )
    axes.grid(axis="x", color=_GRID, zorder=0)
    axes.tick_params(which="both", length=0, colors=_INK)
    axes.tick_params(axis="x", colors=_FAINT, labelsize=8)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _make_room(axes: Axes, share: float) -> None:
    """Leave room at the right for the labels of the bars."""
    least, most = axes.get_xlim()
    axes.set_xlim(least, most + share * (most - least))
