"""The payload of a picture that is stored bit by bit: its tokens, and what a decoder's means do not say of it."""

from dataclasses import dataclass

from codec.coded import PRIOR_PREFIX_BYTES
from codec.errors import MalformedContainerError
from codec.framing import Cursor, write_number

_RAW, _UNDER_PRIOR = 0, 1


@dataclass(frozen=True)
class Lossless:
    """What a payload holds.

    Attributes:
        prior_prefix: the first 8 hexadecimal digits of the canonical hash of the prior that tokens are coded under;
            None where they are packed as in the raw profile.
        tokens: of each chunk of rows, coded; of packed tokens one.
        residual: see `codec.residual_payload`.
    """

    prior_prefix: str | None
    tokens: tuple[bytes, ...]
    residual: bytes

    def write(self) -> bytes:
        """Give a byte for the way of the tokens, the prefix where there is one, tokens with their lengths, the rest."""
        kind = bytes([_RAW]) if self.prior_prefix is None else bytes([_UNDER_PRIOR]) + bytes.fromhex(self.prior_prefix)
        chunks = (write_number(len(chunk)) + chunk for chunk in self.tokens)
        return b"".join([kind, *chunks, self.residual])


def read_lossless(payload: bytes, chunks: int) -> Lossless:
    """Read what `Lossless.write` gave.

    Args:
        payload: all of it.
        chunks: of rows that tokens under a prior are cut into.

    Returns:
        What it holds; tokens and residual are not looked at.

    Raises:
        MalformedContainerError: it ends too early, or codes tokens in an unknown way.
    """
    cursor = Cursor(payload, 0)
    (kind,) = cursor.take(1, "kind of tokens")
    if kind not in (_RAW, _UNDER_PRIOR):
        raise MalformedContainerError(
            f"the tokens of the picture are coded in the way {kind}, expected {_RAW} or {_UNDER_PRIOR}: they are "
            "damaged, send them as they were written"
        )
    prefix = cursor.take(PRIOR_PREFIX_BYTES, "prior hash").hex() if kind == _UNDER_PRIOR else None
    count = chunks if kind == _UNDER_PRIOR else 1
    tokens = tuple(cursor.take(cursor.number("length of tokens"), "tokens") for _ in range(count))
    return Lossless(prefix, tokens, cursor.rest())
