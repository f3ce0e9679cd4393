"""The container: the tokens of one picture or sound as a file, as docs/format.md lays it out.

Containers come from strangers. What one claims is compared with what is there before any memory is taken, and each
content has exactly one form: what is read and written again is the same bytes.
"""

from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

from codec.errors import ContainerLimitError, MalformedContainerError, UnsupportedContainerError
from codec.layout import MAX_LEVELS, Grid

MAGIC = b"\x8aLTD"
VERSION = 1
PREFIX_BYTES = 16
"""How much of a sha256 a container keeps."""

_PRIOR_FLAG = 1
_AUDIO_FLAG = 2
_CHECKSUM_BYTES = 4
_MAX_NUMBER = 2**31 - 1
_MAX_NUMBER_BYTES = 5


class Profile(IntEnum):
    """How the tokens became the payload."""

    RAW = 0


@dataclass(frozen=True)
class Container:
    """What a container says, apart from what follows from it.

    Attributes:
        profile: how the tokens became the payload.
        model_prefix: the first 32 hexadecimal digits of the model's hash.
        prior_prefix: likewise of the prior's, where the profile codes under one.
        grids: of each level, top first, 1 .. `MAX_LEVELS` of them.
        extent: the item's (height, width) in pixels or (length,) in samples, to which a decoded item is cropped.
        tokens_crc: CRC-32C over the tokens of all levels.
        payload: the coded tokens.
    """

    profile: Profile
    model_prefix: str
    prior_prefix: str | None
    grids: tuple[Grid, ...]
    extent: tuple[int, ...]
    tokens_crc: int
    payload: bytes

    @property
    def overhead_bytes(self) -> int:
        """The container's length without the payload."""
        return len(_write_header(self)) + _CHECKSUM_BYTES


def write_container(container: Container) -> bytes:
    """Write a container.

    Args:
        container: its content.

    Returns:
        The file.

    Raises:
        ContainerLimitError: a number is larger than 2^31 - 1.
    """
    return seal(_write_header(container) + container.payload)


def seal(body: bytes) -> bytes:
    """Append the CRC-32C (Castagnoli) of the bytes, which ends a container of any version."""
    return body + google_crc32c.value(body).to_bytes(_CHECKSUM_BYTES, "little")


def read_container(data: bytes) -> Container:
    """Read what a container says; whether a model has such tokens is for `codec.codes.read_codes` to judge.

    Args:
        data: the whole file.

    Returns:
        Its content, structurally sound.

    Raises:
        MalformedContainerError: it is no container, is damaged or contradicts itself.
        UnsupportedContainerError: it is of another version, or has an unknown flag or profile.
        ContainerLimitError: it has more than `MAX_LEVELS` levels.
    """
    if not data.startswith(MAGIC):
        raise MalformedContainerError(
            f"the file begins with {data[: len(MAGIC)].hex(' ') or 'nothing'}, expected {MAGIC.hex(' ')}: "
            "send a container"
        )
    body = data[:-_CHECKSUM_BYTES]
    if seal(body) != data:
        raise MalformedContainerError(
            f"the checksum of the {len(data)} bytes does not match: they are damaged, cut short or followed by others, "
            "send the container as it was written"
        )
    cursor = _Cursor(body, len(MAGIC))
    flags = _read_flags(cursor)
    profile = _read_profile(cursor)
    model_prefix = cursor.take(PREFIX_BYTES, "model hash").hex()
    prior_prefix = cursor.take(PREFIX_BYTES, "prior hash").hex() if flags & _PRIOR_FLAG else None
    axes = 1 if flags & _AUDIO_FLAG else 2
    grids = _read_grids(cursor, axes)
    extent = _read_sides(cursor, axes, "original size")
    payload_bytes = cursor.number("payload length")
    tokens_crc = int.from_bytes(cursor.take(_CHECKSUM_BYTES, "token checksum"), "little")
    payload = cursor.rest()
    if len(payload) != payload_bytes:
        raise MalformedContainerError(
            f"the container announces a payload of {payload_bytes} bytes and holds {len(payload)}: write it anew"
        )
    return Container(profile, model_prefix, prior_prefix, grids, extent, tokens_crc, payload)


