"""Pictures to measure on: those of a zip file or a folder, the test split of one by the position of their names."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from media.images import read_image

Picture = UInt8[np.ndarray, "H W C"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_MOST_PIXELS = 2**26


def read_pictures(path: Path, *, every: int = 1, count: int | None = None) -> list[Picture]:
    """Read pictures in the order of their names.

    Args:
        path: a zip file or a folder.
        every: take those whose position is a multiple of it.
        count: of these, the first; None for all.

    Returns:
        The pictures, in colour.

    Raises:
        SystemExit: there are none.
    """
    names = sorted(name for name in _names(path) if name.lower().endswith(_ENDINGS))[::every][:count]
    if not names:
        raise SystemExit(f"{path} has no pictures ({', '.join(_ENDINGS)}); give a zip file or a folder of some")
    return [read_image(data, channels=3, max_pixels=_MOST_PIXELS) for data in _contents(path, names)]


def _names(path: Path) -> list[str]:
    """List what is there."""
    if path.is_dir():
        return [str(found.relative_to(path)) for found in path.rglob("*") if found.is_file()]
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _contents(path: Path, names: list[str]) -> Iterator[bytes]:
    """Read files."""
    if path.is_dir():
        yield from ((path / name).read_bytes() for name in names)
        return
    with zipfile.ZipFile(path) as archive:
        yield from (archive.read(name) for name in names)
