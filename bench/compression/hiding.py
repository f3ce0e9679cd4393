"""An ONNX Runtime that is told of fewer vector instructions than the processor has, at full speed.

Which kernels it takes it decides by the instruction `cpuid`, which a program cannot forbid here. In a copy of its
library each of them is replaced by one that is illegal (`ud2`, as long), and `hidden_cpu.c` answers in its place.
"""

import importlib.util
import os
import re
import subprocess
from pathlib import Path

from bench.compression.environments import Place, UnavailableError, here

_SOURCE = Path(__file__).with_name("hidden_cpu.c")
_CPUID, _ILLEGAL = b"\x0f\xa2", b"\x0f\x0b"
_LOAD = re.compile(r"^\s*LOAD\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+)\s+0x[0-9a-f]+\s+(0x[0-9a-f]+)", re.MULTILINE)
_FOUND = re.compile(r"^\s*([0-9a-f]+):\s+cpuid\b", re.MULTILINE)


def hidden(folder: Path) -> dict[str, Place]:
    """Copy this Python's ONNX Runtime so that it can be told of fewer instructions.

    Args:
        folder: to put it into, not there yet.

    Returns:
        A place for each of `avx512`, `avx2` (which hides FMA as well) and `avx`; each hides those before it.

    Raises:
        UnavailableError: there is no compiler or disassembler, or nothing to replace was found.
    """
    (package,) = _searched("onnxruntime")
    folder.mkdir()
    _mirror(package, folder / package.name)
    library = next((folder / package.name / "capi").glob("onnxruntime_pybind11_state*.so"))
    preloaded = folder / "hidden_cpu.so"
    try:
        _replace(library)
        _run("cc", "-O2", "-shared", "-fPIC", "-o", str(preloaded), str(_SOURCE))
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"nothing can be hidden from ONNX Runtime here: {error}") from error
    paths = os.pathsep.join((str(folder), str(Path(__file__).parents[2])))
    common = {"PYTHONPATH": paths, "LD_PRELOAD": str(preloaded)}
    return {name: Place(here().command, common | {"HIDDEN_CPU": name}) for name in ("avx512", "avx2", "avx")}


def _searched(name: str) -> list[Path]:
    """Give the folders of a package."""
    found = importlib.util.find_spec(name)
    return [Path(one) for one in (found.submodule_search_locations or ())] if found is not None else []


def _mirror(package: Path, copy: Path) -> None:
    """Link all files of a package, which is large."""
    for folder, _, files in os.walk(package):
        into = copy / Path(folder).relative_to(package)
        into.mkdir()
        for name in files:
            (into / name).symlink_to(Path(folder) / name)


def _replace(library: Path) -> None:
    """Put an illegal instruction in place of each `cpuid` of a library.

    Raises:
        UnavailableError: it has none.
    """
    code = bytearray(library.read_bytes())
    segments = [tuple(int(one, 16) for one in found) for found in _LOAD.findall(_run("readelf", "-lW", str(library)))]
    addresses = [int(one, 16) for one in _FOUND.findall(_run("objdump", "-d", "--no-show-raw-insn", str(library)))]
    for address in addresses:
        (offset,) = (start + address - first for start, first, size in segments if first <= address < first + size)
        if code[offset : offset + 2] != _CPUID:
            raise UnavailableError(f"{library.name} has no cpuid where its disassembly says so, at {address:#x}")
        code[offset : offset + 2] = _ILLEGAL
    if not addresses:
        raise UnavailableError(f"{library.name} has no cpuid that could be hidden")
    library.unlink()
    library.write_bytes(code)


def _run(*words: str) -> str:
    """Run a command, and give what it printed."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=600).stdout
