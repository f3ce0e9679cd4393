import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def rgb() -> np.ndarray:
    """A smooth picture, higher than wide, without symmetry: JPEG keeps it nearly unchanged."""
    rows, columns = np.mgrid[0:40, 0:24]
    return np.stack([rows * 6, columns * 10, 255 - rows * 2 - columns * 5], axis=-1).astype(np.uint8)


@pytest.fixture(scope="session")
def save() -> Callable[..., bytes]:
    """Encode with Pillow: an array or a Pillow picture, a format, and the encoder's options."""

    def encode(image: np.ndarray | Image.Image, format: str, **options: object) -> bytes:  # noqa: A002
        file = io.BytesIO()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(file, format, **options)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def png_chunk() -> Callable[[bytes, bytes], bytes]:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return chunk


@pytest.fixture(scope="session")
def png(png_chunk: Callable[[bytes, bytes], bytes]) -> Callable[..., bytes]:
    """Write a PNG by hand, from rows of packed samples, with further chunks before and after the pixels."""

    def write(
        rows: bytes,
        *,
        size: tuple[int, int],
        bits: int,
        colour: int,
        interlace: int = 0,
        before: list[tuple[bytes, bytes]] = [],  # noqa: B006
        after: list[tuple[bytes, bytes]] = [],  # noqa: B006
    ) -> bytes:
        header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, interlace)
        chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), *after, (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)

    return write


@pytest.fixture(scope="session")
def exif() -> Callable[..., bytes]:
    """Write a TIFF block with an orientation, in either byte order."""

    def write(orientation: int, order: str = "<", kind: int = 3) -> bytes:
        start = b"II*\0" if order == "<" else b"MM\0*"
        entries = struct.pack(order + "HHIHH", 0x0100, 3, 1, 640, 0)
        entries += struct.pack(order + "HHIHH", 0x0112, kind, 1, orientation, 0)
        return start + struct.pack(order + "IH", 8, 2) + entries + bytes(4)

    return write
