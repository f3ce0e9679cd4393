"""Where pictures or sounds lie: a folder, a zip archive, or a folder with an archive for each split."""

import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Literal

from training.data.division import SPLIT_WORDS
from training.errors import DataError

# What reading a member of a damaged, encrypted or unusual archive raises.
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
SOUNDS = frozenset({".wav", ".flac"})


@dataclass(frozen=True)
class Gallery:
    """Pictures or sounds that are not read yet.

    Attributes:
        names: sorted, at least one; the path of each below the root, between slashes. Where there is an archive for
            each split, the split is the first folder.
        read: from the name of one to the content of its file; it may be called from several threads.
    """

    names: list[str]
    read: Callable[[str], bytes]


@contextmanager
def open_gallery(source: Literal["folder", "zip"], root: Path, endings: Set[str] = PICTURES) -> Iterator[Gallery]:
    """Look for pictures or sounds; archives are not unpacked.

    Args:
        source: folder or zip.
        root: the folder or archive; for zip also a folder of archives, whose names tell their splits.
        endings: of the names of files that count, in small letters.

    Yields:
        What was found, to be read until the context is left.

    Raises:
        DataError: the root is another thing, its archives leave open which split they are, or it holds no such file.
    """
    with ExitStack() as stack:
        gallery = _folder(root, endings) if source == "folder" else _archives(root, endings, stack)
        if not gallery.names:
            kind = "sounds" if endings == SOUNDS else "pictures"
            raise DataError(f"{root} holds no {kind} ({', '.join(sorted(endings))}); give another path")
        yield gallery


def _folder(root: Path, endings: Set[str]) -> Gallery:
    if not root.is_dir():
        kind = "sounds" if endings == SOUNDS else "pictures"
        raise DataError(f"{root} is not a folder; give the path of a folder of {kind}")
    names = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return Gallery(sorted(name for name in names if _counts(name, endings)), lambda name: (root / name).read_bytes())


def _archives(root: Path, endings: Set[str], stack: ExitStack) -> Gallery:
    """Open one archive, or each below the name of its split."""
    members: dict[str, tuple[zipfile.ZipFile, str]] = {}
    for folder, path in _archive_paths(root).items():
        archive = _opened(path, stack)
        members |= {f"{folder}{name}": (archive, name) for name in archive.namelist() if _counts(name, endings)}
    lock = Lock()

    def read(name: str) -> bytes:
        archive, member = members[name]
        with lock:
            return archive.read(member)

    return Gallery(sorted(members), read)


def _archive_paths(root: Path) -> dict[str, Path]:
    """Find the archives, by the folder that their members are taken to lie in."""
    if not root.is_dir():
        return {"": root}
    paths: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        if path.suffix.lower() == ".zip" and not path.name.startswith("."):
            folder = f"{_split_of(path)}/"
            if folder in paths:
                raise DataError(f"{paths[folder]} and {path.name} are of the same split; remove one")
            paths[folder] = path
    if not paths:
        raise DataError(f"{root} holds no zip archives; --data.root names an archive, or a folder with one a split")
    return paths


def _split_of(path: Path) -> str:
    """Tell the split by a word of an archive's name."""
    words = re.split("[^a-z]+", path.stem.lower())
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(splits) != 1:
        found = f"names {' and '.join(sorted(splits))}" if splits else "names no split"
        raise DataError(
            f"{path} {found}, expected one of {', '.join(SPLIT_WORDS)} as a word of its name; rename it, "
            "or give one archive as --data.root"
        )
    return splits.pop()


def _opened(path: Path, stack: ExitStack) -> zipfile.ZipFile:
    try:
        return stack.enter_context(zipfile.ZipFile(path))
    except UNREADABLE as error:
        raise DataError(f"cannot read {path} as a zip archive: {error}; is it complete?") from error


def _counts(name: str, endings: Set[str]) -> bool:
    """Tell what is looked for from folders and from what systems leave beside them."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in endings and not hidden and not name.endswith("/")
