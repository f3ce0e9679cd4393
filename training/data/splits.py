"""Splits: what a fit learns from, what it watches, and what it is measured on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image as Pillow

from media.images import from_pillow, to_pillow
from training.errors import DataError

Image = UInt8[np.ndarray, "H W C"]
Images = UInt8[np.ndarray, "N H W C"]
Example = Image | Float32[np.ndarray, " T"]
Batch = Images | Float32[np.ndarray, "N T"]
Labels = Int64[np.ndarray, " N"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Examples(ABC):
    """Pictures or sounds, one after the other; `examples[i]` is the whole of number i.

    Attributes:
        conditions: what is known of each, by name: the index of its class in `Splits.conditions`.
        flip: mirror what `batch` gives left to right, each picture with probability 1/2.
        uniform: every picture is of the shape that a model is fitted to, so that `fixed` has the whole of each.
    """

    conditions: Mapping[str, Labels] = field(default_factory=dict)
    flip: bool = False
    uniform: ClassVar[bool]

    def __post_init__(self) -> None:
        for name, labels in self.conditions.items():
            if len(labels) != len(self):
                raise DataError(f"found {len(self)} examples and {len(labels)} {name}s; is a file of another set?")

    @property
    def labels(self) -> Labels | None:
        """The class of each, an index of `Splits.classes`; None where there are no classes."""
        return self.conditions.get("label")

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Height and width in pixels, and channels, or samples, of what a model is fitted to."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Example: ...

    def batch(self, indices: Int64[np.ndarray, " B"], random: np.random.Generator) -> Batch:
        """Give what a step of a fit learns from.

        Args:
            indices: of the pictures, 0 .. N - 1.
            random: where crops and flips come from: a generator in the same state gives the same batch.

        Returns:
            `[B, *shape]`, free to be changed.
        """
        pictures = self._views(indices, random)
        if self.flip:
            mirrored = random.random(len(indices)) < 0.5
            pictures[mirrored] = pictures[mirrored, :, ::-1]
        return pictures

    @abstractmethod
    def fixed(self, limit: int | None = None) -> Batch:
        """Give the same examples each time, of `shape`.

        Args:
            limit: how many, the first ones; None for all.

        Returns:
            `[N, *shape]`, not to be changed.
        """

    @abstractmethod
    def _views(self, indices: Int64[np.ndarray, " B"], random: np.random.Generator) -> Batch:
        """Give a new array of what a step sees of each example."""


@dataclass(frozen=True, eq=False)
class ImageArray(Examples):
    """Pictures of one size, which a model is fitted to as they are.

    Attributes:
        images: 0 .. 255.
    """

    images: Images
    uniform: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image:
        return self.images[index]

    def fixed(self, limit: int | None = None) -> Images:
        """Give the first `limit` pictures, or all."""
        return self.images[:limit]

    def _views(self, indices: Int64[np.ndarray, " B"], random: np.random.Generator) -> Images:
        del random
        return self.images[indices]


@dataclass(frozen=True, eq=False)
class Photographs(Examples):
    """Pictures of differing sizes, at least one, of which a fit sees random crops.

    One that is smaller than the crop is first enlarged (Lanczos) until its short side is the crop's.

    Attributes:
        images: 0 .. 255, all with as many channels.
        crop: pixels a side.
    """

    images: Sequence[Image]
    crop: int
    uniform: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height and width of a crop in pixels, and channels."""
        return self.crop, self.crop, self.images[0].shape[2]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image:
        return self.images[index]

    def fixed(self, limit: int | None = None) -> Images:
        """Give the centre crop of the first `limit` pictures, or of all."""
        images = [_enlarged(image, self.crop) for image in self.images[:limit]]
        return self._cut(images, _room(images, self.crop) // 2)

    def _views(self, indices: Int64[np.ndarray, " B"], random: np.random.Generator) -> Images:
        images = [_enlarged(self.images[index], self.crop) for index in indices]
        return self._cut(images, random.integers(0, _room(images, self.crop), endpoint=True))

    def _cut(self, images: list[Image], corners: Int64[np.ndarray, "B 2"]) -> Images:
        """Cut one crop out of each, whose first row and column are its corner."""
        crops = np.empty((len(images), *self.shape), dtype=np.uint8)
        for crop, image, (top, left) in zip(crops, images, corners, strict=True):
            crop[:] = image[top : top + self.crop, left : left + self.crop]
        return crops


def _room(images: list[Image], crop: int) -> Int64[np.ndarray, "B 2"]:
    """Tell how many pixels a crop can be moved down and to the right."""
    return np.array([image.shape[:2] for image in images], dtype=np.int64).reshape(-1, 2) - crop


def _enlarged(image: Image, side: int) -> Image:
    """Enlarge a picture until its short side is `side`; leave it where it is as long."""
    height, width = image.shape[:2]
    short = min(height, width)
    if short >= side:
        return image
    size = round(width * side / short), round(height * side / short)
    return from_pillow(to_pillow(image).resize(size, Pillow.Resampling.LANCZOS))


@dataclass(frozen=True)
class Splits:
    """A data set.

    Attributes:
        train: pictures, in no promised order: some sets are sorted by class.
        validation: likewise.
        test: likewise.
        name: of the set.
        source: where it comes from.
        licence: of the data.
        conditions: what is known of each example, by name, and the names of the classes of each.
    """

    train: Examples
    validation: Examples
    test: Examples
    name: str
    source: str
    licence: str
    conditions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the condition `label`, in the order of the labels; empty where there are none."""
        return self.conditions.get("label", ())
