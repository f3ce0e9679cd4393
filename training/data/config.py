"""The `[data]` table of a recipe."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal[
    "binarized-mnist",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "folder",
    "zip",
    "idx",
    "amat",
    "npy",
    "hub",
    "audio-folder",
    "audio-zip",
    "fsdd",
    "sprites",
]
SOUNDS = ("audio-folder", "audio-zip", "fsdd")
"""Sources of sounds; the others are of pictures."""


class DataConfig(BaseModel):
    """What to read.

    Attributes:
        source: a public set by name, or the format of one's own files.
        root: the file or folder; for a public set the folder that holds its files, in place of the download; for zip
            the archive, or a folder that holds one for each split.
        channels: 1 (grey) or 3 (RGB).
        size: pictures of a folder or zip are cropped to a square and resized to this many pixels a side; sprites are
            drawn at 32 or 64; other sources keep theirs.
        crop: in place of size, pictures of a folder or zip keep theirs; the fit sees random crops of this many pixels
            a side, it is validated on the crops at the centre, and measured on whole pictures. Of sounds the fit sees
            random crops of this many samples, or of `length` where it is left out.
        sample_rate_hz: sounds are brought to so many samples a second.
        pattern: of the file names of an audio folder or zip, a regular expression whose named groups are what is known
            of each sound, such as `(?P<label>[0-9])_(?P<speaker>[a-z]+)_.*`; without it, sounds that all lie in a
            folder of their class have it as label.
        length: samples that a sound is brought to, by silence after it or by a cut, where all must be of one length:
            for validation, and for the codes that a prior is fitted to. Measured are whole sounds.
        flip: the fit sees each picture mirrored left to right half of the time.
        validation_fraction: of the examples, where the source has no validation split of its own.
        test_fraction: likewise for the test split.
        test_every: in place of the draw of a test split, it is file 0 of a folder or zip, and every so many from
            there in the order of their names; the validation split is drawn from the others.
        split_seed: of the draw of those splits.
        dataset: for hub, the name of a data set there (`owner/name`), or the path of a local copy.
        subset: for hub, the configuration of a data set that has several.
        split: for hub, the one split to take, which is then divided; None for all that are called like one.
        column: for hub, the name of the column of pictures.
        label_column: for hub, that of the classes; None for data without.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source
    root: Path | None = None
    channels: Literal[1, 3] = 3
    size: int | None = Field(default=None, gt=0, le=4096)
    crop: int | None = Field(default=None, ge=8, le=2**20)
    sample_rate_hz: int = Field(default=8_000, ge=1_000, le=192_000)
    pattern: str | None = None
    length: int | None = Field(default=None, gt=0)
    flip: bool = False
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    test_every: int | None = Field(default=None, ge=2)
    split_seed: int = Field(default=0, ge=0)
    dataset: str | None = None
    subset: str | None = None
    split: str | None = None
    column: str = "image"
    label_column: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.source == "hub") != (self.dataset is not None):
            raise ValueError("source 'hub' needs dataset, the name or path of a data set, and no other source takes it")
        if (self.length is not None) != (self.source in SOUNDS):
            raise ValueError(
                "length, the samples that sounds are brought to, is what sources of sounds need and no others take"
            )
        if (self.pattern is not None) and self.source not in ("audio-folder", "audio-zip"):
            raise ValueError(
                "pattern, of file names, is for sources 'audio-folder' and 'audio-zip' alone: leave it out"
            )
        if self.source in SOUNDS:
            self._check_sounds()
        elif self.source in ("folder", "zip", "hub"):
            self._check_pictures()
        else:
            self._check_arrays()
        if self.source in ("folder", "zip", "audio-folder", "audio-zip", "idx", "amat", "npy") and self.root is None:
            raise ValueError(f"source {self.source!r} needs root, the path of the data (--data.root PATH)")
        return self

    def _check_sounds(self) -> None:
        if self.crop is not None and self.length is not None and self.crop > self.length:
            raise ValueError(f"crop is {self.crop} samples, more than length, {self.length}: make it no longer")
        if self.size is not None or self.flip:
            raise ValueError(f"source {self.source!r} is of sounds, which have no size and no flip: leave them out")
        if self.source == "fsdd" and self.test_every is not None:
            raise ValueError("source 'fsdd' has a test split of its own: leave test_every out")
        if self.pattern is not None:
            _check_pattern(self.pattern)

    def _check_pictures(self) -> None:
        if self.size is None and self.crop is None:
            raise ValueError(
                f"source {self.source!r} needs size, to which pictures are resized, or crop, which is cut out of them, "
                "in pixels a side"
            )
        if self.size is not None and self.crop is not None:
            raise ValueError(f"source {self.source!r} takes size or crop, not both: leave one out")

    def _check_arrays(self) -> None:
        if self.source == "sprites" and (self.size not in (None, 32, 64) or self.root is not None):
            raise ValueError("sprites are drawn, with 32 or 64 pixels a side: set size to one of these, leave root out")
        for name in ("crop",) if self.source == "sprites" else ("size", "crop"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"source {self.source!r} takes no {name}, its images keep their size: leave {name} out"
                )
        if self.test_every is not None:
            raise ValueError(f"source {self.source!r} takes no test_every, which counts pictures by name: leave it out")


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {error}; mend it") from error
    if not groups:
        raise ValueError(f"pattern {pattern!r} has no named group such as (?P<label>[a-z]+): name what is known")
