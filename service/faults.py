"""Which item of a request a fault is in."""

from collections.abc import Iterator
from contextlib import contextmanager

from codec.errors import CodecError
from media.errors import MediaError
from service.errors import ServiceError


@contextmanager
def naming(index: int, count: int) -> Iterator[None]:
    """Name the item in the message of a fault that is raised inside.

    Args:
        index: of the item.
        count: items of the request; one alone needs no name.

    Raises:
        Exception: whatever is raised inside.
    """
    try:
        yield
    except (ServiceError, MediaError, CodecError) as error:
        if count > 1:
            error.args = (f"item {index}: {error}",)
        raise
