import numpy as np
import pytest
from PIL import Image

from media.exif import read_orientation, turn_upright


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_found(exif, orientation, order):
    assert read_orientation(exif(orientation, order)) == orientation
    assert read_orientation(b"Exif\0\0" + exif(orientation, order)) == orientation


def test_orientation_as_pillow_writes_it():
    block = Image.Exif()
    block[0x0110] = "camera"
    block[0x0112] = 6

    assert read_orientation(block.tobytes()) == 6


@pytest.mark.parametrize("order", ["<", ">"])
def test_whatever_is_broken_is_upright(exif, order):
    whole = exif(6, order)
    cut = [whole[:length] for length in (0, 4, 9, 20, 30)]
    other = [exif(0, order), exif(9, order), exif(6, order, kind=4), b"junk", exif(6, order).replace(b"\x12", b"\x13")]

    assert [read_orientation(block) for block in [*cut, *other]] == [1] * 10
    assert read_orientation(whole[:4] + b"\xff\xff\xff\x7f" + whole[8:]) == 1


def test_turning_moves_the_marked_corner_home():
    """Tag 0x0112 says where row 0 and column 0 of the file are to be seen; here they meet in the value 1."""
    stored = np.arange(1, 7, dtype=np.uint8).reshape(2, 3, 1)
    corners = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    for orientation, corner in corners.items():
        upright = turn_upright(stored, orientation)

        assert upright[corner].item() == 1
        assert upright.shape == ((3, 2, 1) if orientation >= 5 else (2, 3, 1))
