"""The payload of what is stored to the bit: what is written is read, and nothing else is."""

import pytest

from codec.errors import MalformedContainerError
from codec.lossless import Lossless, read_lossless


@pytest.mark.parametrize(
    "held",
    [
        Lossless(None, 7, (b"tokens",), b"residual"),
        Lossless("01020304", 2**32 - 1, (b"one", b"", b"x" * 300), b"\0residual"),
        Lossless("ffffffff", None, (b"",), b""),
    ],
)
def test_what_is_written_is_read(held: Lossless) -> None:
    assert read_lossless(held.write(), len(held.tokens)) == held


def test_its_bytes_are_those_of_the_format() -> None:
    held = Lossless("01020304", 0x0A0B0C0D, (b"ab", b"c"), b"rest")
    assert held.write().hex() == "03" + "01020304" + "0d0c0b0a" + "026162" + "0163" + b"rest".hex()
    assert Lossless(None, None, (b"ab",), b"rest").write() == b"\0\2abrest"


@pytest.mark.parametrize(
    "payload", [b"", b"\4", b"\2\1\1\1", b"\1\1\2\3", b"\1\1\2\3\4\5ab", b"\0\2a", b"\0\x80\0rest"]
)
def test_what_ends_too_early_or_is_unknown_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedContainerError):
        read_lossless(payload, 1)
