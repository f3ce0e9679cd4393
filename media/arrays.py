"""Arrays as files: npy and npz (NumPy enhancement proposal 1). Nothing is ever unpickled.

Headers come from strangers: they are matched against what is allowed rather than evaluated, and what they announce is
compared with what is there before any memory is taken.
"""

import io
import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from media.errors import MalformedMediaError, MediaTooLargeError, UnsupportedMediaError

MAX_MEMBERS = 64
"""Most arrays in one npz."""
MAX_DIMENSIONS = 32

_MAGIC = b"\x93NUMPY"
_MAX_HEADER_BYTES = 1 << 16
_FIELD = re.compile(
    r"""\s*(['"])(\w+)\1\s*:\s*((['"])[^'"\\]*\4|True|False|\([\d\s,]*\)|\[.*\])\s*(?:,|$)""", re.DOTALL
)
_DTYPE = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f[248])")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_ENCRYPTED = 0x1
# The earliest date that a zip can hold.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def read_npy(data: bytes, *, max_bytes: int) -> np.ndarray:
    """Read one array from an npy file, format 1.0, 2.0 or 3.0.

    Args:
        data: the whole file.
        max_bytes: the largest array that is taken.

    Returns:
        Booleans, integers or floats, of native byte order, in C order; where the file has them so, a view of it that
        cannot be written.

    Raises:
        MalformedMediaError: the file is damaged, or shorter or longer than its header says.
        UnsupportedMediaError: it holds something else than plain numbers, or is of a newer format.
        MediaTooLargeError: the array is larger than `max_bytes`.
    """
    header = _read_header(data)
    if header.announced > max_bytes:
        raise MediaTooLargeError(
            f"the npy array of shape {_shorten(header.shape)} takes {header.announced} bytes, expected at most "
            f"{max_bytes}: send it in parts"
        )
    expected, found = header.size, len(data) - header.length
    if found != expected:
        raise MalformedMediaError(
            f"the npy header announces {expected} bytes of {header.dtype} in the shape {header.shape}, "
            f"the file holds {found}: send it whole and nothing after it"
        )
    if header.dtype == np.bool_:
        # A byte that is neither 0 nor 1 would make a boolean that equals neither.
        flat = np.frombuffer(data, np.uint8, offset=header.length) != 0
    else:
        flat = np.frombuffer(data, header.dtype, offset=header.length)
    array = flat.reshape(header.shape, order="F" if header.fortran_order else "C")
    return np.require(array, header.dtype.newbyteorder("="), ["C", "ALIGNED"])


def write_npy(array: np.ndarray) -> bytes:
    """Write one array as an npy file.

    Args:
        array: of booleans, integers or floats.

    Returns:
        The file.
    """
    return _written_header(array.dtype, array.shape) + np.ascontiguousarray(array).tobytes()


