"""An archive: many black and white pictures of one size as the one chunk of a container; see docs/format.md."""

from codec.bits_back import LatentModel, Packed, Pictures, Steps, unpack
from codec.coded import PREFIX_BYTES, PRIOR_PREFIX_BYTES, Chunk, Coded
from codec.errors import ContainerLimitError, MalformedContainerError
from codec.framing import Cursor, crc32c, write_number
from codec.profile import Profile


def write_archive(
    packed: Packed, pictures: Pictures, *, extent: tuple[int, ...], model_hash: str, canonical_hash: str
) -> Coded:
    """Say what a container of pictures says.

    Args:
        packed: the pictures on their stack.
        pictures: themselves, 0 and 1.
        extent: the (height, width) that each has, less than the model's where they were padded.
        model_hash: as in the manifest.
        canonical_hash: of the exact networks that they were coded under.

    Returns:
        What the container says.
    """
    payload = write_number(len(pictures)) + write_number(packed.direct) + packed.payload
    return Coded(
        profile=Profile.ARCHIVE,
        model_prefix=model_hash[: 2 * PREFIX_BYTES],
        prior_prefix=canonical_hash[: 2 * PRIOR_PREFIX_BYTES],
        extent=extent,
        chunks=(Chunk(crc32c(pictures.tobytes()), payload),),
    )


def count_pictures(coded: Coded) -> int:
    """Tell how many pictures a container says that it holds; nothing of them has been read.

    Raises:
        MalformedContainerError: it is no archive.
    """
    return _head(coded)[0]


def read_archive(coded: Coded, model: LatentModel, limit: int) -> Steps[Pictures]:
    """Read the pictures of a container.

    Args:
        coded: what it says.
        model: that they were coded under.
        limit: most pictures that are read.

    Returns:
        0 and 1, of the model's size.

    Raises:
        MalformedContainerError: it is damaged, or of another model.
        ContainerLimitError: it holds more pictures than the limit, or larger ones than the model's.
    """
    count, direct, stack = _head(coded)
    if count > limit or any(side > most for side, most in zip(coded.extent, model.shape, strict=True)):
        height, width = model.shape
        raise ContainerLimitError(
            f"the archive holds {count} pictures of {' x '.join(map(str, coded.extent))} pixels, expected at most "
            f"{limit} of {height} x {width}: write it in parts, or with another model"
        )
    pictures = yield from unpack(stack, count, direct, model)
    if crc32c(pictures.tobytes()) != coded.chunks[0].content_crc:
        raise MalformedContainerError(
            "the checksum of the pictures does not match: the archive is damaged, or was written with another model; "
            "send it as it was written"
        )
    return pictures


def _head(coded: Coded) -> tuple[int, int, bytes]:
    """Read how many pictures there are, how many of them are coded directly, and their stack."""
    has_options = coded.chunk_rows is not None or coded.codebooks is not None or coded.conditions
    if coded.profile is not Profile.ARCHIVE or has_options or len(coded.extent) != 2:
        raise MalformedContainerError(
            "the container is no archive of pictures without chunks, codebooks and conditions: write it anew"
        )
    cursor = Cursor(coded.chunks[0].payload, 0)
    count, direct = cursor.size("number of pictures"), cursor.number("number of pictures coded directly")
    if direct > count:
        raise MalformedContainerError(
            f"the archive says that {direct} of its {count} pictures are coded directly: write it anew"
        )
    return count, direct, cursor.rest()
