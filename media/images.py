"""Pictures: files to arrays and back."""

import io
import math
import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from media.containers import Container, Format, check_pixels_are_complete, open_container, plain_pixels
from media.errors import (
    MalformedMediaError,
    MediaError,
    MediaGeometryError,
    MediaTooLargeError,
    UnsupportedMediaError,
)
from media.exif import read_orientation, turn_upright

_DECODERS: dict[Format, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_WHITE = 255
_GAP = 2
_GAP_INTENSITY = 128


def read_image(data: bytes, *, channels: Literal[1, 3], max_pixels: int) -> UInt8[np.ndarray, "H W C"]:
    """Decode a PNG, JPEG or WebP file.

    Its Exif orientation is applied, transparency is laid over white, and CMYK, palettes and every bit depth become
    8 bits a channel: 16-bit grey rounds v / 257, 16-bit colour keeps the upper byte, as Pillow reads it. Grey is the
    luma of ITU-R BT.601. Colour profiles are ignored.

    Args:
        data: the whole file.
        channels: 1 for grey, 3 for RGB.
        max_pixels: the most that the header may announce; checked before anything is decoded.

    Returns:
        The upright picture, in 0 .. 255.

    Raises:
        MalformedMediaError: the file is damaged or truncated.
        UnsupportedMediaError: the format, or this variant of it, is not read.
        MediaTooLargeError: it has more pixels than `max_pixels`.
        MediaGeometryError: it is animated.
    """
    container = open_container(data)
    _check_size(container, max_pixels)
    try:
        pixels = _decode(container)
    except MediaError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise MediaTooLargeError(f"there is no memory to decode the {container.format} file: send less") from error
    # Pillow tells of bad files by whatever its parsers stumble over: OSError, SyntaxError, ValueError, struct.error...
    except Exception as error:
        raise MalformedMediaError(
            f"the {container.format} file cannot be decoded ({error}): it is damaged or truncated, send it anew"
        ) from error
    if pixels.shape[-1] != channels:
        pixels = _with_channels(pixels, channels)
    return np.ascontiguousarray(turn_upright(pixels, read_orientation(container.exif)))


def write_png(image: UInt8[np.ndarray, "H W C"]) -> bytes:
    """Encode a grey or RGB picture as PNG.

    Args:
        image: pixels, one or three channels.

    Returns:
        The file.
    """
    file = io.BytesIO()
    to_pillow(image).save(file, "PNG")
    return file.getvalue()


def contact_sheet(images: UInt8[np.ndarray, "B H W C"], columns: int | None = None) -> UInt8[np.ndarray, "h w C"]:
    """Lay pictures out in rows, on a sheet as near to a square as they allow.

    Args:
        images: at least one; they go from left to right, then down.
        columns: pictures in a row, at least 1; None for the squarest sheet.

    Returns:
        The sheet, with a thin grey gap between pictures; a single picture is returned as it is.

    Raises:
        MediaGeometryError: there is no picture.
    """
    B, H, W, C = images.shape
    if B == 0:
        raise MediaGeometryError("a contact sheet of no pictures was asked for, expected at least one: ask for more")
    columns = min(B, columns or math.ceil(math.sqrt(B * H / W)))
    rows = -(-B // columns)
    cells = np.full((rows * columns, H + _GAP, W + _GAP, C), _GAP_INTENSITY, dtype=np.uint8)
    cells[:B, :H, :W] = images
    sheet = cells.reshape(rows, columns, H + _GAP, W + _GAP, C).swapaxes(1, 2)
    sheet = sheet.reshape(rows * (H + _GAP), columns * (W + _GAP), C)
    return np.ascontiguousarray(sheet[:-_GAP, :-_GAP])


def to_pillow(image: UInt8[np.ndarray, "H W C"]) -> Image.Image:
    """Give a grey or RGB array to Pillow."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def from_pillow(image: Image.Image) -> UInt8[np.ndarray, "H W C"]:
    """Take an 8-bit picture from Pillow, its channels as the last axis even where there is one."""
    pixels = np.array(image, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _check_size(container: Container, max_pixels: int) -> None:
    """Refuse what is too large or animated, from the header alone."""
    if container.width * container.height > max_pixels:
        raise MediaTooLargeError(
            f"the picture has {container.width}x{container.height} = {container.width * container.height} pixels, "
            f"expected at most {max_pixels}: scale it down"
        )
    _check_frames(container.frames)


def _check_frames(frames: int) -> None:
    if frames > 1:
        raise MediaGeometryError(f"the file is animated and has {frames} frames, expected 1: send one frame")


def _decode(container: Container) -> UInt8[np.ndarray, "H W C"]:
    """Decode to opaque grey or RGB.

    The decoder's class is called by name: `Image.open` adds only a search among formats and a limit of its own,
    which lives in a global and warns.
    """
    if (plain := _decode_plain(container)) is not None:
        return plain
    with _DECODERS[container.format](io.BytesIO(container.essence)) as image:
        if image.size != (container.width, container.height):
            raise MalformedMediaError(
                f"the {container.format} file has two sizes, {container.width}x{container.height} and "
                f"{image.width}x{image.height}: it is damaged, save the picture again"
            )
        _check_frames(getattr(image, "n_frames", 1))
        check_pixels_are_complete(container)
        image.load()
        key = image.info.get("transparency")
        if image.mode in ("P", "RGBA", "LA"):
            return _over_white(from_pillow(image.convert("RGBA")))
        if image.mode == "I;16":
            return _over_key(_narrow(np.asarray(image)), np.asarray(image)[..., None], key)
        if image.mode == "CMYK":
            return from_pillow(image.convert("RGB"))
        pixels = from_pillow(image.convert("L") if image.mode == "1" else image)
        return _over_key(pixels, pixels, _scale_key(key, container.bit_depth, image.mode))


def _decode_plain(container: Container) -> UInt8[np.ndarray, "H W C"] | None:
    """Decode the commonest kind of PNG without unpacking it twice; None where that cannot be.

    Pillow undoes the filters of rows that are packed, and so is given them packed without compression.
    """
    if (found := plain_pixels(container)) is None:
        return None
    mode, rows = found
    try:
        image = Image.frombytes(mode, (container.width, container.height), zlib.compress(rows, 0), "zip", mode, 0)
    except ValueError:
        return None
    return np.frombuffer(image.tobytes(), np.uint8).reshape(container.height, container.width, -1)


def _narrow(grey: UInt16[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 1"]:
    """Bring 16 bits to 8: the nearest of the 256 levels that are 257 apart."""
    return ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)[..., None]


def _over_white(rgba: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 3"]:
    """Lay a picture over white, c a + 255 (1 - a) rounded; every step fits into 16 bits."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blend = rgba[..., :3] * alpha + _WHITE * (_WHITE - alpha)
    return ((blend + 127) // 255).astype(np.uint8)


def _scale_key(key: int | tuple[int, ...] | None, bit_depth: int, mode: str) -> int | tuple[int, ...] | None:
    """Bring the one colour of a PNG that is transparent from the file's bit depth to 8 bits."""
    if key is None or mode == "1":
        return key
    if bit_depth == 16:
        raise UnsupportedMediaError(
            "the PNG has 16 bits a channel and one colour that is transparent, which is not read: "
            "save it with 8 bits or with an alpha channel"
        )
    if isinstance(key, tuple):
        return tuple(level & 255 for level in key)
    levels = 2**bit_depth - 1
    return int(key & levels) * 255 // levels


def _over_key(
    pixels: UInt8[np.ndarray, "H W C"], raw: np.ndarray, key: int | tuple[int, ...] | None
) -> UInt8[np.ndarray, "H W C"]:
    """Turn white what has the transparent colour, where there is one; `raw` has the units of `key`."""
    if key is not None:
        pixels[(raw == np.asarray(key)).all(axis=-1)] = _WHITE
    return pixels


def _with_channels(pixels: UInt8[np.ndarray, "H W C"], channels: Literal[1, 3]) -> UInt8[np.ndarray, "H W c"]:
    return from_pillow(to_pillow(pixels).convert("L" if channels == 1 else "RGB"))
