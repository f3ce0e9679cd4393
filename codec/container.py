"""The container of version 1: the tokens of one picture or sound as a file, as docs/format.md lays it out.

Containers come from strangers. What one claims is compared with what is there before any memory is taken, and each
content has exactly one form: what is read and written again is the same bytes.
"""

from dataclasses import dataclass

from codec.errors import ContainerLimitError, MalformedContainerError, UnsupportedContainerError
from codec.framing import CHECKSUM_BYTES, MAGIC, Cursor, seal, unseal, write_number
from codec.layout import MAX_LEVELS, Grid
from codec.profile import Profile

VERSION = 1
PREFIX_BYTES = 16
"""How much of a sha256 a container keeps."""

_PRIOR_FLAG = 1
_AUDIO_FLAG = 2


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
        return len(_write_header(self)) + CHECKSUM_BYTES


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
    cursor = Cursor(unseal(data), len(MAGIC))
    flags = _read_flags(cursor)
    profile = _read_profile(cursor)
    model_prefix = cursor.take(PREFIX_BYTES, "model hash").hex()
    prior_prefix = cursor.take(PREFIX_BYTES, "prior hash").hex() if flags & _PRIOR_FLAG else None
    axes = 1 if flags & _AUDIO_FLAG else 2
    grids = _read_grids(cursor, axes)
    extent = cursor.sides(axes, "original size")
    payload_bytes = cursor.number("payload length")
    tokens_crc = cursor.checksum("token checksum")
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
            *(write_number(size) for size in sizes),
            container.tokens_crc.to_bytes(CHECKSUM_BYTES, "little"),
        ]
    )


def _read_flags(cursor: Cursor) -> int:
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


def _read_profile(cursor: Cursor) -> Profile:
    (number,) = cursor.take(1, "profile")
    if number != Profile.RAW:
        raise UnsupportedContainerError(
            f"the container has the profile {number}, expected {Profile.RAW.value} (raw): read it with a newer latentd"
        )
    return Profile.RAW


def _read_grids(cursor: Cursor, axes: int) -> tuple[Grid, ...]:
    levels = cursor.size("number of levels")
    if levels > MAX_LEVELS:
        raise ContainerLimitError(
            f"the container has {levels} levels, expected at most {MAX_LEVELS}: no model has so many, write it anew"
        )
    return tuple(Grid(cursor.size("number of codebooks"), cursor.sides(axes, "grid")) for _ in range(levels))
