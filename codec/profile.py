"""The profiles of containers of all versions."""

from enum import IntEnum


class Profile(IntEnum):
    """How content became a payload.

    Attributes:
        RAW: tokens in fixed widths (version 1; the others are of version 2).
        PRIOR: tokens under an exact prior.
        LOSSLESS_VQ: tokens, and what they do not say of the original.
        ARCHIVE: many pictures under a model with real-valued latents.
    """

    RAW = 0
    PRIOR = 1
    LOSSLESS_VQ = 2
    ARCHIVE = 3
