"""Answers as they travel: bytes with their headers, made without the checks that strangers' headers would need."""

from collections.abc import Iterable
from functools import lru_cache

from starlette.responses import Response


class Reply(Response):
    """An answer 200.

    Args:
        content: the body.
        media_type: of it.
        headers: names in lower case, with values of our own making.
    """

    def __init__(self, content: bytes, media_type: str, headers: Iterable[tuple[str, str]]) -> None:
        self.status_code = 200
        self.body = content
        self.background = None
        self.raw_headers = [(_encoded(name), value.encode("latin-1")) for name, value in headers]
        self.raw_headers += (
            (b"content-length", b"%d" % len(content)),
            (b"content-type", _encoded(media_type)),
        )


@lru_cache(maxsize=64)
def _encoded(text: str) -> bytes:
    return text.encode("latin-1")
