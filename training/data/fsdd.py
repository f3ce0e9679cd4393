"""The Free Spoken Digit Dataset: `{digit}_{speaker}_{index}.wav`, whose indices 0 .. 4 are the official test split."""

import re
from pathlib import Path

import numpy as np

from media.audio import read_audio
from media.errors import MediaError
from training.data.config import DataConfig
from training.data.draw import draw
from training.data.sounds import Recordings
from training.data.splits import Labels, Splits
from training.errors import DataError

_NAME = re.compile(r"(?P<label>[0-9])_(?P<speaker>[a-z]+)_(?P<index>[0-9]+)\.wav")
_TEST_INDICES = 5
_LONGEST_S = 60.0


def read_fsdd(config: DataConfig, root: Path) -> Splits:
    """Read the set from the folder of its recordings.

    Args:
        config: the sample rate, the length of a crop, and how to draw the validation split.
        root: the folder, or the one around it.

    Returns:
        The splits, with the conditions `label` (the digit) and `speaker`.

    Raises:
        DataError: there are no recordings, or one cannot be read.
    """
    folder = root / "recordings" if (root / "recordings").is_dir() else root
    matches = [match for path in sorted(folder.glob("*.wav")) if (match := _NAME.fullmatch(path.name))]
    if not matches:
        raise DataError(f"{folder} holds no recordings like 7_jackson_32.wav; give their folder as --data.root")
    test = [match for match in matches if int(match["index"]) < _TEST_INDICES]
    others = [match for match in matches if int(match["index"]) >= _TEST_INDICES]
    watched, learned = draw(len(others), (config.validation_fraction,), config.split_seed)
    conditions = {name: tuple(sorted({match[name] for match in matches})) for name in ("label", "speaker")}
    train, validation, held_out = (
        _recordings(part, folder, conditions, config)
        for part in ([others[index] for index in learned], [others[index] for index in watched], test)
    )
    return Splits(
        train,
        validation,
        held_out,
        name="fsdd",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        licence="CC BY-SA 4.0",
        conditions=conditions,
    )


def _recordings(
    matches: list[re.Match[str]], folder: Path, conditions: dict[str, tuple[str, ...]], config: DataConfig
) -> Recordings:
    """Read the files of a split."""
    labels: dict[str, Labels] = {
        name: np.array([classes.index(match[name]) for match in matches], dtype=np.int64)
        for name, classes in conditions.items()
    }
    sounds = []
    for match in matches:
        try:
            data = (folder / match.string).read_bytes()
            sounds.append(read_audio(data, sample_rate_hz=config.sample_rate_hz, max_seconds=_LONGEST_S))
        except (OSError, MediaError) as error:
            raise DataError(f"{folder}: {match.string}: {error}; mend it or get it again") from error
    length = config.length or 0
    return Recordings(tuple(sounds), length, config.sample_rate_hz, crop=config.crop or length, conditions=labels)
