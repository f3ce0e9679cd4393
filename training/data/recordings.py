"""Sounds of one's own: folders and zip archives of WAV and FLAC files, with classes by folder or by name."""

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from media.audio import read_audio
from media.errors import MediaError
from training.data.config import DataConfig
from training.data.division import Division, divide
from training.data.gallery import SOUNDS, UNREADABLE, Gallery, open_gallery
from training.data.sounds import Recordings, Sound
from training.data.splits import Splits
from training.errors import DataError

_LONGEST_S = 3600.0

Classes = Mapping[str, Mapping[str, str]]
"""By condition, the class of each name."""


def read_recordings(config: DataConfig, root: Path) -> Splits:
    """Read all sounds of a folder or of zip archives into memory.

    Args:
        config: what to make of them.
        root: the folder or archive, or the folder that holds an archive for each split.

    Returns:
        The splits. Their conditions are the groups of `config.pattern`; without one, `label` where every sound lies in
        the folder of its class.

    Raises:
        DataError: there are none, one cannot be read or has no class, or it is not clear which split one belongs to.
    """
    with open_gallery("zip" if config.source == "audio-zip" else "folder", root, SOUNDS) as gallery:
        division = divide(gallery.names, config, root)
        classes = _classes(gallery.names, division, config.pattern, root)
        return recordings_of(gallery, division, classes, config, root, name=root.stem)


def recordings_of(
    gallery: Gallery,
    division: Division,
    classes: Classes,
    config: DataConfig,
    root: Path,
    *,
    name: str,
    source: str = "the user's own sounds",
    licence: str = "unspecified",
) -> Splits:
    """Read sounds of a gallery into memory.

    Args:
        gallery: where they lie.
        division: which of them belong to which split.
        classes: what is known of them.
        config: the rate, and the length of a crop.
        root: for messages.
        name: of the data.
        source: where they come from.
        licence: of the data.

    Returns:
        The splits.

    Raises:
        DataError: one cannot be read.
    """
    known = {condition: tuple(sorted(set(of.values()))) for condition, of in classes.items()}

    def split(names: list[str]) -> Recordings:
        labels = {
            condition: np.array([known[condition].index(of[one]) for one in names], dtype=np.int64)
            for condition, of in classes.items()
        }
        sounds, length = tuple(_decoded(names, gallery, config, root)), config.length or 0
        return Recordings(sounds, length, config.sample_rate_hz, crop=config.crop or length, conditions=labels)

    return Splits(
        split(division.train),
        split(division.validation),
        split(division.test),
        name=name,
        source=source,
        licence=licence,
        conditions=known,
    )


def by_name(names: list[str], pattern: str, root: Path) -> Classes:
    """Read classes off the names of files.

    Args:
        names: paths, between slashes.
        pattern: of the last part of each, whose named groups are conditions.
        root: for messages.

    Returns:
        The classes.

    Raises:
        DataError: a name is not of the pattern.
    """
    classes: dict[str, dict[str, str]] = {condition: {} for condition in re.compile(pattern).groupindex}
    for name in names:
        match = re.fullmatch(pattern, PurePosixPath(name).name)
        for condition, of in classes.items():
            if match is None or match[condition] is None:
                raise DataError(f"{root}: {name} has no {condition} by data.pattern, {pattern}; rename or remove it")
            of[name] = match[condition]
    return classes


def _classes(names: list[str], division: Division, pattern: str | None, root: Path) -> Classes:
    """Tell the classes of sounds by their names where there is a pattern, else by their folders."""
    if pattern is not None:
        return by_name(names, pattern, root)
    return {"label": division.class_of} if division.class_of else {}


def _decoded(names: list[str], gallery: Gallery, config: DataConfig, root: Path) -> Iterator[Sound]:
    """Read and decode sounds in parallel, each file only when a thread is free for it."""

    def decode(name: str) -> Sound:
        try:
            return read_audio(gallery.read(name), sample_rate_hz=config.sample_rate_hz, max_seconds=_LONGEST_S)
        except (MediaError, *UNREADABLE) as error:
            raise DataError(f"{root}: {name}: {error}; mend or remove it") from error

    with ThreadPoolExecutor() as pool:
        yield from tqdm(pool.map(decode, names), total=len(names), unit="sound", desc="reading", leave=False)
