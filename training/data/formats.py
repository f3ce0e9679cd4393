"""Array formats: `.amat` text, IDX and `.npy`, from bytes to uint8 images."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.arrays import read_npy
from media.errors import MediaError
from training.data.splits import Images, Labels
from training.errors import DataError

_ZERO, _ONE, _NEWLINE, _SPACES = ord("0"), ord("1"), ord("\n"), np.frombuffer(b" \t\r\n", dtype=np.uint8)


def read_bytes(path: Path) -> bytes:
    """Read a file, decompressed if it is gzipped.

    Raises:
        DataError: it cannot be read.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}; is it complete?") from error


def amat_images(content: bytes, name: str) -> Images:
    """Read binarised images, one a row of text, pixels 0 or 1 between spaces.

    Args:
        content: of the file.
        name: for messages.

    Returns:
        `[N, side, side, 1]`, 0 or 255.

    Raises:
        DataError: the text is of another form.
    """
    symbols = np.frombuffer(content, dtype=np.uint8)
    digit = (symbols == _ZERO) | (symbols == _ONE)
    foreign = ~(digit | np.isin(symbols, _SPACES))
    foreign[1:] |= digit[1:] & digit[:-1]
    if foreign.any():
        row = content.count(b"\n", 0, int(np.argmax(foreign))) + 1
        raise DataError(
            f"{name}, row {row}: found something else than 0 and 1 between spaces; is this a binarised .amat file?"
        )
    starts = np.append(0, np.flatnonzero(symbols == _NEWLINE) + 1)
    starts = starts[starts < symbols.size]
    if not starts.size:
        raise DataError(f"{name} is empty, expected square images, one a row; is the file complete?")
    widths = np.add.reduceat(digit, starts, dtype=np.int64)
    columns = int(widths[0])
    side = round(columns**0.5)
    if columns == 0 or side * side != columns:
        raise DataError(
            f"{name}, row 1: found {columns} pixels, expected a square image such as 28 x 28 = 784; give another file"
        )
    if (widths != columns).any():
        row = int(np.argmax(widths != columns))
        raise DataError(
            f"{name}, row {row + 1} of {widths.size}: found {widths[row]} pixels, expected {columns} as in the first; "
            "is the file complete?"
        )
    return (symbols[digit] - np.uint8(_ZERO)).reshape(-1, side, side, 1) * np.uint8(255)


def idx_images(content: bytes, name: str) -> Images:
    """Read the IDX format of MNIST: magic 0 0 type rank, big-endian dimensions, values.

    Args:
        content: of the file.
        name: for messages.

    Returns:
        `[N, H, W, C]`.

    Raises:
        DataError: another type, rank or length.
    """
    if content[:4] not in (b"\0\0\x08\x03", b"\0\0\x08\x04"):
        raise DataError(
            f"{name}: not an IDX file of uint8 images (it begins {content[:4].hex()}, expected 00000803); "
            "give the file of images, not that of labels"
        )
    return _with_channels(_idx_values(content, name).copy(), name)


def idx_labels(content: bytes, name: str) -> Labels:
    """Read the labels that lie beside MNIST's images, in the same format.

    Args:
        content: of the file.
        name: for messages.

    Returns:
        `[N]`, 0 .. 255.

    Raises:
        DataError: another type, rank or length.
    """
    if content[:4] != b"\0\0\x08\x01":
        raise DataError(
            f"{name}: not an IDX file of labels (it begins {content[:4].hex()}, expected 00000801); "
            "give the file of labels, not that of images"
        )
    return _idx_values(content, name).astype(np.int64)


def _idx_values(content: bytes, name: str) -> NDArray[np.uint8]:
    """Read what follows an IDX header, whose last byte is the rank."""
    rank = content[3]
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank))
    if len(content) - start != prod(shape):
        raise DataError(
            f"{name}: {len(content) - start} bytes of values, its header {shape} promises {prod(shape)}; "
            "is it complete?"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def npy_images(content: bytes, name: str) -> Images:
    """Read `[N, H, W]` or `[N, H, W, C]` uint8 from a `.npy` file.

    Args:
        content: of the file.
        name: for messages.

    Returns:
        `[N, H, W, C]`.

    Raises:
        DataError: another type or rank.
    """
    try:
        return _with_channels(read_npy(content, max_bytes=len(content)), name)
    except MediaError as error:
        raise DataError(f"{name}: {error}") from error


def _with_channels(array: NDArray[np.generic], name: str) -> Images:
    """Add the channel axis where it is missing."""
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3):
        raise DataError(
            f"{name}: found {array.dtype} {array.shape}, expected uint8 [N, H, W] or [N, H, W, 1 or 3]; convert it"
        )
    images: NDArray[np.uint8] = array.astype(np.uint8, copy=False)
    return images
