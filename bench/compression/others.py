"""How many bytes others need for the same pictures and sounds, in whole files."""

import bz2
import gzip
import io
from collections.abc import Iterator

import numpy as np
import soundfile
from jaxtyping import Int16
from PIL import Image

from bench.compression.pictures import Picture
from media.images import to_pillow

OF_PICTURES = ("PNG", "WebP lossless", "gzip", "bz2")
OF_SOUNDS = ("FLAC", "gzip", "bz2")
_LAST_BLOCK, _STREAM_INFO = 0x80, 0


def of_picture(picture: Picture, plain: bytes) -> tuple[int, ...]:
    """Give the bytes of `OF_PICTURES`: of two values alone, at one bit a pixel.

    Args:
        picture: any.
        plain: what gzip and bz2 are given.
    """
    image = to_pillow(picture)
    binary = image.convert("1") if picture.shape[2] == 1 and np.isin(picture, (0, 255)).all() else image
    png = _saved(binary, format="PNG", optimize=True)
    webp = _saved(image.convert("RGB"), format="WEBP", lossless=True, quality=100, method=6)
    return png, webp, len(gzip.compress(plain, 9, mtime=0)), len(bz2.compress(plain, 9))


def of_sound(samples: Int16[np.ndarray, " T"], sample_rate_hz: int) -> tuple[int, ...]:
    """Give the bytes of `OF_SOUNDS`: of FLAC at its strongest, without its comments and padding."""
    file, plain = io.BytesIO(), samples.astype("<i2").tobytes()
    soundfile.write(file, samples, sample_rate_hz, format="FLAC", subtype="PCM_16", compression_level=1.0)
    flac, kept = file.getvalue(), 0
    for kind, start, stop in _flac_blocks(flac):
        kept += stop - start if kind in (_STREAM_INFO, None) else 0
    return kept, len(gzip.compress(plain, 9, mtime=0)), len(bz2.compress(plain, 9))


def _flac_blocks(data: bytes) -> Iterator[tuple[int | None, int, int]]:
    """Give the blocks of a FLAC file with their kinds; that of its mark and of its frames is None."""
    position, is_last = 4, False
    yield None, 0, position
    while not is_last:
        kind, stop = data[position], position + 4 + int.from_bytes(data[position + 1 : position + 4], "big")
        is_last = bool(kind & _LAST_BLOCK)
        yield kind & ~_LAST_BLOCK, position, stop
        position = stop
    yield None, position, len(data)


def _saved(image: Image.Image, **how: str | int | bool) -> int:
    """Give the bytes of a file."""
    file = io.BytesIO()
    image.save(file, **how)  # type: ignore[arg-type]
    return file.tell()
