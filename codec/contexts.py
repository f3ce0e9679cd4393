"""Black and white pictures without a model: each pixel under a table by the pixels before it, as JBIG does.

Such pictures fill the stack that bits-back coding draws its first latents from.
"""

import numpy as np
from jaxtyping import Int32, Int64, Integer

from codec.ans import Stack
from codec.probabilities import TOTAL, frequencies

TEMPLATE = (
    *((0, -1), (0, -2), (0, -3), (-1, -2), (-1, -1), (-1, 0)),
    *((-1, 1), (-1, 2), (-1, 3), (-2, -1), (-2, 0), (-2, 1)),
)
"""(row, column) of the pixels that a pixel depends on, relative to it; those beyond the edges are black."""
CONTEXTS = 1 << len(TEMPLATE)
"""How many contexts there are: the first pixel of the template is the highest digit."""
_MARGIN = 3


def contexts(pictures: Integer[np.ndarray, "N H W"]) -> Int64[np.ndarray, "N H W"]:
    """Give the context of every pixel.

    Args:
        pictures: 0 and 1.

    Returns:
        Numbers below `CONTEXTS`.
    """
    _, height, width = pictures.shape
    padded = np.pad(pictures.astype(np.int64), ((0, 0), (_MARGIN, 0), (_MARGIN, _MARGIN)))
    found = np.zeros(pictures.shape, dtype=np.int64)
    for row, column in TEMPLATE:
        top, left = _MARGIN + row, _MARGIN + column
        found = 2 * found + padded[:, top : top + height, left : left + width]
    return found


def intervals(
    picture: Integer[np.ndarray, "H W"], logits: Int32[np.ndarray, " C"]
) -> tuple[Int64[np.ndarray, " N"], Int64[np.ndarray, " N"]]:
    """Give the part of 0 .. T - 1 that each pixel owns, in reading order.

    Args:
        picture: 0 and 1.
        logits: of white in each context, integers in units of 1/256 nats.

    Returns:
        c and f.
    """
    return bernoulli(picture.ravel(), logits[contexts(picture[None]).ravel()])


def pop(stack: Stack, shape: tuple[int, int], logits: Int32[np.ndarray, " C"]) -> Integer[np.ndarray, "H W"]:
    """Take a picture off a stack.

    Args:
        stack: to take from.
        shape: H, W.
        logits: as in `intervals`.

    Returns:
        0 and 1, uint8.
    """
    height, width = shape
    blacks = _blacks(logits).tolist()
    rows = [[0] * (width + 2 * _MARGIN) for _ in range(height + _MARGIN)]
    for y in range(_MARGIN, height + _MARGIN):
        for x in range(_MARGIN, width + _MARGIN):
            context = 0
            for row, column in TEMPLATE:
                context = 2 * context + rows[y + row][x + column]
            black = blacks[context]
            if stack.target() < black:
                stack.pop(0, black)
            else:
                stack.pop(black, TOTAL - black)
                rows[y][x] = 1
    return np.array(rows, dtype=np.uint8)[_MARGIN:, _MARGIN:-_MARGIN]


def bernoulli(
    bits: Integer[np.ndarray, "*N"], logits: Int32[np.ndarray, "*N"]
) -> tuple[Int64[np.ndarray, "*N"], Int64[np.ndarray, "*N"]]:
    """Give the part of 0 .. T - 1 that each bit owns, 0 before 1.

    Args:
        bits: 0 and 1.
        logits: of 1, integers in units of 1/256 nats.

    Returns:
        c and f.
    """
    black = _blacks(logits)
    return np.where(bits == 1, black, 0), np.where(bits == 1, TOTAL - black, black)


def bernoulli_tables(logits: Int32[np.ndarray, " N"]) -> list[tuple[int, int, int]]:
    """Give c of 0 and 1, and T, for each logit."""
    return [(0, black, TOTAL) for black in _blacks(logits).tolist()]


def _blacks(logits: Int32[np.ndarray, "*N"]) -> Int64[np.ndarray, "*N"]:
    """Give f of 0, as `codec.probabilities.frequencies` shares T out among two symbols."""
    return frequencies(np.stack([np.zeros_like(logits), logits], axis=-1))[..., 0]
