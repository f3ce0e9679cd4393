"""The payload of what is stored bit by bit: its tokens, and what these leave out."""

from dataclasses import dataclass

from codec.coded import PRIOR_PREFIX_BYTES
from codec.errors import MalformedContainerError
from codec.framing import CHECKSUM_BYTES, Cursor, write_number

_UNDER_PRIOR, _CHECKED = 1, 2


@dataclass(frozen=True)
class Lossless:
    """What a payload holds.

    Attributes:
        prior_prefix: the first 8 hexadecimal digits of the canonical hash of the prior that tokens are coded under;
            None where they are packed as in the raw profile.
        tokens_crc: see `codec.codes.tokens_crc`; None in containers of pictures that were written before there was one.
        tokens: of each chunk of rows, coded; of packed tokens one.
        residual: see `codec.residual_payload` and `codec.sound_residual`.
    """

    prior_prefix: str | None
    tokens_crc: int | None
    tokens: tuple[bytes, ...]
    residual: bytes

    def write(self) -> bytes:
        """Give a byte for the way of the tokens, prefix and checksum where there are, tokens with lengths, the rest."""
        kind = (self.prior_prefix is not None) * _UNDER_PRIOR | (self.tokens_crc is not None) * _CHECKED
        crc = b"" if self.tokens_crc is None else self.tokens_crc.to_bytes(CHECKSUM_BYTES, "little")
        chunks = (write_number(len(chunk)) + chunk for chunk in self.tokens)
        return b"".join([bytes([kind]), bytes.fromhex(self.prior_prefix or ""), crc, *chunks, self.residual])


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
    if kind & ~(_UNDER_PRIOR | _CHECKED):
        raise MalformedContainerError(
            f"the tokens are coded in the way {kind}, expected 0 to {_UNDER_PRIOR | _CHECKED}: they are damaged, send "
            "them as they were written"
        )
    prefix = cursor.take(PRIOR_PREFIX_BYTES, "prior hash").hex() if kind & _UNDER_PRIOR else None
    crc = int.from_bytes(cursor.take(CHECKSUM_BYTES, "token checksum"), "little") if kind & _CHECKED else None
    count = chunks if kind & _UNDER_PRIOR else 1
    tokens = tuple(cursor.take(cursor.number("length of tokens"), "tokens") for _ in range(count))
    return Lossless(prefix, crc, tokens, cursor.rest())
