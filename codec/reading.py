"""Containers of any version."""

from codec.coded import VERSION as CODED_VERSION
from codec.coded import Coded, read_coded
from codec.container import VERSION, Container, read_container
from codec.errors import UnsupportedContainerError
from codec.framing import MAGIC, unseal


def read_any(data: bytes) -> Container | Coded:
    """Read what a container says, of whichever version it is.

    Args:
        data: the whole file.

    Returns:
        Its content, structurally sound.

    Raises:
        MalformedContainerError: it is no container, is damaged or contradicts itself.
        UnsupportedContainerError: it is of an unknown version, or has an unknown flag or profile.
        ContainerLimitError: it has more levels or chunks than any.
    """
    version = data[len(MAGIC) : len(MAGIC) + 1]
    if version == bytes([CODED_VERSION]):
        return read_coded(data)
    if len(unseal(data)) > len(MAGIC) and version != bytes([VERSION]):
        raise UnsupportedContainerError(
            f"the container has version {version[0]}, expected {VERSION} or {CODED_VERSION}: "
            "read it with the latentd that wrote it, or newer"
        )
    return read_container(data)
