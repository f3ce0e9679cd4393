"""Tokens of a fixed number of bits, side by side in bytes, most significant bit first."""

import numpy as np
from jaxtyping import Int32

from codec.errors import MalformedContainerError

MAX_WIDTH = 31
"""Most bits of a token: all are non-negative int32."""

_WORD = 32
# Tokens at a time: a bit takes a byte on its way, so this bounds the memory. A multiple of 8 ends at a whole byte.
_CHUNK = 1 << 14


def pack(tokens: Int32[np.ndarray, " N"], width: int) -> bytes:
    """Write tokens side by side.

    Args:
        tokens: each 0 .. 2^width - 1.
        width: bits of a token, 1 .. 31.

    Returns:
        ceil(N width / 8) bytes; the unused bits of the last are zero.

    Raises:
        ValueError: the width is out of range, or a token does not fit it.
    """
    _check_width(width)
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < 1 << width:
        raise ValueError(f"tokens from {tokens.min()} to {tokens.max()} do not fit {width} bits")
    chunks = (tokens[start : start + _CHUNK] for start in range(0, tokens.size, _CHUNK))
    return b"".join(_pack_chunk(chunk, width) for chunk in chunks)


def unpack(data: bytes, count: int, width: int) -> Int32[np.ndarray, " N"]:
    """Read tokens that `pack` wrote; memory is taken only once `data` has the length that `count` needs.

    Args:
        data: ceil(count width / 8) bytes.
        count: N, how many tokens.
        width: bits of a token, 1 .. 31.

    Returns:
        The tokens, each 0 .. 2^width - 1.

    Raises:
        ValueError: the width is out of range.
        MalformedContainerError: `data` has another length, or unused bits that are not zero.
    """
    _check_width(width)
    bits = count * width
    if len(data) != -(-bits // 8):
        raise MalformedContainerError(
            f"{count} tokens of {width} bits take {-(-bits // 8)} bytes, found {len(data)}: send all of them"
        )
    if bits % 8 and data[-1] & 0xFF >> bits % 8:
        raise MalformedContainerError(
            f"the last byte of {count} tokens is 0x{data[-1]:02x}, expected zeros in its unused bits: write it anew"
        )
    tokens = np.empty(count, dtype=np.int32)
    for start in range(0, count, _CHUNK):
        chunk = tokens[start : start + _CHUNK]
        chunk[:] = _unpack_chunk(data, start * width // 8, chunk.size, width)
    return tokens


def _pack_chunk(tokens: Int32[np.ndarray, " n"], width: int) -> bytes:
    bits = np.unpackbits(tokens.astype(">u4")[:, None].view(np.uint8), axis=1)
    return np.packbits(bits[:, _WORD - width :]).tobytes()


def _unpack_chunk(data: bytes, offset: int, count: int, width: int) -> Int32[np.ndarray, " n"]:
    packed = np.frombuffer(data, np.uint8, count=-(-count * width // 8), offset=offset)
    bits = np.zeros((count, _WORD), dtype=np.uint8)
    bits[:, _WORD - width :] = np.unpackbits(packed, count=count * width).reshape(count, width)
    return np.packbits(bits, axis=1).view(">u4")[:, 0].astype(np.int32)


def _check_width(width: int) -> None:
    if not 1 <= width <= MAX_WIDTH:
        raise ValueError(f"a token has {width} bits, expected 1 .. {MAX_WIDTH}")
