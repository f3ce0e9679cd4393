"""Files of golden integers: npz, read without unpickling, whose faults are told by the name of the file."""

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from artifact.codes import Arrays
from artifact.errors import InexactError

CAUSE = (
    "this version of ONNX Runtime or this processor does not compute in exact integers, or the files were exchanged. "
    "What it wrote could be read nowhere else; update ONNX Runtime, or export the model again"
)
"""What it means that integers are others than the golden ones, and what to do."""


def digest(values: np.ndarray) -> UInt8[np.ndarray, " 32"]:
    """Hash integers that an array of any type carries, as little-endian int32.

    Args:
        values: the integers.

    Returns:
        Their sha256.

    Raises:
        InexactError: some are no integers.
    """
    integers = values.astype("<i4")
    if not (integers == values).all():
        raise InexactError(f"a graph of exact integers gives numbers that are none: {CAUSE}")
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(integers).tobytes()).digest(), dtype=np.uint8)


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays as npz.

    Args:
        path: of the file.
        arrays: by name.
    """
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def arrays_in(content: bytes) -> Arrays:
    """Read the arrays of an npz file by name.

    Args:
        content: the file.

    Returns:
        The arrays.
    """
    return dict(np.load(BytesIO(content), allow_pickle=False))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of which file it is that something inside is missing or unreadable.

    Args:
        path: the file.

    Raises:
        InexactError: in place of whatever a file can be at fault for.
    """
    try:
        yield
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InexactError(f"{path}: it is not a file of golden integers: {error!r}; export the model again") from error
