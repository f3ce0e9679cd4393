"""The Free Spoken Digit Dataset: `{digit}_{speaker}_{index}.wav`, whose indices 0 .. 4 are the official test split."""

import hashlib
import re
from pathlib import PurePosixPath

from training.data.config import DataConfig
from training.data.division import Division
from training.data.draw import draw
from training.data.gallery import SOUNDS, Gallery, open_gallery
from training.data.public import download
from training.data.recordings import by_name, recordings_of
from training.data.splits import Splits
from training.errors import DataError

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"
CHECKSUM = "0fbe6612aaa20a80ef4371894a46e060038337a518fe3d4728cb7eee7caa013c"
"""See `checksum`; the archive itself is packed anew at times, and so has none that lasts."""

_NAME = r"(?P<label>[0-9])_(?P<speaker>[a-z]+)_[0-9]+\.wav"
_TEST = re.compile(r".*_[0-4]\.wav")


def read_fsdd(config: DataConfig) -> Splits:
    """Read the set, from a folder or archive of its recordings, or fetch it first.

    Args:
        config: where it lies, the sample rate, the length of a crop, and how to draw the validation split.

    Returns:
        The splits, with the conditions `label` (the digit) and `speaker`.

    Raises:
        DataError: there are no recordings, one cannot be read, or they cannot be had.
    """
    root = config.root or download(URL, "fsdd", None)
    with open_gallery("folder" if root.is_dir() else "zip", root, SOUNDS) as gallery:
        names = [name for name in gallery.names if re.fullmatch(_NAME, PurePosixPath(name).name)]
        if not names:
            raise DataError(f"{root} holds no recordings like 7_jackson_32.wav; give their folder as --data.root")
        if config.root is None and (found := checksum(names, gallery)) != CHECKSUM:
            raise DataError(
                f"{root}: sha256 of its recordings is {found}, expected {CHECKSUM}; the file is damaged or of another "
                "set, remove it and get it again"
            )
        return recordings_of(
            gallery,
            _division(names, config),
            by_name(names, _NAME, root),
            config,
            root,
            name="fsdd",
            source="https://github.com/Jakobovski/free-spoken-digit-dataset",
            licence="CC BY-SA 4.0",
        )


def checksum(names: list[str], gallery: Gallery) -> str:
    """Give the sha256 over the file name and the sha256 of each recording, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(names, key=lambda name: PurePosixPath(name).name):
        total.update(PurePosixPath(name).name.encode() + hashlib.sha256(gallery.read(name)).digest())
    return total.hexdigest()


def _division(names: list[str], config: DataConfig) -> Division:
    """Take the official test split, and draw the validation split from the others."""
    test = [name for name in names if _TEST.fullmatch(name)]
    others = [name for name in names if not _TEST.fullmatch(name)]
    watched, learned = draw(len(others), (config.validation_fraction,), config.split_seed)
    return Division([others[index] for index in learned], [others[index] for index in watched], test, {})
