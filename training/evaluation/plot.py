"""Rate and distortion as a picture: a panel a figure, a line a codec."""

from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from training.evaluation.curves import Curves

INK, FAINT, GRID = "#1f2933", "#7b8794", "#e4e7eb"
OWN = ("#d9480f", "#f08c00", "#fab005", "#a61e4d")
_FOREIGN = ("#3e4c59", "#9aa5b1", "#627d98")
_TITLES = {
    "psnr_db": "PSNR, dB (higher is better)",
    "ms_ssim": "MS-SSIM (higher is better)",
    "si_sdr_db": "SI-SDR, dB (higher is better)",
    "mel_distance_db": "mel distance, dB (lower is better)",
}
_UNITS = {"bits_per_pixel": "bits a pixel", "kbit_per_s": "kbit/s"}


def plot(curves: Curves, path: Path) -> None:
    """Draw every figure against the rate, on a logarithmic axis.

    Args:
        curves: what was measured.
        path: of the PNG.
    """
    figures = list(next(iter(curves.curves.values()))[0].figures)
    figure = Figure(figsize=(5.4 * len(figures), 4.2), dpi=160, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
        _panel(axes, curves, name)
    figure.supxlabel(
        f"{_UNITS[curves.unit]} (log scale); {curves.files} files of {curves.data}\n{curves.counted}",
        fontsize=8,
        color=FAINT,
    )
    figure.savefig(path)


def _panel(axes: Axes, curves: Curves, name: str) -> None:
    """Draw one figure."""
    own, foreign = cycle(OWN), cycle(_FOREIGN)
    for curve, points in curves.curves.items():
        ours = curve.startswith(f"{curves.name}, ")
        rates = [point.rate for point in points]
        values = [point.figures[name] for point in points]
        axes.plot(
            rates,
            values,
            marker="o" if ours else ".",
            color=next(own) if ours else next(foreign),
            linewidth=1.6,
            zorder=3 if ours else 2,
            label=curve,
        )
    axes.set_title(_TITLES[name], loc="left", fontsize=11, color=INK)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(color=GRID, zorder=0)
    axes.tick_params(which="both", length=0, colors=FAINT, labelsize=8)
    axes.legend(frameon=False, fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
