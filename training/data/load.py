"""From the `[data]` table to splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.config import SOUNDS, DataConfig
from training.data.draw import draw
from training.data.formats import amat_images, idx_images, npy_images, read_bytes
from training.data.fsdd import read_fsdd
from training.data.hub import hub_gallery
from training.data.pictures import pictures_of, read_pictures
from training.data.public import PUBLIC
from training.data.recordings import read_recordings
from training.data.splits import ImageArray, Splits
from training.data.sprites import read_sprites
from training.errors import DataError

_ARRAYS = {"amat": amat_images, "idx": idx_images, "npy": npy_images}


def load(config: DataConfig) -> Splits:
    """Read a data set.

    Args:
        config: which, and from where.

    Returns:
        Its splits.

    Raises:
        DataError: it cannot be had or read, or has another number of channels than the recipe says.
    """
    splits = _read(config)
    if config.source in SOUNDS:
        return splits
    found = splits.train.shape[2]
    if found != config.channels:
        raise DataError(
            f"{splits.name} has {found} channels, the recipe says data.channels = {config.channels}; set it to {found}"
        )
    return replace(splits, train=replace(splits.train, flip=config.flip))


def _read(config: DataConfig) -> Splits:
    if config.source in PUBLIC:
        return PUBLIC[config.source].load(config.root)
    if config.source == "hub":
        return pictures_of(hub_gallery(config), config, Path(config.dataset or ""))
    if config.source == "fsdd":
        return read_fsdd(config)
    if config.source == "sprites":
        return read_sprites(config)
    root = config.root or Path()
    if config.source in SOUNDS:
        return read_recordings(config, root)
    return _array(config, root) if config.source in _ARRAYS else read_pictures(config, root)


def _array(config: DataConfig, root: Path) -> Splits:
    """Read one file of images and divide it at random."""
    images = _ARRAYS[config.source](read_bytes(root), str(root))
    test, validation, train = (
        ImageArray(np.ascontiguousarray(images[indices]))
        for indices in draw(len(images), (config.test_fraction, config.validation_fraction), config.split_seed)
    )
    return Splits(train, validation, test, name=root.stem, source="the user's own file", licence="unspecified")
