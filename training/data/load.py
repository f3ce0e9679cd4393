"""From the `[data]` table to splits."""

from pathlib import Path

import numpy as np

from training.data import pictures
from training.data.config import DataConfig
from training.data.formats import amat_images, idx_images, npy_images, read_bytes
from training.data.public import PUBLIC
from training.data.splits import Splits, draw_splits
from training.errors import DataError

_PICTURES = {"folder": pictures.folder, "zip": pictures.archive}
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
    if config.source in PUBLIC:
        splits = PUBLIC[config.source].load(config.root)
    else:
        root = config.root or Path()
        splits = _PICTURES[config.source](config, root) if config.source in _PICTURES else _array(config, root)
    found = splits.train.shape[3]
    if found != config.channels:
        raise DataError(
            f"{splits.name} has {found} channels, the recipe says data.channels = {config.channels}; set it to {found}"
        )
    return splits


def _array(config: DataConfig, root: Path) -> Splits:
    """Read one file of images and divide it at random."""
    images = _ARRAYS[config.source](read_bytes(root), str(root))
    drawn = draw_splits(len(images), config.validation_fraction, config.test_fraction, config.split_seed)
    train, validation, test = (np.ascontiguousarray(images[indices]) for indices in drawn)
    return Splits(train, validation, test, name=root.stem, source="the user's own file", licence="unspecified")
