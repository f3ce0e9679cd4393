"""Files that are damaged, or were made to do harm."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from media import images
from media.containers import MAX_JPEG_SCANS, MAX_PARTS
from media.errors import MalformedMediaError, MediaError, MediaGeometryError, MediaTooLargeError
from media.images import read_image

LIMIT = 1 << 20


def read(data, channels=3):
    return read_image(data, channels=channels, max_pixels=LIMIT)


def deflated_zeros(size):
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    return b"".join([packer.compress(block) for _ in range(size >> 20)] + [packer.flush()])


def test_a_decompression_bomb_is_refused(png_chunk):
    header = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", deflated_zeros(20000 * 2501)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)

    assert len(data) < 100_000
    with pytest.raises(MediaTooLargeError, match="20000x20000 = 400000000 pixels"):
        read_image(data, channels=1, max_pixels=2**24)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "VP8X", "VP8L", "VP8 "])
def test_the_size_is_checked_before_anything_is_decoded(png, rgb, save, kind):
    """Pixels that cannot be decoded at all do not matter where the header already says too much."""
    if kind == "PNG":
        data = png(b"", size=(2**31 - 1, 2**31 - 1), bits=8, colour=2)
    elif kind == "JPEG":
        data = bytearray(save(rgb, "JPEG"))
        start = data.index(b"\xff\xc0")
        data[start + 5 : start + 9] = b"\xff\xff\xff\xff"
    else:
        content = {
            "VP8X": bytes(4) + b"\xff\x3f\x00" * 2,
            "VP8L": b"\x2f" + (16383 | 16383 << 14).to_bytes(4, "little") + bytes(5),
            "VP8 ": bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
        }[kind]
        chunk = kind.encode() + struct.pack("<I", len(content)) + content
        data = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk

    with pytest.raises(MediaTooLargeError, match="scale it down"):
        read(bytes(data))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WebP", {}),
        ("WebP", {"lossless": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_a_truncated_file_is_never_half_decoded(rgb, save, kind, options):
    data = save(rgb, kind, **options)

    for length in range(len(data)):
        with pytest.raises(MediaError):
            read(data[:length])


def test_pixels_that_break_off_inside_a_whole_file(png, rgb):
    rows = b"".join(b"\0" + row.tobytes() for row in rgb[:-1])

    with pytest.raises(MalformedMediaError, match="2847 bytes of pixels, expected 2920"):
        read(png(rows, size=(24, 40), bits=8, colour=2))


@pytest.mark.parametrize("filter_type", range(5))
@pytest.mark.parametrize("colour", [0, 2])
def test_a_missing_byte_never_goes_unnoticed(png, filter_type, colour):
    """Whatever the filter: the last row may be whole, partly there, or missing; and black, which is no fault."""
    row = bytes([filter_type]) + bytes(range(1, 1 + 4 * (3 if colour else 1)))
    for rows in (row * 3, row * 2 + bytes(len(row))):
        assert read(png(rows, size=(4, 3), bits=8, colour=colour)).shape == (3, 4, 3)
        for end in range(len(rows)):
            with pytest.raises(MalformedMediaError, match="bytes of pixels, expected"):
                read(png(rows[:end], size=(4, 3), bits=8, colour=colour))


def test_pixels_that_cannot_be_unpacked(png, png_chunk, rgb):
    data = png(b"", size=(24, 40), bits=8, colour=2)
    packed = bytearray(zlib.compress(rgb.tobytes()))
    packed[10:20] = bytes(10)
    end = data.index(b"IDAT") - 4

    with pytest.raises(MalformedMediaError, match="cannot be unpacked"):
        read(data[:end] + png_chunk(b"IDAT", bytes(packed)) + png_chunk(b"IEND", b""))


@pytest.mark.parametrize("packed", ["789c63f9", "789c63defcfc33cb26f5"])
def test_packed_pixels_that_break_off_within_the_last_row(png, png_chunk, packed):
    """Of the first there is one byte of two, of the second there are seven of eight."""
    data = png(b"", size=(1, 1) if packed == "789c63f9" else (1, 4), bits=8, colour=0)
    end = data.index(b"IDAT") - 4
    with pytest.raises(MalformedMediaError, match="bytes of pixels, expected"):
        read(data[:end] + png_chunk(b"IDAT", bytes.fromhex(packed)) + png_chunk(b"IEND", b""))


@pytest.mark.parametrize("place", ["IHDR", "IDAT"])
def test_a_checksum_that_fails(rgb, save, place):
    data = bytearray(save(rgb, "PNG"))
    data[data.index(place.encode()) + 6] ^= 1

    with pytest.raises(MalformedMediaError, match="fails its checksum"):
        read(bytes(data))


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_no_pixels(png, size):
    with pytest.raises(MalformedMediaError, match="expected at least one"):
        read(png(b"\0", size=size, bits=8, colour=0))


def test_what_is_no_pixel_is_never_looked_at(png):
    """Texts that unpack to a gigabyte, broken profiles and keys that pose as options leave the picture alone."""
    huge = b"k\0\0" + deflated_zeros(64 << 20)
    before = [(b"zTXt", huge), (b"iCCP", b"icc\0\x07broken"), (b"tEXt", b"transparency\0" + b"1"), (b"gAMA", b"1")]
    data = png(b"\0\x01\x02\x03", size=(3, 1), bits=8, colour=0, before=before)

    assert read(data, 1).ravel().tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"acTL", struct.pack(">II", 0, 0))],
        [(b"acTL", struct.pack(">II", 1, 0)), (b"acTL", struct.pack(">II", 1, 0))],
        [(b"acTL", b"")],
    ],
)
def test_a_broken_animation_header_of_one_picture(png, chunks):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        assert read(png(b"\0\x09", size=(1, 1), bits=8, colour=0, before=chunks), 1).item() == 9
    assert not caught


def test_the_larger_of_two_animation_headers_counts(png):
    chunks = [(b"acTL", struct.pack(">II", frames, 0)) for frames in (1, 5)]

    with pytest.raises(MediaGeometryError, match="5 frames"):
        read(png(b"\0\0", size=(1, 1), bits=8, colour=0, before=chunks))


@pytest.mark.parametrize("order", ["<", ">"])
def test_broken_exif_is_upright_and_silent(rgb, save, exif, order):
    whole = exif(6, order)
    broken = [whole[:length] for length in (4, 9, 20, 30)] + [exif(9, order), exif(6, order, kind=4), b"junk"]
    offset_beyond = whole[:4] + b"\xff\xff\xff\x7f" + whole[8:]
    for block in [*broken, offset_beyond, exif(0, order)]:
        data = save(rgb, "PNG", exif=b"Exif\0\0" + block)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")

            assert np.array_equal(read(data), rgb)
        assert not caught


def test_a_jpeg_with_broken_exif_is_silent(rgb, save):
    """Pillow alone warns of this one as soon as it is opened."""
    data = save(rgb, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(30))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        assert read(data).shape == rgb.shape
    assert not caught


def test_a_jpeg_of_endless_scans_is_refused(rgb, save):
    data = save(rgb, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan, end = data[last:-2], data[-2:]

    assert read(data[:last] + scan * 3 + end).shape == rgb.shape
    with pytest.raises(MediaTooLargeError, match="more than 100 scans"):
        read(data[:last] + scan * (MAX_JPEG_SCANS + 1) + end)


def test_a_file_of_endless_parts_is_refused(png, rgb, save):
    pixels = {"size": (1, 1), "bits": 8, "colour": 0}
    jpeg = save(rgb, "JPEG")
    webp = save(rgb, "WebP", lossless=True, xmp=b"x") + b"JUNK\0\0\0\0" * MAX_PARTS

    assert read(png(b"\0\7", **pixels, before=[(b"abCd", b"")] * 100), 1).item() == 7
    for data in (
        png(b"\0\7", **pixels, before=[(b"abCd", b"")] * MAX_PARTS),
        jpeg[:2] + b"\xff\xe1\0\2" * MAX_PARTS + jpeg[2:],
        webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:],
    ):
        with pytest.raises(MediaTooLargeError, match="more than 65536 parts"):
            read(data)


def test_a_jpeg_without_or_with_two_frames(rgb, save):
    data = save(rgb, "JPEG")
    start = data.index(b"\xff\xc0")
    frame = data[start : start + 19]

    with pytest.raises(MalformedMediaError, match="doubled"):
        read(data[:start] + frame + data[start:])
    with pytest.raises(MalformedMediaError, match="no frame header"):
        read(data.replace(frame, b""))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.replace(b"IHDR", b"IDAT", 1), "expected IHDR"),
        (lambda data: data[:8] + b"\0\0\0\0IHDR" + zlib.crc32(b"IHDR").to_bytes(4) + data[33:], "not the 13 bytes"),
    ],
)
def test_a_png_without_its_header(rgb, save, change, message):
    with pytest.raises(MalformedMediaError, match=message):
        read(change(save(rgb, "PNG")))


def test_a_webp_without_its_picture(rgb, save):
    data = save(rgb, "WebP")

    with pytest.raises(MalformedMediaError, match="expected a picture"):
        read(data[:12] + b"JUNK" + data[16:])


@pytest.mark.parametrize("error", [MemoryError(), Image.DecompressionBombError("too many")])
def test_a_decoder_out_of_memory(rgb, save, monkeypatch, error):
    def fail(file):
        raise error

    monkeypatch.setitem(images._DECODERS, "JPEG", fail)
    with pytest.raises(MediaTooLargeError, match="no memory"):
        read(save(rgb, "JPEG"))


@pytest.fixture(scope="module")
def corpus(rgb, save, exif):
    """One small file of every kind."""
    picture = Image.fromarray(rgb)
    return [
        save(rgb, "PNG", exif=b"Exif\0\0" + exif(6)),
        save(rgb[..., 0].astype(np.uint16) * 257, "PNG"),
        save(picture.quantize(32), "PNG", transparency=bytes(range(32))),
        save(picture.convert("LA"), "PNG"),
        save(rgb, "JPEG", exif=b"Exif\0\0" + exif(3)),
        save(rgb, "JPEG", progressive=True),
        save(picture.convert("CMYK"), "JPEG"),
        save(rgb, "WebP"),
        save(picture.convert("RGBA"), "WebP", lossless=True, exif=b"Exif\0\0" + exif(8)),
    ]


def mended(data):
    """Make a PNG's checksums right again, so that a mutation gets past them."""
    position = 8
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(data[position : position + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[position + 4 : end]).to_bytes(4)
        position = end + 4
    return data


@settings(max_examples=600, deadline=None, database=None, derandomize=True)
@given(draw=st.data())
def test_mutated_files_give_a_picture_or_a_clear_error(corpus, draw):
    data = bytearray(draw.draw(st.sampled_from(corpus)))
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.one_of(st.integers(8, 64), st.integers(0, len(data) - 1)))
        junk = draw.draw(st.binary(max_size=6))
        data[place : place + draw.draw(st.integers(0, 6))] = junk
    if data.startswith(b"\x89PNG") and draw.draw(st.booleans()):
        data = mended(data)
    try:
        image = read(bytes(data), draw.draw(st.sampled_from([1, 3])))
    except MediaError:
        pass
    else:
        assert image.dtype == np.uint8
        assert image.ndim == 3


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(
    start=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x20\0\0\0WEBPVP8X", b"RIFF\x20\0\0\0WEBPVP8 "]
    ),
    rest=st.binary(max_size=80),
)
def test_random_bytes_give_a_clear_error(start, rest):
    with pytest.raises(MediaError):
        read(start + rest)
