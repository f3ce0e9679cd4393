"""Which files a command reads, where it writes, and how: whole or not at all."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.offline.errors import UsageError

CONTAINER_SUFFIX = ".latentd"
"""How the names of containers end."""

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
}
"""Media type of the files that are compressed, by the end of the name."""


@dataclass(frozen=True)
class Task:
    """A file to be read, and where what is made of it goes.

    Attributes:
        source: the file.
        target: likewise.
    """

    source: Path
    target: Path


def found(sources: Sequence[Path], suffixes: Sequence[str]) -> list[tuple[Path, Path]]:
    """List files, and those within folders.

    Args:
        sources: files and folders.
        suffixes: of the files that count within a folder; a file that is named itself counts in any case.

    Returns:
        Each file with its path relative to the folder that was named, or its name alone.

    Raises:
        UsageError: one of them is not there, or there is no file at all.
    """
    files: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            files += [(path, path.relative_to(source)) for path in _within(source, suffixes)]
        elif source.is_file():
            files.append((source, Path(source.name)))
        else:
            raise UsageError(f"{source} is not there; name files or folders")
    if not files:
        listed = ", ".join(suffixes)
        raise UsageError(f"{', '.join(map(str, sources))}: no file that ends in {listed}; name the files themselves")
    return files


def _within(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """List the files of a folder and those below it, but for hidden ones."""
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not is_hidden and path.suffix.lower() in suffixes and path.is_file():
            yield path


def plan(files: Sequence[tuple[Path, Path]], output: str, *, is_file: bool) -> list[Task]:
    """Decide where what is made of each file goes.

    Args:
        files: each with the relative path of what is made of it.
        output: a file, or a folder, which keeps relative paths.
        is_file: which of them; see `is_one_file`.

    Returns:
        A task a file.

    Raises:
        UsageError: two files would be written to the same place, or one over itself.
    """
    root = Path(output)
    tasks = [Task(source, root if is_file else root / made) for source, made in files]
    taken: dict[Path, Path] = {}
    for task in tasks:
        if (other := taken.setdefault(task.target, task.source)) is not task.source:
            raise UsageError(f"{other} and {task.source} would both become {task.target}; write them to two folders")
        if task.target.exists() and task.target.samefile(task.source):
            raise UsageError(f"{task.source} would be written over itself; name another output")
    return tasks


def is_one_file(sources: Sequence[Path], output: str) -> bool:
    """Tell whether an output is the file that is made of one other file, not a folder."""
    is_folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    return len(sources) == 1 and not sources[0].is_dir() and not is_folder


def check_file(target: Path, reason: str) -> None:
    """Refuse a folder where there can only be a file.

    Raises:
        UsageError: it is one.
    """
    if target.is_dir():
        raise UsageError(f"{reason}, and {target} is a folder; name a file")


def check_free(target: Path, *, force: bool) -> None:
    """Refuse to write over a file unless that is wished for.

    Raises:
        UsageError: there is one.
    """
    if target.exists() and not force:
        raise UsageError(f"{target} is there already; name another output, or add --force")


def write_whole(target: Path, content: bytes) -> None:
    """Write a file beside its place, and move it there in one step; whatever goes wrong leaves nothing behind.

    Args:
        target: the file; its folders are made.
        content: all of it.

    Raises:
        OSError: it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with aside.open("xb") as file:
            file.write(content)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
