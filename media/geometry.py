"""Sizes that a model takes: how a picture or a sound is brought to one, and the answer back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from media.errors import MediaGeometryError
from media.images import from_pillow, to_pillow

Fit = Literal["pad", "crop", "resize", "error"]


@dataclass(frozen=True)
class Placement:
    """Where the original lies in what a model was given.

    Attributes:
        extent: the original's (height, width) or (length,).
        padded: whether it was padded, at its end.
    """

    extent: tuple[int, ...]
    padded: bool

    def restore(self, answer: np.ndarray) -> np.ndarray:
        """Crop a padded model's answer to the original's extent; any other answer stays as it is.

        Args:
            answer: `[H, W, C]` or `[T]`, of the size that the model was given.

        Returns:
            A view of it.
        """
        return answer[tuple(slice(size) for size in self.extent)] if self.padded else answer


def fit_image(
    image: UInt8[np.ndarray, "H W C"],
    *,
    height: int | None,
    width: int | None,
    multiple_of: int,
    maximum: int,
    fit: Fit,
) -> tuple[UInt8[np.ndarray, "h w C"], Placement]:
    """Bring a picture to a size that a model takes.

    Padding repeats the last row and column downwards and to the right, cropping keeps the centre, and resizing
    (Lanczos) goes to the fixed size or, side by side, to the nearest multiple.

    Args:
        image: pixels.
        height: the only one taken, in pixels; None where any multiple is.
        width: likewise.
        multiple_of: what a side that is not fixed must be a multiple of, in pixels.
        maximum: the longest side that is not fixed, in pixels.
        fit: what to do with another size.

    Returns:
        The picture as the model takes it, and the way back.

    Raises:
        MediaGeometryError: the size is not taken, and `fit` cannot mend it.
    """
    sides = (_Side(image.shape[0], height, multiple_of, maximum), _Side(image.shape[1], width, multiple_of, maximum))
    target = _target(sides, fit, ("pad", "crop", "resize"), "pixels high and wide")
    if fit == "pad":
        return _pad(image, target, mode="edge")
    if fit == "resize" and target != image.shape[:2]:
        resized = to_pillow(image).resize((target[1], target[0]), Image.Resampling.LANCZOS)
        return from_pillow(resized), Placement(image.shape[:2], padded=False)
    return _crop(image, target)


def fit_audio(
    samples: Float32[np.ndarray, " T"], *, length: int | None, multiple_of: int, maximum: int, fit: Fit
) -> tuple[Float32[np.ndarray, " t"], Placement]:
    """Bring a sound to a length that a model takes.

    Padding adds silence at the end, cropping keeps the middle. A sound is never stretched.

    Args:
        samples: the sound.
        length: the only one taken, in samples; None where any multiple is.
        multiple_of: what a length that is not fixed must be a multiple of.
        maximum: the longest that is not fixed, in samples.
        fit: what to do with another length.

    Returns:
        The sound as the model takes it, and the way back.

    Raises:
        MediaGeometryError: the length is not taken, and `fit` cannot mend it.
    """
    target = _target((_Side(samples.shape[0], length, multiple_of, maximum),), fit, ("pad", "crop"), "samples long")
    return _pad(samples, target, mode="constant") if fit == "pad" else _crop(samples, target)


@dataclass(frozen=True)
class _Side:
    """One axis: what it measures, and what may be."""

    size: int
    fixed: int | None
    multiple_of: int
    maximum: int

    def target(self, fit: Fit) -> int | None:
        """Tell the size that a fit leads to, or None where it leads to none."""
        step = self.multiple_of
        if fit == "pad":
            target = self.fixed or -(-self.size // step) * step
            possible = target >= self.size
        elif fit == "crop":
            target = self.fixed or self.size // step * step
            possible = 0 < target <= self.size
        elif fit == "resize":
            target = self.fixed or max(1, (2 * self.size + step) // (2 * step)) * step
            possible = True
        else:
            target = self.fixed or self.size
            possible = self.size == target and (self.fixed is not None or self.size % step == 0)
        return target if possible and (self.fixed is not None or target <= self.maximum) else None

    def expected(self) -> str:
        if self.fixed is not None:
            return str(self.fixed)
        return (
            f"a multiple of {self.multiple_of} up to {self.maximum}"
            if self.multiple_of > 1
            else f"up to {self.maximum}"
        )


def _target(sides: Sequence[_Side], fit: Fit, known: tuple[Fit, ...], unit: str) -> tuple[int, ...]:
    """Give the size to go to, or say which fits would lead to one."""
    found = " x ".join(str(side.size) for side in sides)
    if any(side.size == 0 for side in sides):
        raise MediaGeometryError(f"found {found} {unit}, expected at least one: there is nothing to fit")
    target = _sizes(sides, fit if fit in known else "error")
    if target is not None:
        return target
    mending = [f"fit={other}" for other in known if _sizes(sides, other) is not None]
    raise MediaGeometryError(
        f"found {found}, expected {' x '.join(side.expected() for side in sides)} {unit}, which fit={fit} does not "
        f"bring about: use {' or '.join(mending) if mending else 'another model, or send another size'}"
    )


def _sizes(sides: Sequence[_Side], fit: Fit) -> tuple[int, ...] | None:
    targets = [side.target(fit) for side in sides]
    sizes = tuple(target for target in targets if target is not None)
    return sizes if len(sizes) == len(targets) else None


def _pad(array: np.ndarray, target: tuple[int, ...], mode: Literal["edge", "constant"]) -> tuple[np.ndarray, Placement]:
    extent = array.shape[: len(target)]
    margins = [(0, end - size) for size, end in zip(extent, target, strict=True)]
    margins += [(0, 0)] * (array.ndim - len(target))
    padded = np.pad(array, margins, mode=mode) if target != extent else array
    return padded, Placement(extent, padded=target != extent)


def _crop(array: np.ndarray, target: tuple[int, ...]) -> tuple[np.ndarray, Placement]:
    extent = array.shape[: len(target)]
    starts = ((size - end) // 2 for size, end in zip(extent, target, strict=True))
    window = tuple(slice(start, start + end) for start, end in zip(starts, target, strict=True))
    return array[window], Placement(extent, padded=False)
