"""The one Exif tag that changes a picture: its orientation (CIPA DC-008, tag 0x0112)."""

import struct

import numpy as np
from jaxtyping import UInt8

_ORIENTATION_TAG = 0x0112
_SHORT = 3
_UPRIGHT = 1


def read_orientation(exif: bytes) -> int:
    """Find the orientation in a block of Exif.

    Viewers show a picture whose Exif is broken as it is stored, and so does this: such a block counts as upright.

    Args:
        exif: a TIFF structure, with or without the `Exif` prefix; may be empty.

    Returns:
        1 .. 8, where 1 is upright.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return _UPRIGHT
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and 1 <= value <= 8 else _UPRIGHT
    except struct.error:
        return _UPRIGHT
    return _UPRIGHT


def turn_upright(image: UInt8[np.ndarray, "H W C"], orientation: int) -> UInt8[np.ndarray, "h w C"]:
    """Undo an orientation.

    Args:
        image: pixels as stored.
        orientation: 1 .. 8, as `read_orientation` gives it.

    Returns:
        Pixels as they are to be seen; a view where possible. Sides are exchanged for 5 .. 8.
    """
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
