"""Bodies that travel compressed."""

import zlib

from service.bodies import UnsupportedTypeError
from service.errors import MalformedError, TooLargeError

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo a body's Content-Encoding, no further than the limit.

    Args:
        body: as it came.
        encoding: `gzip`, `deflate` or `identity`.
        max_bytes: the longest body that is taken.

    Returns:
        The body.

    Raises:
        UnsupportedTypeError: the encoding is another one.
        MalformedError: it is not what the encoding says.
        TooLargeError: it is longer.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _WINDOWS:
        raise UnsupportedTypeError(f"Content-Encoding {encoding[:40]!r} is not taken; send gzip, deflate or neither")
    stream = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedError(f"the body is not {encoding}: {error}") from error
    if len(content) > max_bytes:
        raise TooLargeError(f"the body is larger than {max_bytes} bytes when it is unpacked; split it")
    if not stream.eof or stream.unused_data:
        raise MalformedError(f"the body breaks off, or goes on after the end of its {encoding} stream")
    return content
