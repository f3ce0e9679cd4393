"""The raw profile: every token in the ceil(log2 K) bits that its level's codebooks need."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Int32

from codec.bits import pack, unpack
from codec.errors import ContainerLimitError
from codec.layout import Grid, Layout


def level_bits(grids: Sequence[Grid], layout: Layout) -> tuple[int, ...]:
    """Tell the bits that the tokens of each level take, before they are filled up to whole bytes.

    Args:
        grids: a grid a level, as `layout.grids` gives them.
        layout: of the model.

    Returns:
        Bits of each level, top first.
    """
    return tuple(grid.count * level.token_bits for grid, level in zip(grids, layout.levels, strict=True))


def write_payload(codes: Sequence[Int32[np.ndarray, "..."]], layout: Layout) -> bytes:
    """Pack the codes of all levels, each from a whole byte on.

    Args:
        codes: an array a level, top first; each code 0 .. K - 1.
        layout: of the model.

    Returns:
        The payload.
    """
    return b"".join(pack(tokens.ravel(), level.token_bits) for tokens, level in zip(codes, layout.levels, strict=True))


def read_payload(payload: bytes, grids: Sequence[Grid], layout: Layout) -> tuple[Int32[np.ndarray, "..."], ...]:
    """Unpack the codes of all levels; a payload of another length than the grids need costs no memory.

    Args:
        payload: as `write_payload` gives it.
        grids: a grid a level, as `layout.grids` gives them.
        layout: of the model.

    Returns:
        An array a level, top first, of its grid's shape; each code 0 .. 2^token_bits - 1.

    Raises:
        ContainerLimitError: the payload has another length than the grids need.
        MalformedContainerError: unused bits are not zero.
    """
    sizes = [-(-bits // 8) for bits in level_bits(grids, layout)]
    if len(payload) != sum(sizes):
        raise ContainerLimitError(
            f"the raw payload has {len(payload)} bytes, the model's tokens take {sum(sizes)}: "
            "read it with the model that it names"
        )
    return tuple(
        unpack(payload[end - size : end], grid.count, level.token_bits).reshape(grid.shape)
        for size, end, grid, level in zip(sizes, accumulate(sizes), grids, layout.levels, strict=True)
    )
