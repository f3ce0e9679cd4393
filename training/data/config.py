"""The `[data]` table of a recipe."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["binarized-mnist", "mnist", "fashion-mnist", "cifar10", "folder", "zip", "idx", "amat", "npy"]


class DataConfig(BaseModel):
    """What to read.

    Attributes:
        source: a public set by name, or the format of one's own files.
        root: the file or folder; for a public set the folder that holds its files, in place of the download.
        channels: 1 (grey) or 3 (RGB).
        size: pictures of a folder or zip are cropped to a square and resized to this many pixels a side; other
            sources keep theirs.
        validation_fraction: of the examples, where the source has no validation split of its own.
        test_fraction: likewise for the test split.
        split_seed: of the draw of those splits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source
    root: Path | None = None
    channels: Literal[1, 3] = 3
    size: int | None = Field(default=None, gt=0, le=4096)
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    split_seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        pictures = self.source in ("folder", "zip")
        if pictures and self.size is None:
            raise ValueError(f"source {self.source!r} needs size, the side of the square pictures in pixels")
        if not pictures and self.size is not None:
            raise ValueError(f"source {self.source!r} takes no size, its images keep theirs: leave size out")
        if self.source in ("folder", "zip", "idx", "amat", "npy") and self.root is None:
            raise ValueError(f"source {self.source!r} needs root, the path of the data (--data.root PATH)")
        return self
