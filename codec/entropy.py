"""The tokens of a chunk as bytes, and back, under probabilities that come from outside token by token."""

import numpy as np
from jaxtyping import Int32, Integer

from codec.probabilities import located
from codec.range_coder import Decoder, Encoder


def encode_chunk(starts: Integer[np.ndarray, " N"], sizes: Integer[np.ndarray, " N"]) -> bytes:
    """Write the tokens of a chunk, each given by the part of 0 .. T - 1 that it owns.

    Args:
        starts: c of each token in the order of coding, as `codec.probabilities.intervals` gives it.
        sizes: f of each, likewise.

    Returns:
        The payload: at most 8 bits more than -log2 of the product of f / T, but for 2^-31 bits a token.
    """
    encoder = Encoder()
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        encoder.push(start, size)
    return encoder.finish()


class ChunkDecoder:
    """Reads the tokens of a chunk, one after the other, as their logits become known.

    A damaged payload gives other tokens; `finish` and the checksums tell.

    Args:
        payload: as `encode_chunk` gave it.
    """

    def __init__(self, payload: bytes) -> None:
        self._decoder = Decoder(payload)

    def decode(self, logits: Int32[np.ndarray, " K"]) -> int:
        """Read the next token.

        Args:
            logits: as `codec.probabilities.frequencies` takes them.

        Returns:
            The token, 0 .. K - 1.
        """
        token, start, size = located(logits, self._decoder.target())
        self._decoder.pop(start, size)
        return token

    def finish(self) -> None:
        """Check, once all tokens are read, that they have no other payload than the one that was given.

        Raises:
            MalformedContainerError: it is not what `encode_chunk` writes for them; no token may be used.
        """
        self._decoder.finish()
