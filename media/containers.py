"""Picture files before they are decoded: their size, and the parts of them that make the picture.

A decoder is handed what it needs and nothing else. Comments, colour profiles and previews never reach it, so that
none of them can exhaust memory, raise a warning or turn a good picture into an error.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from media.errors import MalformedMediaError, MediaTooLargeError, UnsupportedMediaError

Format = Literal["PNG", "JPEG", "WebP"]
_Part = TypeVar("_Part")

MAX_JPEG_SCANS = 100
"""Encoders write about ten. Thousands fit into a small file, and each costs a pass over the whole picture."""

MAX_PARTS = 1 << 16
"""Of one file. Millions of empty ones fit into a large body, and each costs time."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_EXIF_PREFIX = b"Exif\0\0"
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
# Bit depth, colour type, compression, filter and interlace method, as the header ends.
_PLAIN_PNGS: dict[bytes, Literal["L", "RGB"]] = {b"\x08\0\0\0\0": "L", b"\x08\x02\0\0\0": "RGB"}
_PLAIN_BYTES = 1 << 20
# Of packed pixels, unpacked at once: at most a thousand times as many come out.
_BLOCK_BYTES = 1 << 14
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Application segments 0 (JFIF) and 14 (Adobe) tell the colour space; the others, and comments (0xFE), do not.
_JPEG_DROPPED = frozenset(range(0xE1, 0xF0)) - {0xEE} | {0xFE}
_JPEG_END = 0xD9
_JPEG_SCAN = 0xDA


@dataclass(frozen=True)
class Container:
    """A picture file, opened but not decoded.

    Attributes:
        format: which of the three it is.
        width: pixels, as the header says.
        height: likewise.
        bit_depth: bits of one sample.
        frames: pictures in it, where the file tells without being decoded; more than 1 is an animation.
        exif: its Exif block, or nothing.
        essence: the file again, cut down to what a decoder needs.
    """

    format: Format
    width: int
    height: int
    bit_depth: int
    frames: int
    exif: bytes
    essence: bytes


def open_container(data: bytes) -> Container:
    """Recognise a picture file and walk through its parts.

    Args:
        data: the whole file.

    Returns:
        What the file says of itself.

    Raises:
        UnsupportedMediaError: it is none of the formats taken.
        MalformedMediaError: it is damaged or truncated.
        MediaTooLargeError: it has too many parts, or is a JPEG of too many scans.
    """
    if data.startswith(_PNG_SIGNATURE):
        container = _open_png(data)
    elif data.startswith(_JPEG_SIGNATURE):
        container = _open_jpeg(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        container = _open_webp(data)
    else:
        start = data[:8].hex(" ") or "nothing at all"
        raise UnsupportedMediaError(f"the file begins with {start}, expected a PNG, JPEG or WebP picture: convert it")
    if container.width == 0 or container.height == 0:
        raise MalformedMediaError(
            f"the {container.format} header says {container.width}x{container.height} pixels, "
            "expected at least one: the file is damaged, save the picture again"
        )
    return container


def _open_png(data: bytes) -> Container:
    """Walk through the chunks of a PNG (ISO/IEC 15948); checksums of those that are kept are verified."""
    header: bytes | None = None
    exif, frames, kept = b"", 1, [_PNG_SIGNATURE]
    for kind, start, end in _limited(_png_chunks(data)):
        if header is None and kind != b"IHDR":
            raise MalformedMediaError(f"the PNG file begins with a chunk {kind!r}, expected IHDR: save it again")
        if kind == b"acTL":
            frames = max(frames, int.from_bytes(data[start : min(start + 4, end)]))
        elif kind == b"eXIf":
            exif = exif or data[start:end]
        elif kind in (b"PLTE", b"tRNS", b"IDAT", b"IEND") or header is None:
            if zlib.crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4]):
                raise MalformedMediaError(f"a PNG chunk {kind!r} fails its checksum: the file is damaged, send it anew")
            kept.append(data[start - 8 : end + 4])
            header = data[start:end] if header is None else header
    if header is None or len(header) != 13:
        raise MalformedMediaError("the PNG header has not the 13 bytes that it should have: save the picture again")
    width, height, bit_depth = struct.unpack_from(">IIB", header)
    return Container("PNG", width, height, bit_depth, frames, exif, b"".join(kept))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give each chunk's kind and where its content begins and ends, up to and with the one that closes the file."""
    position, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        start, end = position + 8, position + 8 + length
        if end + 4 > len(data):
            raise _truncated("PNG", len(data))
        yield kind, start, end
        position = end + 4


def plain_pixels(container: Container) -> tuple[Literal["L", "RGB"], bytes] | None:
    """Unpack the commonest kind of PNG: 8 bits, grey or RGB, row after row, nothing transparent, of moderate size.

    Args:
        container: any picture file.

    Returns:
        Pillow's name for the kind, and all rows, each behind its filter byte; None of any other picture, and of one
        that is damaged.
    """
    if container.format != "PNG":
        return None
    (_, start, end), *others, _ = _png_chunks(container.essence)
    header = container.essence[start:end]
    mode, expected = _PLAIN_PNGS.get(header[8:]), _png_pixel_bytes(header)
    if mode is None or expected > _PLAIN_BYTES or any(kind != b"IDAT" for kind, _, _ in others):
        return None
    packed = b"".join([container.essence[start:end] for _, start, end in others])
    try:
        rows = zlib.decompressobj().decompress(packed, expected)
    except zlib.error:
        return None
    return (mode, rows) if len(rows) == expected else None


