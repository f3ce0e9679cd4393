import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from media.errors import MalformedMediaError, MediaGeometryError, MediaTooLargeError, UnsupportedMediaError
from media.images import contact_sheet, read_image, write_png

LIMIT = 1 << 20


def read(data, channels=3):
    return read_image(data, channels=channels, max_pixels=LIMIT)


def over_white(colour, alpha):
    return np.rint(colour * (alpha / 255.0) + 255.0 * (1.0 - alpha / 255.0))


def rows_of(samples):
    """Put the filter byte 0 before every row."""
    return b"".join(b"\0" + row.tobytes() for row in samples)


@pytest.mark.parametrize(
    "options", [("PNG", {}), ("WebP", {"lossless": True}), ("WebP", {"lossless": True, "xmp": b"x"})]
)
def test_lossless_files_are_read_exactly(rgb, save, options):
    data = save(rgb, options[0], **options[1])

    assert np.array_equal(read(data), rgb)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("JPEG", {"quality": 95, "subsampling": 2, "progressive": True}),
        ("JPEG", {"quality": 95, "restart_marker_blocks": 1}),
        ("WebP", {"quality": 95}),
    ],
)
def test_lossy_files_are_read_closely(rgb, save, kind, options):
    error = read(save(rgb, kind, **options)).astype(int) - rgb

    assert np.abs(error).mean() < 4.0


def test_grey_is_luma(rgb, save):
    grey = read(save(rgb, "PNG"), channels=1)

    assert grey.shape == (40, 24, 1)
    assert np.abs(grey[..., 0] - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_files_keep_their_levels(save, channels):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)

    assert np.array_equal(read(save(grey, "PNG"), channels), grey[..., None].repeat(channels, axis=-1))


def test_written_pictures_are_read_by_pillow(rgb):
    for image in (rgb, rgb[..., :1]):
        with Image.open(io.BytesIO(write_png(image))) as opened:
            assert opened.format == "PNG"
            assert np.array_equal(np.asarray(opened).reshape(image.shape), image)


def test_sixteen_bit_grey_is_scaled_to_the_nearest_level(png):
    levels = np.arange(65536, dtype=">u2").reshape(256, 256)
    data = png(rows_of(levels), size=(256, 256), bits=16, colour=0)

    assert np.array_equal(read(data, 1)[..., 0], np.rint(levels / 257.0))


def test_sixteen_bit_colour_keeps_its_upper_byte(png):
    levels = np.random.default_rng(0).integers(0, 65536, (5, 7, 3)).astype(">u2")
    data = png(rows_of(levels), size=(7, 5), bits=16, colour=2)

    assert np.array_equal(read(data), levels >> 8)


def test_sixteen_bit_alpha_lies_over_white(png):
    levels = np.random.default_rng(1).integers(0, 65536, (5, 7, 4)).astype(">u2")
    grey = png(rows_of(levels[..., ::3]), size=(7, 5), bits=16, colour=4)
    colour = png(rows_of(levels), size=(7, 5), bits=16, colour=6)
    high = levels >> 8

    assert np.array_equal(read(colour), over_white(high[..., :3], high[..., 3:]))
    assert np.array_equal(read(grey, 1), over_white(high[..., :1], high[..., 3:]))


def test_one_bit(png):
    bits = np.random.default_rng(2).integers(0, 2, (6, 16)).astype(np.uint8)
    data = png(rows_of(np.packbits(bits, axis=1)), size=(16, 6), bits=1, colour=0)

    assert np.array_equal(read(data, 1)[..., 0], bits * 255)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey_is_white(png, bits):
    levels = np.arange(16) * (2**bits - 1) // 15
    packed = np.packbits((levels[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).ravel())
    key = int(levels[5])
    data = png(rows_of(packed[None]), size=(16, 1), bits=bits, colour=0, before=[(b"tRNS", struct.pack(">H", key))])
    expected = np.where(levels == key, 255, np.rint(levels * 255.0 / (2**bits - 1)))

    assert np.array_equal(read(data, 1)[0, :, 0], expected)


def test_transparent_colour_is_white(png, rgb):
    key = rgb[3, 4]
    data = png(rows_of(rgb), size=(24, 40), bits=8, colour=2, before=[(b"tRNS", struct.pack(">HHH", *key))])
    expected = rgb.copy()
    expected[3, 4] = 255

    assert np.array_equal(read(data), expected)


def test_transparent_colour_of_sixteen_bits_is_refused(png):
    data = png(bytes(7), size=(1, 1), bits=16, colour=2, before=[(b"tRNS", bytes(6))])

    with pytest.raises(UnsupportedMediaError, match="save it with 8 bits"):
        read(data)


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WebP")])
def test_alpha_lies_over_white(save, mode, kind):
    pixels = np.random.default_rng(3).integers(0, 256, (9, 8, len(mode)), dtype=np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WebP" else {}
    data = save(Image.fromarray(pixels), kind, **options)
    expected = over_white(pixels[..., :-1], pixels[..., -1:])

    assert np.array_equal(read(data), np.broadcast_to(expected, (9, 8, 3)))


@pytest.mark.parametrize("alpha", [b"", b"\xff\x00", bytes(range(0, 256, 16))])
def test_palette(png, alpha):
    palette = np.random.default_rng(4).integers(0, 256, (16, 3), dtype=np.uint8)
    indices = np.random.default_rng(5).integers(0, 16, (6, 10), dtype=np.uint8)
    before = [(b"PLTE", palette.tobytes()), *([(b"tRNS", alpha)] if alpha else [])]
    data = png(rows_of(indices), size=(10, 6), bits=8, colour=3, before=before)
    opacity = np.full((16, 1), 255)
    opacity[: len(alpha), 0] = list(alpha)

    assert np.array_equal(read(data), over_white(palette, opacity)[indices])


@pytest.mark.parametrize(("height", "width"), [(40, 24), (1, 1), (2, 3), (5, 1)])
def test_interlaced(png, rgb, height, width):
    rgb = rgb[:height, :width]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(rows_of(rgb[y::dy, x::dx]) for y, x, dy, dx in passes if width > x)
    data = png(rows, size=(width, height), bits=8, colour=2, interlace=1)

    assert np.array_equal(read(data), rgb)


def cmyk_of(rgb):
    """Take out as much black as there is; the classical inks."""
    key = 255 - rgb.max(axis=-1, keepdims=True).astype(int)
    inks = (255 - rgb.astype(int) - key) * 255 // np.maximum(255 - key, 1)
    return np.concatenate([inks, key], axis=-1).astype(np.uint8)


def test_cmyk(rgb, save):
    data = save(Image.fromarray(cmyk_of(rgb), "CMYK"), "JPEG", quality=97, subsampling=0)

    assert b"Adobe" in data
    assert np.abs(read(data).astype(int) - rgb).mean() < 4.0


def test_ycck(rgb, save):
    """Adobe's other four-channel JPEG: inks as luma and chroma, told by the transform byte of its marker."""
    cmyk = cmyk_of(rgb)
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(cmyk[..., :3])).convert("YCbCr"))
    stored = np.concatenate([255 - luma, cmyk[..., 3:]], axis=-1)
    data = bytearray(save(Image.fromarray(stored, "CMYK"), "JPEG", quality=97, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2

    assert np.abs(read(bytes(data)).astype(int) - rgb).mean() < 4.0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP"])
def test_exif_orientation(rgb, save, exif, kind, orientation):
    data = save(rgb, kind, exif=b"Exif\0\0" + exif(orientation))
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))

    assert np.array_equal(read(data), expected)


