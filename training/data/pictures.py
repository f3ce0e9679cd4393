"""Folders and zip archives of pictures, cropped to squares of one size."""

import lzma
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from threading import Lock

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from media.errors import MediaError
from media.images import read_image
from training.data.config import DataConfig
from training.data.splits import Images, Splits, draw_splits
from training.errors import DataError

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}
_MAX_PIXELS = 2**28
_SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

# What reading a member of a damaged, encrypted or unusual archive raises.
_UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)

Reader = Callable[[str], bytes]


def folder(config: DataConfig, root: Path) -> Splits:
    """Read all pictures below a folder.

    Raises:
        DataError: there is no such folder, or a picture cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; --data.root names the folder of pictures")
    names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return _splits(config, root, names, lambda name: (root / name).read_bytes())


def archive(config: DataConfig, root: Path) -> Splits:
    """Read all pictures of a zip archive, without unpacking it.

    Raises:
        DataError: it is not a zip archive, or a picture cannot be read.
    """
    lock = Lock()
    try:
        with zipfile.ZipFile(root) as file:

            def read(name: str) -> bytes:
                with lock:
                    return file.read(name)

            return _splits(config, root, [name for name in file.namelist() if not name.endswith("/")], read)
    except _UNREADABLE as error:
        raise DataError(f"cannot read {root} as a zip archive: {error}; is it complete?") from error


def _is_picture(name: str) -> bool:
    """Tell pictures from what systems leave beside them."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in _ENDINGS and not hidden


def _splits(config: DataConfig, root: Path, names: list[str], read: Reader) -> Splits:
    """Divide names by their first folder where that names a split, else at random, and read them."""
    names = sorted({name for name in names if _is_picture(name)})
    if not names:
        raise DataError(f"{root} holds no pictures ({', '.join(sorted(_ENDINGS))}); give another path")
    named: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    homes = [_SPLIT_FOLDERS.get(PurePosixPath(name).parts[0].lower()) for name in names]
    outside = [name for name, home in zip(names, homes, strict=True) if home is None]
    # One such folder alone may be a class of that name; two are splits, which a random draw would mix.
    if outside and len(set(homes) - {None}) > 1:
        raise DataError(f"{root} has split folders, but {outside[0]} lies outside them; move it into one or remove it")
    if not outside:
        for name, home in zip(names, homes, strict=True):
            named[home or "train"].append(name)
        missing = [split for split, members in named.items() if not members]
        if missing:
            raise DataError(f"{root} has split folders but none for {', '.join(missing)}; add them or use none at all")
    else:
        drawn = draw_splits(len(names), config.validation_fraction, config.test_fraction, config.split_seed)
        for split, indices in zip(named, drawn, strict=True):
            named[split] = [names[index] for index in indices]
    images = {split: _read(config, root, members, read) for split, members in named.items()}
    return Splits(**images, name=root.stem, source="the user's own pictures", licence="unspecified")


def _read(config: DataConfig, root: Path, names: list[str], read: Reader) -> Images:
    """Read and decode pictures in parallel, each file only when a thread is free for it."""
    size = config.size or 1
    images = np.empty((len(names), size, size, config.channels), dtype=np.uint8)

    def decode(name: str) -> UInt8[np.ndarray, "size size C"]:
        try:
            return square(read_image(read(name), channels=config.channels, max_pixels=_MAX_PIXELS), size)
        except (MediaError, *_UNREADABLE) as error:
            raise DataError(f"{root}: {name}: {error}; mend or remove it") from error

    with ThreadPoolExecutor() as pool:
        decoded = tqdm(pool.map(decode, names), total=len(names), unit="picture", desc="reading", leave=False)
        for index, image in enumerate(decoded):
            images[index] = image
    return images


def square(image: UInt8[np.ndarray, "H W C"], size: int) -> UInt8[np.ndarray, "size size C"]:
    """Cut the largest centred square out of a picture and resize it (Lanczos).

    Args:
        image: any size.
        size: pixels a side.

    Returns:
        The square.
    """
    height, width, channels = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = image[top : top + side, left : left + side]
    picture = Image.fromarray(cut[..., 0] if channels == 1 else cut)
    resized = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), dtype=np.uint8)
    return resized.reshape(size, size, channels)
