"""Rate and distortion of a model beside those of other codecs, on the same files."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from media.distortion import psnr_db
from media.mel import mel_distance_db
from media.ms_ssim import ms_ssim, scales_of
from media.si_sdr import si_sdr_db
from models.code_priors import Conditions
from training.evaluation.foreign import PICTURE_CODECS, Opus
from training.evaluation.reconstruct import Reconstructor
from training.run import write_text

Data = NDArray[Any]
_THREADS = 2
_OWN_BITS = "Bits of the model are those of all its codes, of padded places as well, without a header or what is given"


@dataclass(frozen=True)
class Item:
    """One file.

    Attributes:
        data: a picture `[H, W, C]` or a sound `[T]`.
        known: its conditions by name, `[1]` each.
    """

    data: Data
    known: Conditions


@dataclass(frozen=True)
class Coding:
    """One file, coded and decoded.

    Attributes:
        curve: the name of the codec, and of how its bits are counted.
        setting: of the codec.
        bits: what it took.
        amount: what the rate is a rate of: pixels, or milliseconds.
        figures: distortion by name, names with units.
    """

    curve: str
    setting: str
    bits: float
    amount: float
    figures: dict[str, float]


@dataclass(frozen=True)
class Point:
    """A codec at one setting.

    Attributes:
        setting: of the codec.
        rate: bits of all files over all their pixels, or kbit/s of all their sound.
        figures: means over the files, of those that are finite.
    """

    setting: str
    rate: float
    figures: dict[str, float]


@dataclass(frozen=True)
class Curves:
    """What was measured.

    Attributes:
        name: of the model.
        data: what it was measured on.
        files: how many.
        unit: of the rates.
        counted: what the rates count.
        curves: points by the name of the codec, the model's own first.
    """

    name: str
    data: str
    files: int
    unit: str
    counted: str
    curves: dict[str, tuple[Point, ...]]

    def write(self, path: Path) -> None:
        """Write the numbers as JSON."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    def table(self) -> str:
        """Set the numbers in columns."""
        names = list(next(iter(self.curves.values()))[0].figures)
        width = max(map(len, self.curves))
        lines = [f"{'':<{width}}  {'setting':>12}  {self.unit:>14}" + "".join(f"  {name:>16}" for name in names)]
        for curve, points in self.curves.items():
            for point in points:
                figures = "".join(f"  {point.figures[name]:>16.4f}" for name in names)
                lines.append(f"{curve:<{width}}  {point.setting:>12}  {point.rate:>14.4f}{figures}")
        return "\n".join([*lines, self.counted])


def picture_curves(name: str, data: str, model: Reconstructor, pictures: Sequence[Item]) -> Curves:
    """Measure a model, JPEG and WebP on whole pictures.

    Args:
        name: of the model.
        data: what the pictures are.
        model: of pictures.
        pictures: of any size.

    Returns:
        Bits a pixel, PSNR in decibels and, where all pictures are large enough for it, MS-SSIM at as many of its
        scales as a picture has.
    """
    large = all(scales_of(*picture.data.shape[:2]) for picture in pictures)

    def figures(x: Data, y: Data) -> dict[str, float]:
        found = {"psnr_db": float(psnr_db(x[None], y[None])[0])}
        return found | ({"ms_ssim": float(ms_ssim(x[None], y[None], scales_of(*x.shape[:2]))[0])} if large else {})

    def code(item: Item) -> list[Coding]:
        x = item.data
        pixels = float(x[..., 0].size)
        found = _of_model(name, model, item, pixels, figures)
        for codec in PICTURE_CODECS:
            for setting in codec.settings:
                coded = codec.code(x, setting)
                found.append(
                    Coding(codec.name, f"quality {setting}", 8.0 * coded.file_bytes, pixels, figures(x, coded.answer))
                )
        return found

    points = _points(_codings(code, pictures))
    return Curves(name, data, len(pictures), "bits_per_pixel", f"{_OWN_BITS}; of JPEG and WebP whole files", points)


def sound_curves(name: str, data: str, model: Reconstructor, sounds: Sequence[Item], sample_rate_hz: int) -> Curves:
    """Measure a model and Opus on whole sounds.

    Args:
        name: of the model.
        data: what the sounds are.
        model: of sounds.
        sounds: of any length.
        sample_rate_hz: of them.

    Returns:
        kbit/s, SI-SDR and mel distance in decibels.
    """

    def figures(x: Data, y: Data) -> dict[str, float]:
        return {
            "si_sdr_db": float(si_sdr_db(x[None], y[None])[0]),
            "mel_distance_db": float(mel_distance_db(x[None], y[None], sample_rate_hz)[0]),
        }

    def code(item: Item) -> list[Coding]:
        x = item.data
        milliseconds = 1000.0 * len(x) / sample_rate_hz
        found = _of_model(name, model, item, milliseconds, figures)
        codec = Opus()
        for setting in codec.settings:
            coded = codec.code(x, setting, sample_rate_hz)
            measured = figures(x, coded.answer)
            for curve, size in (("Opus packets", coded.payload_bytes), ("Opus in Ogg", coded.file_bytes)):
                found.append(Coding(curve, f"{setting} bit/s", 8.0 * size, milliseconds, measured))
        return found

    counted = f"{_OWN_BITS}; of Opus packets alone, or whole files"
    return Curves(name, data, len(sounds), "kbit_per_s", counted, _points(_codings(code, sounds)))


def _of_model(
    name: str, model: Reconstructor, x: Item, amount: float, figures: Callable[[Data, Data], dict[str, float]]
) -> list[Coding]:
    """Measure the model at each of its rates."""
    found = []
    for result in model.each_rate(x.data, x.known):
        measured = figures(x.data, result.answer)
        setting = f"{result.kept} codebook" + ("s" if result.kept > 1 else "")
        found += [Coding(f"{name}, {way}", setting, bits, amount, measured) for way, bits in result.bits.items()]
    return found


def _codings(code: Callable[[Item], list[Coding]], data: Sequence[Item]) -> Iterable[Coding]:
    """Code every file, a few at a time."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for found in tqdm(pool.map(code, data), total=len(data), unit="file", desc="codecs"):
            yield from found


def _points(codings: Iterable[Coding]) -> dict[str, tuple[Point, ...]]:
    """Collect the codings of each codec at each setting."""
    found: dict[str, dict[str, list[Coding]]] = defaultdict(lambda: defaultdict(list))
    for coding in codings:
        found[coding.curve][coding.setting].append(coding)
    return {
        curve: tuple(_point(setting, members) for setting, members in settings.items())
        for curve, settings in found.items()
    }


def _point(setting: str, codings: Sequence[Coding]) -> Point:
    """Average the codings of one setting."""
    figures = {}
    for name in codings[0].figures:
        values = np.array([coding.figures[name] for coding in codings])
        finite = values[np.isfinite(values)]
        figures[name] = float(finite.mean()) if len(finite) else 0.0
    rate = sum(coding.bits for coding in codings) / sum(coding.amount for coding in codings)
    return Point(setting, rate, figures)