def test_exif_after_the_pixels_of_a_png(rgb, png, exif):
    data = png(rows_of(rgb), size=(24, 40), bits=8, colour=2, after=[(b"eXIf", exif(6))])

    assert np.array_equal(read(data), np.rot90(rgb, -1))


@pytest.mark.parametrize("kind", ["PNG", "WebP"])
def test_animations_are_refused_with_their_number_of_frames(rgb, save, kind):
    frames = [Image.fromarray(np.roll(rgb, shift, axis=0)) for shift in range(3)]
    data = save(frames[0], kind, save_all=True, append_images=frames[1:])

    with pytest.raises(MediaGeometryError, match="3 frames, expected 1"):
        read(data)


def test_a_camera_preview_behind_the_picture_is_no_animation(rgb, save):
    with_preview = save(rgb, "MPO", save_all=True, append_images=[Image.fromarray(rgb[:8, :8])], quality=95)

    assert read(with_preview).shape == rgb.shape


def test_what_is_larger_than_allowed_is_refused(rgb, save):
    for kind in ("PNG", "JPEG", "WebP"):
        data = save(rgb, kind)

        assert read_image(data, channels=3, max_pixels=rgb[..., 0].size).shape == rgb.shape
        with pytest.raises(MediaTooLargeError, match="24x40 = 960 pixels, expected at most 959"):
            read_image(data, channels=3, max_pixels=rgb[..., 0].size - 1)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(20), b"BM" + bytes(60), b"RIFF\0\0\0\0WAVEfmt "])
def test_other_formats_are_refused(data):
    with pytest.raises(UnsupportedMediaError, match="expected a PNG, JPEG or WebP"):
        read(data)


@pytest.mark.parametrize(("count", "rows", "columns"), [(2, 1, 2), (4, 2, 2), (7, 3, 3), (12, 3, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_contact_sheet(count, rows, columns, channels):
    images = np.random.default_rng(6).integers(0, 256, (count, 6, 6, channels), dtype=np.uint8)
    sheet = contact_sheet(images)
    taken = np.zeros(sheet.shape[:2], dtype=bool)

    assert sheet.shape == (rows * 8 - 2, columns * 8 - 2, channels)
    for index, image in enumerate(images):
        place = (
            slice(8 * (index // columns), 8 * (index // columns) + 6),
            slice(8 * (index % columns), 8 * (index % columns) + 6),
        )
        assert np.array_equal(sheet[place], image)
        taken[place] = True
    assert (sheet[~taken] == 128).all()


def test_contact_sheet_of_wide_pictures_is_nearly_square():
    height, width, _ = contact_sheet(np.zeros((16, 10, 40, 1), dtype=np.uint8)).shape

    assert 0.5 < height / width < 2.0


def test_contact_sheet_of_one_and_of_none(rgb):
    assert np.array_equal(contact_sheet(rgb[None]), rgb)
    with pytest.raises(MediaGeometryError, match="at least one"):
        contact_sheet(rgb[None][:0])


def test_two_sizes_in_one_file_are_refused(rgb, save):
    """A hierarchical JPEG's second header must not smuggle in a size that was not checked."""
    data = save(rgb, "JPEG")
    scan = data.index(b"\xff\xda")
    header = (
        b"\xff\xde\x00\x11\x08" + struct.pack(">HH", 30000, 30000) + b"\x03" + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    )

    with pytest.raises(MalformedMediaError, match="two sizes"):
        read(data[:scan] + header + data[scan:])
