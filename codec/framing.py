"""What containers of all versions share: the magic, the closing checksum, and the numbers of a header."""

import google_crc32c

from codec.errors import ContainerLimitError, MalformedContainerError

MAGIC = b"\x8aLTD"

MAX_NUMBER = 2**31 - 1
"""Largest number of a header."""

CHECKSUM_BYTES = 4
"""Length of a CRC."""

_MAX_NUMBER_BYTES = 5


def crc32c(data: bytes) -> int:
    """Give the CRC-32C (Castagnoli) of bytes."""
    crc: int = google_crc32c.value(data)
    return crc


def write_checksum(data: bytes) -> bytes:
    """Write the CRC-32C of bytes."""
    return crc32c(data).to_bytes(CHECKSUM_BYTES, "little")


def seal(body: bytes) -> bytes:
    """Append the CRC-32C of the bytes, which ends a container of any version."""
    return body + write_checksum(body)


def unseal(data: bytes) -> bytes:
    """Take the closing checksum off.

    Args:
        data: the whole file.

    Returns:
        What is before it, from the magic on.

    Raises:
        MalformedContainerError: it is no container, or is damaged.
    """
    check_magic(data)
    body = data[:-CHECKSUM_BYTES]
    if write_checksum(body) != data[-CHECKSUM_BYTES:]:
        raise MalformedContainerError(
            f"the checksum of the {len(data)} bytes does not match: they are damaged, cut short or followed by others, "
            "send the container as it was written"
        )
    return body


def check_magic(data: bytes) -> None:
    """Refuse what does not begin with the magic.

    Raises:
        MalformedContainerError: it is no container.
    """
    if not data.startswith(MAGIC):
        raise MalformedContainerError(
            f"the file begins with {data[: len(MAGIC)].hex(' ') or 'nothing'}, expected {MAGIC.hex(' ')}: "
            "send a container"
        )


def write_number(number: int) -> bytes:
    """Write unsigned LEB128: seven bits a byte, lowest first, the high bit set where more follow.

    Args:
        number: 0 .. 2^31 - 1.

    Returns:
        1 .. 5 bytes.

    Raises:
        ContainerLimitError: it is larger.
    """
    if number > MAX_NUMBER:
        raise ContainerLimitError(f"a container cannot hold the size {number}, expected at most 2^31 - 1: send less")
    groups = [number >> shift & 0x7F for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


class Cursor:
    """A place in bytes, which moves on as they are read.

    Args:
        data: the bytes.
        position: of the first that is read.

    Attributes:
        position: of the next.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self.position

    def passed(self) -> bytes:
        """Give all bytes before the next one."""
        return self._data[: self.position]

    def take(self, count: int, name: str) -> bytes:
        """Read so many bytes; `name` is what they are."""
        taken = self._data[self.position : self.position + count]
        if len(taken) < count:
            raise MalformedContainerError(
                f"the container ends after {len(self._data)} bytes, within its {name}: write it anew"
            )
        self.position += count
        return taken

    def number(self, name: str) -> int:
        """Read LEB128 in its shortest form, 0 .. 2^31 - 1."""
        number = 0
        for index in range(_MAX_NUMBER_BYTES):
            (byte,) = self.take(1, name)
            number |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                break
        if byte >= 0x80 or (byte == 0 and index > 0) or number > MAX_NUMBER:
            raise MalformedContainerError(
                f"the container's {name} is no number of at most 2^31 - 1 in its shortest form: write it anew"
            )
        return number

    def size(self, name: str) -> int:
        """Read a number that is at least 1."""
        size = self.number(name)
        if size == 0:
            raise MalformedContainerError(f"the container's {name} is 0, expected at least 1: write it anew")
        return size

    def sides(self, axes: int, name: str) -> tuple[int, ...]:
        """Read a size for each axis."""
        return tuple(self.size(name) for _ in range(axes))

    def checksum(self, name: str) -> int:
        """Read a CRC."""
        return int.from_bytes(self.take(CHECKSUM_BYTES, name), "little")

    def rest(self) -> bytes:
        """Read all that is left."""
        return self.take(self.left, "end")
