"""Splits: what a fit learns from, what it watches, and what it is measured on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from training.errors import DataError

Images = UInt8[np.ndarray, "N H W C"]


@dataclass(frozen=True)
class Splits:
    """A data set.

    Attributes:
        train: images, in no promised order: some sets are sorted by class.
        validation: likewise.
        test: likewise.
        name: of the set.
        source: where it comes from.
        licence: of the data.
    """

    train: Images
    validation: Images
    test: Images
    name: str
    source: str
    licence: str


def draw_splits(
    count: int, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[list[int], list[int], list[int]]:
    """Divide examples at random, the same way for the same count and seed.

    Args:
        count: examples.
        validation_fraction: of them, 0 .. 0.5.
        test_fraction: likewise.
        seed: of the draw.

    Returns:
        Sorted indices of train, validation and test.

    Raises:
        DataError: there are too few examples for three splits.
    """
    validation, test = max(1, round(count * validation_fraction)), max(1, round(count * test_fraction))
    if count < validation + test + 1:
        raise DataError(f"found {count} examples, which cannot be divided into three splits; give more")
    order = np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(count)
    pieces = np.split(order, [test, test + validation])
    held_out, watched, learned = (sorted(int(index) for index in piece) for piece in pieces)
    return learned, watched, held_out
