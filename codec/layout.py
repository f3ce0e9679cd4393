"""What a model makes of an item: the grids of codes that belong to a picture or a sound of some extent."""

import math
from dataclasses import dataclass

from codec.errors import ContainerLimitError

MAX_LEVELS = 64
"""Most levels of a container."""

_MAX_NUM_EMBEDDINGS = 2**31


@dataclass(frozen=True)
class Grid:
    """The codes of one level.

    Attributes:
        num_codebooks: Q, codes at each place, at least 1.
        sides: places along each axis: (height, width) or (length,), each at least 1.
    """

    num_codebooks: int
    sides: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of their array: the sides, behind Q where there are several codebooks."""
        return self.sides if self.num_codebooks == 1 else (self.num_codebooks, *self.sides)

    @property
    def count(self) -> int:
        """How many codes there are."""
        return self.num_codebooks * math.prod(self.sides)


@dataclass(frozen=True)
class LevelLayout:
    """What a model has at one level.

    Attributes:
        num_embeddings: K, symbols in a codebook, 2 .. 2^31.
        num_codebooks: Q, codes at each place, at least 1.
        downsampling: input samples (or pixels a side) that one place stands for.
    """

    num_embeddings: int
    num_codebooks: int
    downsampling: int

    @property
    def token_bits(self) -> int:
        """The bits that number K symbols: ceil(log2 K), 1 .. 31."""
        return (self.num_embeddings - 1).bit_length()


@dataclass(frozen=True)
class Layout:
    """What a model has at all levels, and which inputs it takes.

    Attributes:
        levels: top first, 1 .. `MAX_LEVELS` of them.
        sizes: (height, width) in pixels or (length,) in samples; None for a side that is not fixed.
        multiple_of: what a side that is not fixed must be a multiple of, in pixels or samples.
        maximum: the longest side that is not fixed, in pixels or samples.

    Raises:
        ValueError: a number is out of range, or an input would not divide into whole places.
    """

    levels: tuple[LevelLayout, ...]
    sizes: tuple[int | None, ...]
    multiple_of: int
    maximum: int

    def __post_init__(self) -> None:
        if len(self.sizes) not in (1, 2) or not 1 <= len(self.levels) <= MAX_LEVELS:
            raise ValueError(
                f"a layout has {len(self.sizes)} axes and {len(self.levels)} levels, expected 1 or 2 axes and "
                f"1 .. {MAX_LEVELS} levels"
            )
        for level in self.levels:
            if not 2 <= level.num_embeddings <= _MAX_NUM_EMBEDDINGS or level.num_codebooks < 1:
                raise ValueError(f"{level}: expected 2 .. 2^31 embeddings and at least one codebook")
            if any((size or self.multiple_of) % level.downsampling for size in self.sizes):
                raise ValueError(f"{level}: {self} takes inputs that are no multiple of the downsampling")

    def grids(self, extent: tuple[int, ...]) -> tuple[Grid, ...]:
        """Tell the grids of an item, which is padded to a size that the model takes.

        A side that is fixed is padded to its size, any other up to the next multiple of `multiple_of`.

        Args:
            extent: the item's (height, width) in pixels or (length,) in samples.

        Returns:
            A grid a level, top first.

        Raises:
            ContainerLimitError: the extent is not one that the model takes.
        """
        if len(extent) != len(self.sizes):
            raise ContainerLimitError(
                f"the item is {_kind(len(extent))}, the model takes {_kind(len(self.sizes))}: use another model"
            )
        limits = tuple(size or self.maximum // self.multiple_of * self.multiple_of for size in self.sizes)
        if not all(1 <= side <= limit for side, limit in zip(extent, limits, strict=True)):
            raise ContainerLimitError(
                f"the item measures {_measures(extent)}, expected 1 to {_measures(limits)}: "
                "use another model, or send a smaller item"
            )
        padded = [
            size or -(-side // self.multiple_of) * self.multiple_of
            for size, side in zip(self.sizes, extent, strict=True)
        ]
        return tuple(
            Grid(level.num_codebooks, tuple(side // level.downsampling for side in padded)) for level in self.levels
        )


def _kind(axes: int) -> str:
    return "a picture" if axes == 2 else "a sound"


def _measures(sides: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in sides)
