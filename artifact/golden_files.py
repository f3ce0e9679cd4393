"""Files of golden integers: npz, read without unpickling, whose faults are told by the name of the file."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from artifact.codes import Arrays
from artifact.errors import InexactError


def arrays_in(content: bytes) -> Arrays:
    """Read the arrays of an npz file by name.

    Args:
        content: the file.

    Returns:
        The arrays.
    """
    return dict(np.load(BytesIO(content), allow_pickle=False))


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of which file it is that something inside is missing or unreadable.

    Args:
        path: the file.

    Raises:
        InexactError: in place of whatever a file can be at fault for.
    """
    try:
        yield
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise InexactError(f"{path}: it is not a file of golden integers: {error!r}; export the model again") from error
