"""Whole pictures of any size through a fully convolutional model."""

import numpy as np
from jaxtyping import UInt8

from media.geometry import Placement, fit_image

_NO_LIMIT = 2**20


def padded(image: UInt8[np.ndarray, "H W C"], multiple_of: int) -> tuple[UInt8[np.ndarray, "h w C"], Placement]:
    """Pad a picture to the multiple that a model takes, as the service does by default.

    Args:
        image: any size.
        multiple_of: pixels.

    Returns:
        The padded picture, and the way back.
    """
    return fit_image(image, height=None, width=None, multiple_of=multiple_of, maximum=_NO_LIMIT, fit="pad")
