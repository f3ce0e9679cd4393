"""Other places to decode in: an old ONNX Runtime in an environment of its own, and processors that lack something."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_NEEDED = ("numpy<2", "pydantic", "jaxtyping", "google-crc32c")
"""Besides ONNX Runtime, what reading a manifest and decoding import."""

_QEMU = "qemu-user-static"


@dataclass(frozen=True)
class Place:
    """Where a worker runs.

    Attributes:
        command: before the words of the worker.
        environment: variables to set.
    """

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


class UnavailableError(Exception):
    """A place cannot be had on this machine."""


def here() -> Place:
    """Give this Python."""
    return Place((sys.executable,))


def old_runtime(folder: Path) -> Place:
    """Install the oldest ONNX Runtime that there is for this Python, with a NumPy of that time.

    Args:
        folder: to install into, not there yet.

    Returns:
        Where it is.

    Raises:
        UnavailableError: it cannot be installed.
    """
    try:
        _run(sys.executable, "-m", "venv", str(folder))
        python = folder / "bin" / "python"
        listed = _run(str(python), "-m", "pip", "index", "versions", "onnxruntime")
        versions = next(line for line in listed.splitlines() if line.startswith("Available versions: "))
        oldest = versions.rsplit(" ", 1)[-1]
        _run(str(python), "-m", "pip", "install", "--quiet", f"onnxruntime=={oldest}", *_NEEDED)
    except (OSError, StopIteration, subprocess.SubprocessError) as error:
        raise UnavailableError(f"no old ONNX Runtime could be installed: {error}") from error
    return Place((str(python),))


def emulator(folder: Path) -> Path:
    """Fetch QEMU's emulator of x86-64 programs; nothing is installed.

    Args:
        folder: to unpack it into.

    Returns:
        The program.

    Raises:
        UnavailableError: the package cannot be had.
    """
    folder.mkdir()
    try:
        _run("apt-get", "-qq", "download", _QEMU, cwd=folder)
        (package,) = folder.glob("*.deb")
        _run("dpkg", "-x", str(package), str(folder))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{_QEMU} could not be fetched: {error}") from error
    return folder / "usr" / "bin" / "qemu-x86_64-static"


def processor(program: Path, name: str, place: Place) -> Place:
    """Give an emulated processor.

    Args:
        program: see `emulator`.
        name: of the processor, as QEMU has it.
        place: what runs on it.

    Returns:
        The place.
    """
    # NumPy's OpenBLAS does not ask QEMU what the processor has, but its name; under an old one it must be told.
    known = {"OPENBLAS_CORETYPE": "Nehalem"} if name == "Nehalem" else {}
    return Place((str(program), "-cpu", name, *place.command), place.environment | known)


def _run(*words: str, cwd: Path | None = None) -> str:
    """Run a command, and give what it printed."""
    return subprocess.run(words, cwd=cwd, check=True, capture_output=True, text=True, timeout=600).stdout
