"""Whole pictures and sounds of any size through a fully convolutional model."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from media.geometry import fit_image

_NO_LIMIT = 2**20


class Way(Protocol):
    """The way back from what was padded."""

    def restore(self, answer: NDArray[Any]) -> NDArray[Any]:
        """Give what belongs to the original."""
        ...


@dataclass(frozen=True)
class Beginning:
    """The way back to a sound.

    Attributes:
        length: its samples.
    """

    length: int

    def restore(self, answer: NDArray[Any]) -> NDArray[Any]:
        """Give the samples of the original."""
        return answer[: self.length]


def padded(example: NDArray[Any], multiple_of: int) -> tuple[NDArray[Any], Way]:
    """Pad a picture or a sound to the multiple that a model takes, as the service does by default.

    Args:
        example: `[H, W, C]` or `[T]`, of any size.
        multiple_of: pixels or samples.

    Returns:
        The padded example, and the way back.
    """
    if example.ndim == 1:
        return np.pad(example, (0, -len(example) % multiple_of)), Beginning(len(example))
    return fit_image(example, height=None, width=None, multiple_of=multiple_of, maximum=_NO_LIMIT, fit="pad")
