"""The `[data]` table of a recipe."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["binarized-mnist", "mnist", "fashion-mnist", "cifar10", "folder", "zip", "idx", "amat", "npy"]


class DataConfig(BaseModel):
    """What to read.

    Attributes:
        source: a public set by name, or the format of one's own files.
        root: the file or folder; for a public set the folder that holds its files, in place of the download; for zip
            the archive, or a folder that holds one for each split.
        channels: 1 (grey) or 3 (RGB).
        size: pictures of a folder or zip are cropped to a square and resized to this many pixels a side; other
            sources keep theirs.
        crop: in place of size, pictures of a folder or zip keep theirs; the fit sees random crops of this many pixels
            a side, it is validated on the crops at the centre, and measured on whole pictures.
        flip: the fit sees each picture mirrored left to right half of the time.
        validation_fraction: of the examples, where the source has no validation split of its own.
        test_fraction: likewise for the test split.
        test_every: in place of the draw of a test split, it is picture 0 of a folder or zip, and every so many from
            there in the order of their names; the validation split is drawn from the others.
        split_seed: of the draw of those splits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Source
    root: Path | None = None
    channels: Literal[1, 3] = 3
    size: int | None = Field(default=None, gt=0, le=4096)
    crop: int | None = Field(default=None, ge=8, le=4096)
    flip: bool = False
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    test_every: int | None = Field(default=None, ge=2)
    split_seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.source in ("folder", "zip"):
            self._check_pictures()
        else:
            self._check_arrays()
        if self.source in ("folder", "zip", "idx", "amat", "npy") and self.root is None:
            raise ValueError(f"source {self.source!r} needs root, the path of the data (--data.root PATH)")
        return self

    def _check_pictures(self) -> None:
        if self.size is None and self.crop is None:
            raise ValueError(
                f"source {self.source!r} needs size, to which pictures are resized, or crop, which is cut out of them, "
                "in pixels a side"
            )
        if self.size is not None and self.crop is not None:
            raise ValueError(f"source {self.source!r} takes size or crop, not both: leave one out")

    def _check_arrays(self) -> None:
        for name in ("size", "crop"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"source {self.source!r} takes no {name}, its images keep their size: leave {name} out"
                )
        if self.test_every is not None:
            raise ValueError(f"source {self.source!r} takes no test_every, which counts pictures by name: leave it out")
