"""What the operations of all models share: checks of what goes in, and pixels of what comes out."""

from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from artifact.manifest import Tensor
from artifact.noise import MAX_SEED
from service.engine.opening import ServedModel
from service.errors import ParameterError, TooLargeError
from service.settings import Settings

_WHITE_FROM = 128
MAX_TEMPERATURE = 10.0


def check_images(
    model: ServedModel, images: NDArray[np.generic], *, binarize: Literal["threshold"] | None
) -> UInt8[np.ndarray, "B H W C"]:
    """Check that images are what the model takes.

    Args:
        model: which.
        images: supposedly `[B, H, W, C]` uint8 of its geometry.
        binarize: `threshold` turns 128 .. 255 into 255 and the rest into 0.

    Returns:
        The images.

    Raises:
        ParameterError: another type, shape, or values that the likelihood gives no probability to.
    """
    (tensor,) = model.manifest.graphs["encode"].inputs
    _check_shape(model, images, tensor)
    pixels: NDArray[np.uint8] = images.astype(np.uint8, copy=False)
    if binarize == "threshold":
        pixels = np.where(pixels >= _WHITE_FROM, np.uint8(255), np.uint8(0))
    if tensor.values is not None and (other := find_other(pixels, tensor.values)) is not None:
        raise ParameterError(
            f"{model.reference} takes pixels of {' or '.join(map(str, tensor.values))} alone, one is {other}; "
            "send black-and-white pictures, or add ?binarize=threshold"
        )
    return pixels


def find_other(pixels: UInt8[np.ndarray, "..."], allowed: tuple[int, ...]) -> int | None:
    """Find a value that is not allowed.

    Args:
        pixels: of any shape.
        allowed: values.

    Returns:
        The first other one; None where there is none.
    """
    others = pixels.tobytes().translate(None, bytes(allowed))
    return others[0] if others else None


def _check_shape(model: ServedModel, images: NDArray[np.generic], tensor: Tensor) -> None:
    """Hold an array against a tensor's declaration."""
    fits = images.ndim == len(tensor.shape) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(tensor.shape, images.shape, strict=True)
    )
    if images.dtype != tensor.dtype or not fits or len(images) == 0:
        expected = ", ".join(map(str, tensor.shape))
        raise ParameterError(
            f"{model.reference} takes {tensor.dtype} [{expected}] with B at least 1, "
            f"found {images.dtype} {list(images.shape)}; ?fit= can bring files to its size"
        )


def check_draw(settings: Settings, *, n: int, seed: int, first_index: int, temperature: float) -> None:
    """Check what every draw from a prior is asked with.

    Args:
        settings: the limits.
        n: how many items.
        seed: see `check_noise`.
        first_index: likewise.
        temperature: 0 .. 10.

    Raises:
        ParameterError: a number is out of range.
        TooLargeError: n is over the limit.
    """
    if n > settings.max_rows:
        raise TooLargeError(f"n is {n}, at most {settings.max_rows} are drawn at once; use first_index to go on")
    check_noise(seed, first_index, n)
    if not 0.0 <= temperature <= MAX_TEMPERATURE:
        raise ParameterError(f"temperature is {temperature}, expected 0 .. {MAX_TEMPERATURE:g}")


def check_noise(seed: int, first_index: int, rows: int) -> None:
    """Check what names the noise.

    Args:
        seed: 0 .. 2^63 - 1.
        first_index: of the first row, so that the last has at most 2^63 - 1.
        rows: at least 1.

    Raises:
        ParameterError: a number is out of range.
    """
    if rows < 1:
        raise ParameterError(f"n is {rows}, expected at least 1")
    if not 0 <= seed <= MAX_SEED:
        raise ParameterError(f"seed is {seed}, expected 0 .. 2^63 - 1")
    if not 0 <= first_index <= MAX_SEED - (rows - 1):
        raise ParameterError(f"first_index is {first_index}, expected 0 .. 2^63 - 1 for every row")


def to_pixels(mean: Float32[np.ndarray, "B H W C"]) -> UInt8[np.ndarray, "B H W C"]:
    """Round a likelihood's mean to pixels: to the nearest, halves to even, clipped to 0 .. 255."""
    return np.clip(np.rint(mean), 0, 255).astype(np.uint8)


def to_samples(mean: Float32[np.ndarray, "B T"]) -> Float32[np.ndarray, "B T"]:
    """Clip a likelihood's mean to samples: -1 .. 1."""
    return np.clip(mean, -1.0, 1.0)