def _write_header(container: Container) -> bytes:
    """Write all that stands before the payload."""
    flags = _PRIOR_FLAG * (container.prior_prefix is not None) + _AUDIO_FLAG * (len(container.extent) == 1)
    sizes = [len(container.grids)]
    for grid in container.grids:
        sizes += [grid.num_codebooks, *grid.sides]
    sizes += [*container.extent, len(container.payload)]
    return b"".join(
        [
            MAGIC,
            bytes([VERSION, flags, container.profile]),
            bytes.fromhex(container.model_prefix + (container.prior_prefix or "")),
            *(_write_number(size) for size in sizes),
            container.tokens_crc.to_bytes(_CHECKSUM_BYTES, "little"),
        ]
    )


def _write_number(number: int) -> bytes:
    """Write unsigned LEB128: seven bits a byte, lowest first, the high bit set where more follow."""
    if number > _MAX_NUMBER:
        raise ContainerLimitError(f"a container cannot hold the size {number}, expected at most 2^31 - 1: send less")
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def _read_flags(cursor: "_Cursor") -> int:
    """Read version and flags."""
    (version,) = cursor.take(1, "version")
    if version != VERSION:
        raise UnsupportedContainerError(
            f"the container has version {version}, expected {VERSION}: read it with the latentd that wrote it, or newer"
        )
    (flags,) = cursor.take(1, "flags")
    if flags & ~(_PRIOR_FLAG | _AUDIO_FLAG):
        raise UnsupportedContainerError(
            f"the container has the flags 0b{flags:08b}, expected the lowest two alone: read it with a newer latentd"
        )
    return flags


def _read_profile(cursor: "_Cursor") -> Profile:
    (number,) = cursor.take(1, "profile")
    try:
        return Profile(number)
    except ValueError:
        known = ", ".join(f"{profile.value} ({profile.name.lower()})" for profile in Profile)
        raise UnsupportedContainerError(
            f"the container has the profile {number}, expected {known}: read it with a newer latentd"
        ) from None


def _read_grids(cursor: "_Cursor", axes: int) -> tuple[Grid, ...]:
    levels = cursor.size("number of levels")
    if levels > MAX_LEVELS:
        raise ContainerLimitError(
            f"the container has {levels} levels, expected at most {MAX_LEVELS}: no model has so many, write it anew"
        )
    return tuple(Grid(cursor.size("number of codebooks"), _read_sides(cursor, axes, "grid")) for _ in range(levels))


def _read_sides(cursor: "_Cursor", axes: int, name: str) -> tuple[int, ...]:
    return tuple(cursor.size(name) for _ in range(axes))


class _Cursor:
    """A place in bytes, which moves on as they are read."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, count: int, name: str) -> bytes:
        """Read so many bytes; `name` is what they are."""
        taken = self._data[self._position : self._position + count]
        if len(taken) < count:
            raise MalformedContainerError(
                f"the container ends after {len(self._data)} bytes, within its {name}: write it anew"
            )
        self._position += count
        return taken

    def number(self, name: str) -> int:
        """Read LEB128 in its shortest form, 0 .. 2^31 - 1."""
        number = 0
        for index in range(_MAX_NUMBER_BYTES):
            (byte,) = self.take(1, name)
            number |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                break
        if byte >= 0x80 or (byte == 0 and index > 0) or number > _MAX_NUMBER:
            raise MalformedContainerError(
                f"the container's {name} is no number of at most 2^31 - 1 in its shortest form: write it anew"
            )
        return number

    def size(self, name: str) -> int:
        """Read a number that is at least 1."""
        size = self.number(name)
        if size == 0:
            raise MalformedContainerError(f"the container's {name} is 0, expected at least 1: write it anew")
        return size

    def rest(self) -> bytes:
        """Read all that is left."""
        return self._data[self._position :]
