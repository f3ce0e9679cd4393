"""Division of examples at random."""

from collections.abc import Sequence

import numpy as np

from training.errors import DataError


def draw(count: int, fractions: Sequence[float], seed: int) -> list[list[int]]:
    """Divide examples at random, the same way for the same count, fractions and seed.

    Args:
        count: examples.
        fractions: of them, one for each part but the last, each 0 .. 0.5.
        seed: of the draw.

    Returns:
        Sorted indices of a part for each fraction, at least one in each, and of the part that is left.

    Raises:
        DataError: there are too few examples for so many parts.
    """
    sizes = [max(1, round(count * fraction)) for fraction in fractions]
    if count <= sum(sizes):
        raise DataError(f"found {count} examples, which cannot be divided into {len(sizes) + 1} splits; give more")
    order = np.random.Generator(np.random.Philox(key=[seed, 0])).permutation(count)
    return [sorted(int(index) for index in part) for part in np.split(order, np.cumsum(sizes))]
