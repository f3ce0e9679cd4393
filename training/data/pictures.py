"""Folders and zip archives of pictures: resized to squares of one size, or whole for crops."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow
from tqdm import tqdm

from media.errors import MediaError
from media.images import from_pillow, read_image, to_pillow
from training.data.config import DataConfig
from training.data.division import Division, divide
from training.data.gallery import UNREADABLE, Gallery, open_gallery
from training.data.splits import Examples, Image, ImageArray, Labels, Photographs, Splits
from training.errors import DataError

_MAX_PIXELS = 2**28


def read_pictures(config: DataConfig, root: Path) -> Splits:
    """Read all pictures of a folder or of zip archives into memory.

    Args:
        config: what to make of them.
        root: the folder or archive, or the folder that holds an archive for each split.

    Returns:
        The splits, with labels where every picture lies in the folder of its class.

    Raises:
        DataError: there are none, a picture cannot be read, or it is not clear which split one belongs to.
    """
    with open_gallery("zip" if config.source == "zip" else "folder", root) as gallery:
        return pictures_of(gallery, config, root)


def pictures_of(gallery: Gallery, config: DataConfig, root: Path) -> Splits:
    """Read all pictures of a gallery into memory; see `read_pictures`."""
    division = divide(gallery.names, config, root)
    train, validation, test = (
        _examples(_decoded(names, gallery, config, root), len(names), _labels(names, division), config)
        for names in (division.train, division.validation, division.test)
    )
    return Splits(
        train,
        validation,
        test,
        name=root.stem,
        source="the user's own pictures",
        licence="unspecified",
        conditions={"label": division.classes} if division.classes else {},
    )


def read_folder(root: Path, channels: Literal[1, 3]) -> list[Image]:
    """Read the pictures of a folder as they are, in the order of their names.

    Args:
        root: the folder.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        At least one.

    Raises:
        DataError: there are none, or one cannot be read.
    """
    with open_gallery("folder", root) as gallery:
        config = DataConfig(source="folder", root=root, channels=channels, crop=8)
        return list(_decoded(gallery.names, gallery, config, root))


def _labels(names: list[str], division: Division) -> dict[str, Labels]:
    """Number the classes of pictures, in the order of their names."""
    if not division.class_of:
        return {}
    number = {name: index for index, name in enumerate(division.classes)}
    return {"label": np.array([number[division.class_of[name]] for name in names], dtype=np.int64)}


def _examples(pictures: Iterator[Image], count: int, labels: dict[str, Labels], config: DataConfig) -> Examples:
    """Collect decoded pictures, those of one size in one array."""
    if config.crop is not None:
        return Photographs(tuple(pictures), config.crop, conditions=labels)
    size = config.size or 0
    images = np.empty((count, size, size, config.channels), dtype=np.uint8)
    for index, picture in enumerate(pictures):
        images[index] = picture
    return ImageArray(images, conditions=labels)


def _decoded(names: list[str], gallery: Gallery, config: DataConfig, root: Path) -> Iterator[Image]:
    """Read and decode pictures in parallel, each file only when a thread is free for it."""

    def decode(name: str) -> Image:
        try:
            picture = read_image(gallery.read(name), channels=config.channels, max_pixels=_MAX_PIXELS)
        except (MediaError, *UNREADABLE) as error:
            raise DataError(f"{root}: {name}: {error}; mend or remove it") from error
        return picture if config.size is None else square(picture, config.size)

    with ThreadPoolExecutor() as pool:
        yield from tqdm(pool.map(decode, names), total=len(names), unit="picture", desc="reading", leave=False)


def square(image: Image, size: int) -> UInt8[np.ndarray, "size size C"]:
    """Cut the largest centred square out of a picture and resize it (Lanczos).

    Args:
        image: any size.
        size: pixels a side.

    Returns:
        The square.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = to_pillow(image[top : top + side, left : left + side])
    return from_pillow(cut.resize((size, size), Pillow.Resampling.LANCZOS))
