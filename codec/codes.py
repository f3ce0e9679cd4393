"""From the codes of a model to a container and back, every limit of the model checked."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Integer

from codec.container import PREFIX_BYTES, Container, write_container
from codec.errors import ContainerLimitError, MalformedContainerError
from codec.framing import crc32c
from codec.layout import Grid, Layout
from codec.profile import Profile
from codec.raw import read_payload, write_payload

_SHA256 = re.compile("[0-9a-f]{64}")


def write_codes(
    codes: Sequence[Integer[np.ndarray, "..."]], *, layout: Layout, model_hash: str, extent: tuple[int, ...]
) -> bytes:
    """Write the codes of one item as a container of the raw profile.

    Args:
        codes: an array a level, top first: `[h, w]` of a picture, `[t]` of a sound, behind Q where there are several
            codebooks: those of the level, or the first ones of them; each code 0 .. K - 1.
        layout: of the model that they come from.
        model_hash: the model's sha256, 64 hexadecimal digits.
        extent: the item's (height, width) in pixels or (length,) in samples, before it was padded.

    Returns:
        The container; equal arguments give equal bytes.

    Raises:
        ContainerLimitError: extent, shapes or codes are not ones that the model has.
        TypeError: codes are no integers.
        ValueError: `model_hash` is no sha256.
    """
    if not _SHA256.fullmatch(model_hash):
        raise ValueError(f"model_hash is {model_hash!r}, expected 64 lowercase hexadecimal digits")
    grids = _fit([level.shape for level in codes], layout.grids(extent))
    _check_range(codes, layout)
    # The range fits int32 by now: what this refuses is a fraction.
    tokens = [level.astype(np.int32, casting="same_kind") for level in codes]
    container = Container(
        profile=Profile.RAW,
        model_prefix=model_hash[: 2 * PREFIX_BYTES],
        prior_prefix=None,
        grids=grids,
        extent=extent,
        tokens_crc=tokens_crc(tokens),
        payload=write_payload(tokens, layout),
    )
    return write_container(container)


def read_codes(container: Container, layout: Layout) -> tuple[Int32[np.ndarray, "..."], ...]:
    """Read the codes of a container; no memory is taken before its geometry and length are those of the model.

    Args:
        container: as `read_container` gives it.
        layout: of the model that `container.model_prefix` names.

    Returns:
        An array a level, as `write_codes` takes them; each code 0 .. K - 1.

    Raises:
        ContainerLimitError: extent, grids, length or codes are not ones that the model has.
        MalformedContainerError: it names a prior, has stray bits, or its tokens are not those that were written.
    """
    if container.prior_prefix is not None:
        raise MalformedContainerError("the raw container names a prior, expected none: write it anew")
    grids = _fit([grid.shape for grid in container.grids], layout.grids(container.extent))
    codes = read_payload(container.payload, grids, layout)
    _check_range(codes, layout)
    check_tokens(codes, container.tokens_crc)
    return codes


def check_tokens(codes: Sequence[Int32[np.ndarray, "..."]], expected: int) -> None:
    """Refuse tokens that are not those that were written.

    Args:
        codes: an array a level, top first.
        expected: their checksum, as the container has it.

    Raises:
        MalformedContainerError: they have another.
    """
    found = tokens_crc(codes)
    if found != expected:
        raise MalformedContainerError(
            f"the tokens have the checksum {found:08x}, expected {expected:08x}: "
            "read them with the model that wrote them, or write them anew"
        )


def _fit(shapes: Sequence[tuple[int, ...]], grids: Sequence[Grid]) -> tuple[Grid, ...]:
    """Give the grids of codes of some shapes: those of the model, or the first of their codebooks."""
    if len(shapes) != len(grids):
        raise ContainerLimitError(
            f"there are codes of {len(shapes)} levels, the model has {len(grids)}: use the model that they come from"
        )
    found = []
    for number, (shape, grid) in enumerate(zip(shapes, grids, strict=True)):
        count = shape[0] if len(shape) > len(grid.sides) else 1
        taken = Grid(count, grid.sides)
        if not 1 <= count <= grid.num_codebooks or taken.shape != shape:
            raise ContainerLimitError(
                f"level {number} has codes of the shape {shape}, the model makes {grid.shape} of this extent: "
                "use the model that they come from"
            )
        found.append(taken)
    return tuple(found)


def _check_range(codes: Sequence[Integer[np.ndarray, "..."]], layout: Layout) -> None:
    for number, (tokens, level) in enumerate(zip(codes, layout.levels, strict=True)):
        if not 0 <= tokens.min() <= tokens.max() < level.num_embeddings:
            raise ContainerLimitError(
                f"level {number} has codes from {tokens.min()} to {tokens.max()}, the model has 0 .. "
                f"{level.num_embeddings - 1}: use the model that they come from"
            )


def tokens_crc(codes: Sequence[Int32[np.ndarray, "..."]]) -> int:
    """Give the CRC-32C of tokens as little-endian int32, top level first: it tells that they survived any coding.

    Args:
        codes: an array a level.

    Returns:
        The checksum.
    """
    return crc32c(b"".join(level.astype("<i4").tobytes() for level in codes))