@lru_cache(maxsize=256)
def _written_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Write the header of an array in C order; few differ in the life of a service."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def read_npz(data: bytes, *, max_bytes: int) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file, stored or deflated.

    Args:
        data: the whole file.
        max_bytes: the most that all members together may unpack to, headers included.

    Returns:
        The arrays by name, in the order of the archive, each as `read_npy` gives it.

    Raises:
        MalformedMediaError: the archive or a member is damaged.
        UnsupportedMediaError: a member is not a plain npy file.
        MediaTooLargeError: there are more than `MAX_MEMBERS` members, or more than `max_bytes`.
    """
    if data.count(_DIRECTORY_ENTRY) > MAX_MEMBERS:
        raise MediaTooLargeError(f"the npz has more than {MAX_MEMBERS} members: send it in parts")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check_members(archive.infolist(), max_bytes)
            members = {info.filename: _read_member(archive, info) for info in archive.infolist()}
    # What zipfile raises on archives that are damaged, or use what it does not know.
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        OSError,
        EOFError,
        ValueError,
        LookupError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise MalformedMediaError(f"the npz cannot be unpacked ({error}): it is damaged, send it anew") from error
    return {name.removesuffix(".npy"): read_npy(member, max_bytes=max_bytes) for name, member in members.items()}


def write_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Write arrays as an npz file; equal arrays give equal bytes.

    Args:
        arrays: by name, of booleans, integers or floats.

    Returns:
        The file; its members are stored, not deflated, and bear no date.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", _NO_DATE)
            # The same bytes on every system.
            info.create_system = 3
            archive.writestr(info, write_npy(array))
    return file.getvalue()


@dataclass(frozen=True)
class _Header:
    """What an npy file says of itself.

    Attributes:
        dtype: of its elements.
        fortran_order: whether the first axis runs fastest.
        shape: of the array.
        length: where its data begin.
        size: of its data, in bytes.
        announced: likewise, where an axis of length zero does not hide the others.
    """

    dtype: np.dtype
    fortran_order: bool
    shape: tuple[int, ...]
    length: int
    size: int
    announced: int


def _read_header(data: bytes) -> _Header:
    if not data.startswith(_MAGIC) or len(data) < 12:
        raise MalformedMediaError("the file does not begin as an npy file: write it with numpy.save")
    major = data[6]
    if major not in (1, 2, 3):
        raise UnsupportedMediaError(f"the npy file has format {major}, expected 1, 2 or 3: write it with numpy.save")
    start, length = (10, data[8:10]) if major == 1 else (12, data[8:12])
    end = start + int.from_bytes(length, "little")
    if end > len(data):
        raise MalformedMediaError(f"the npy file breaks off in its header after {len(data)} bytes: send it whole")
    if end - start > _MAX_HEADER_BYTES:
        raise UnsupportedMediaError(f"the npy header has {end - start} bytes: send a plain array of numbers")
    return _parse_header(data[start:end], end)


@lru_cache(maxsize=256)
def _parse_header(header: bytes, length: int) -> _Header:
    """Read the header's text, which those who send arrays of one shape send again and again."""
    fields = _parse_fields(header.decode("latin-1"))
    dtype, shape = _parse_dtype(fields["descr"]), _parse_shape(fields["shape"])
    return _Header(
        dtype=dtype,
        fortran_order=fields["fortran_order"] == "True",
        shape=shape,
        length=length,
        size=math.prod(shape) * dtype.itemsize,
        announced=math.prod(max(side, 1) for side in shape) * dtype.itemsize,
    )


def _parse_fields(text: str) -> dict[str, str]:
    """Split the header, a Python dictionary in writing, into its three values."""
    text, fields = text.strip(), {}
    inside = text[1:-1].rstrip() if text.startswith("{") and text.endswith("}") else ""
    position = 0
    while match := _FIELD.match(inside, position):
        fields[match[2]] = match[3]
        position = match.end()
    if position < len(inside) or fields.keys() != {"descr", "fortran_order", "shape"}:
        raise MalformedMediaError(
            f"the npy header reads {_shorten(text)}, expected descr, fortran_order and shape: write it with numpy.save"
        )
    return fields


def _parse_dtype(text: str) -> np.dtype:
    name = text.strip("'\"")
    if not _DTYPE.fullmatch(name):
        raise UnsupportedMediaError(
            f"the npy array has the type {_shorten(text)}, expected booleans, integers or floats of at most 64 bits: "
            "convert it with astype"
        )
    return np.dtype(name)


def _parse_shape(text: str) -> tuple[int, ...]:
    sizes = [size.strip() for size in text.strip("()").split(",")]
    sizes = sizes[:-1] if not sizes[-1] else sizes
    if len(sizes) > MAX_DIMENSIONS or not all(size.isdecimal() and len(size) < 20 for size in sizes):
        raise MalformedMediaError(
            f"the npy header has the shape {_shorten(text)}, expected at most {MAX_DIMENSIONS} whole numbers"
        )
    return tuple(int(size) for size in sizes)


def _check_members(members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    """Refuse an archive for what its directory says, before anything is unpacked."""
    names = [info.filename for info in members]
    if len(set(names)) != len(names):
        raise MalformedMediaError("the npz holds two arrays of one name: give each its own")
    for info in members:
        if not info.filename.endswith(".npy") or "/" in info.filename or "\\" in info.filename:
            raise UnsupportedMediaError(
                f"the npz holds {_shorten(info.filename)}, expected npy files alone: write it with numpy.savez"
            )
        if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsupportedMediaError(
                f"the npz member {_shorten(info.filename)} is encrypted or packed by a rare method: "
                "write it with numpy.savez"
            )
    announced = sum(info.file_size for info in members)
    if announced > max_bytes:
        raise MediaTooLargeError(
            f"the npz unpacks to {announced} bytes, expected at most {max_bytes}: send it in parts"
        )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a member, at most as much as its directory entry announced."""
    with archive.open(info) as file:
        member = file.read(info.file_size)
    if len(member) != info.file_size:
        raise MalformedMediaError(f"the npz member {_shorten(info.filename)} breaks off: send the file whole")
    return member


def _shorten(value: object) -> str:
    """Quote what a stranger wrote, at a bearable length."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