def check_pixels_are_complete(container: Container) -> None:
    """Refuse a PNG whose pixels end before its last row, which Pillow would leave black without a word.

    This unpacks the pixels, though never more than one block at a time: the size must have been checked before.

    Args:
        container: any picture file; other formats tell by themselves.

    Raises:
        MalformedMediaError: pixels are missing.
    """
    if container.format != "PNG":
        return
    chunks = [(kind, container.essence[start:end]) for kind, start, end in _png_chunks(container.essence)]
    expected = _png_pixel_bytes(chunks[0][1])
    packed = b"".join(content for kind, content in chunks if kind == b"IDAT")
    unpacker, found = zlib.decompressobj(), 0
    try:
        for start in range(0, len(packed), _BLOCK_BYTES):
            found += len(unpacker.decompress(packed[start : start + _BLOCK_BYTES]))
            if found >= expected:
                return
    except zlib.error as error:
        raise MalformedMediaError(f"the pixels of the PNG cannot be unpacked ({error}): send the file anew") from error
    raise MalformedMediaError(f"the PNG holds {found} bytes of pixels, expected {expected}: save the picture again")


def _png_pixel_bytes(header: bytes) -> int:
    """Count the bytes of all rows before compression, each with its filter byte."""
    width, height, bit_depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    bits = bit_depth * _PNG_SAMPLES.get(colour, 1)
    total = 0
    for x, y, step_x, step_y in _PNG_PASSES if interlace else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - x) // step_x), -(-(height - y) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _open_jpeg(data: bytes) -> Container:
    """Walk through the segments of a JPEG (ITU-T T.81, annex B) up to the end of its first picture."""
    header, exif, scans, kept = b"", b"", 0, [data[:2]]
    for marker, start, end in _limited(_jpeg_segments(data)):
        content = data[start + 4 : end]
        if marker in _JPEG_FRAMES:
            if header or len(content) < 6:
                raise MalformedMediaError("the JPEG header is doubled or too short: save the picture again")
            header = content
        if marker == _JPEG_SCAN:
            scans += 1
        if scans > MAX_JPEG_SCANS:
            raise MediaTooLargeError(f"the JPEG has more than {MAX_JPEG_SCANS} scans: save it as a baseline JPEG")
        if marker == 0xE1 and content.startswith(_EXIF_PREFIX):
            exif = exif or content
        if marker not in _JPEG_DROPPED:
            kept.append(data[start:end])
    if not header:
        raise MalformedMediaError("the JPEG has no frame header: the file is damaged, save the picture again")
    bit_depth, height, width = struct.unpack_from(">BHH", header)
    return Container("JPEG", width, height, bit_depth, 1, exif, b"".join(kept))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Give each segment's marker and where it begins and ends; a scan ends with its last coded byte."""
    position, marker = 2, 0
    while marker != _JPEG_END:
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise _truncated("JPEG", len(data))
        marker, start = found[1][0], found.start()
        position = start + 2
        if marker != _JPEG_END:
            position += max(2, int.from_bytes(data[position : position + 2]))
        if marker == _JPEG_SCAN:
            after = _JPEG_MARKER.search(data, position)
            position = after.start() if after else len(data)
        if position > len(data):
            raise _truncated("JPEG", len(data))
        yield marker, start, position


def _open_webp(data: bytes) -> Container:
    """Read the first chunk of a WebP (RFC 9649), which tells the size; its decoder knows the rest."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data) or len(data) < 30:
        raise _truncated("WebP", len(data))
    kind, content = data[12:16], data[20:30]
    if kind == b"VP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", content, 6))
    else:
        raise MalformedMediaError(f"the WebP file begins with a chunk {kind!r}, expected a picture: save it again")
    blocks = [data[start:end] for kind, start, end in _limited(_webp_chunks(data)) if kind == b"EXIF"]
    return Container("WebP", width, height, 8, 1, blocks[0] if blocks else b"", data)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give each chunk's kind and where its content begins and ends, as far as the file goes."""
    end = 12
    while end + 8 <= len(data):
        kind, (length,), start = data[end : end + 4], struct.unpack_from("<I", data, end + 4), end + 8
        yield kind, start, start + length
        end = start + length + length % 2


def _limited(parts: Iterator[_Part]) -> Iterator[_Part]:
    for count, part in enumerate(parts):
        if count == MAX_PARTS:
            raise MediaTooLargeError(f"the file has more than {MAX_PARTS} parts: save the picture again")
        yield part


def _truncated(name: Format, length: int) -> MalformedMediaError:
    return MalformedMediaError(f"the {name} file breaks off after {length} bytes: it is truncated, send it whole")
