"""Claim: what was written under an exact prior decodes identically wherever, and however, it is decoded.

Streams are written with 2 threads, all optimisations of graphs, by the parallel pass. They are then read step by step
with 1 thread and no optimisation, alone and side by side, written and read again by torch, by the oldest ONNX Runtime
there is for this Python, by one that AVX-512, AVX2 and AVX are hidden from, and on processors without them, which QEMU
emulates. The codes are those of pictures. Beside each the table has the beginning of a hash of what the floating-point
prior gives there: it tells that these places do compute differently.
"""

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from artifact.manifest import MANIFEST_FILE, read_manifest
from bench.arguments import count
from bench.compression.environments import Place, UnavailableError, emulator, here, old_runtime, processor
from bench.compression.hiding import hidden
from bench.compression.pictures import read_pictures
from bench.compression.streams import Streams
from bench.compression.table import markdown

_ROOT = Path(__file__).parents[2]
_BATCH = 64
_SHOWN = 2000
"""Of what a worker that failed has to say, the last so many characters."""
_EMULATED = {"Haswell": "without AVX-512", "SandyBridge": "without AVX2 and FMA", "Nehalem": "SSE alone"}
_HIDDEN = {"avx512": "AVX-512 hidden", "avx2": "AVX2 and FMA hidden", "avx": "AVX hidden"}


@dataclass(frozen=True)
class Setting:
    """One way to write or read all streams again.

    Attributes:
        name: for the table.
        place: where.
        words: of the worker, after its streams.
        count: of the first streams; None for all.
        module: the worker.
        before: words of the worker before its streams.
    """

    name: str
    place: Place
    words: tuple[str, ...]
    count: int | None = None
    module: str = "bench.compression.worker"
    before: tuple[str, ...] = ()


def main() -> int:
    """Write the streams, read them in every setting, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, help="folder of a model of pictures with an exact prior")
    parser.add_argument("pictures", type=Path, help="zip file or folder whose codes are written")
    parser.add_argument("--streams", type=count, default=10_000)
    parser.add_argument("--alone", type=count, default=10_000, help="streams that are read one by one, by torch")
    parser.add_argument("--emulated", type=count, default=100, help="streams on each emulated processor")
    parser.add_argument("--crop", type=count, help="pixels a side of the pictures' middle; left out: all")
    parser.add_argument("--run", type=Path, help="folder of the run; left out: torch does not read")
    parser.add_argument("--root", help="where the run's data are")
    parser.add_argument("--old", type=Path, help="environment of an old ONNX Runtime; left out: made, and removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "streams.npz"
        codes_of(options.artifact, options.pictures, options.streams, options.crop).save(path)
        written = work(options.artifact, path, _WRITING)
        print(f"{written['streams']} streams, {_bytes(path):.1f} bytes each on average: {_WRITING.name}")
        print(f"what the floating-point prior gives there begins with {written['floating']}")
        rows, wrong = [], 0
        for setting in _settings(options, Path(folder)):
            found = work(options.artifact, path, setting)
            wrong += int(found["streams"]) - int(found["identical"])
            rows.append(_row(setting, found))
            print(" | ".join(rows[-1]), flush=True)
    print(markdown(("setting", "identical", "float prior", "ONNX Runtime", "NumPy", "seconds"), rows))
    print(f"streams that differ anywhere: {wrong}")
    return 1 if wrong else 0


_WRITING = Setting(
    "written by the parallel pass, 2 threads, all optimisations",
    here(),
    ("write", "--threads", "2", "--optimisation", "all", "--float", "--batch", str(_BATCH)),
)


def _settings(options: argparse.Namespace, folder: Path) -> Iterator[Setting]:
    """List the settings; what cannot be had here is told."""
    plain, side_by_side = ("--threads", "1", "--optimisation", "none"), ("--batch", "16")
    yield Setting(
        "step by step, 1 thread, no optimisation, batch 16", here(), ("read", *plain, "--float", *side_by_side)
    )
    alone = ("read", *plain, "--batch", "1")
    yield Setting("step by step, 1 thread, no optimisation, batch 1", here(), alone, options.alone)
    yield Setting("parallel pass, 1 thread, no optimisation, batch 1", here(), ("rewrite", *plain, "--batch", "1"))
    if options.run is not None:
        torch, before = "bench.compression.reference", (str(options.run), str(options.root))
        yield Setting("torch, parallel pass", here(), ("rewrite", *side_by_side), None, torch, before)
        yield Setting("torch, step by step", here(), ("read", *side_by_side), options.alone, torch, before)
    try:
        old = Place((str(options.old / "bin" / "python"),)) if options.old else old_runtime(folder / "old")
        yield Setting("oldest ONNX Runtime, step by step, batch 16", old, ("read", *plain, *side_by_side))
        optimised = ("read", "--threads", "2", "--optimisation", "all", *side_by_side)
        yield Setting("the same, 2 threads, all optimisations", old, optimised, options.alone)
    except UnavailableError as error:
        print(error)
    yield from _hidden(folder / "hidden", side_by_side)
    yield from _emulated(folder / "emulator", options.emulated, side_by_side)


def _hidden(folder: Path, batch: tuple[str, ...]) -> Iterator[Setting]:
    """List the settings of an ONNX Runtime that knows of fewer instructions."""
    try:
        places = hidden(folder)
    except UnavailableError as error:
        print(error)
        return
    for name, what in _HIDDEN.items():
        words = ("read", "--threads", "1", "--optimisation", "all", "--float", *batch)
        yield Setting(f"{what}, step by step, all optimisations, batch 16", places[name], words)
        words = ("rewrite", "--threads", "2", "--optimisation", "none", *batch)
        yield Setting(f"{what}, parallel pass, 2 threads, no optimisation", places[name], words)


def _emulated(folder: Path, count: int, batch: tuple[str, ...]) -> Iterator[Setting]:
    """List the settings on emulated processors."""
    try:
        program = emulator(folder)
    except UnavailableError as error:
        print(error)
        return
    words = ("read", "--threads", "1", "--optimisation", "all", "--float", *batch)
    for name, lacking in _EMULATED.items():
        place = processor(program, name, here())
        yield Setting(f"{lacking} (QEMU {name}), step by step", place, words, count)


def work(artifact: Path, path: Path, setting: Setting) -> dict[str, float | str]:
    """Run a worker.

    Args:
        artifact: folder of the model.
        path: of the streams.
        setting: how and where.

    Returns:
        What it printed.
    """
    words = [*setting.place.command, "-m", setting.module, str(artifact), *setting.before, str(path), *setting.words]
    words += [] if setting.count is None else ["--count", str(setting.count)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | setting.place.environment
    answer = subprocess.run(words, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{setting.name}: the worker ended with {answer.returncode}\n{answer.stderr[-_SHOWN:]}")
    found: dict[str, float | str] = json.loads(answer.stdout.splitlines()[-1])
    return found


def codes_of(artifact: Path, pictures: Path, streams: int, crop: int | None) -> Streams:
    """Encode pictures, over and over where there are too few.

    Args:
        artifact: folder of the model.
        pictures: a zip file or a folder.
        streams: how many.
        crop: pixels a side of their middle; None for whole pictures, which are of one size then.

    Returns:
        Their codes, link by link.
    """
    manifest = read_manifest(artifact / MANIFEST_FILE)
    if manifest.exact_prior is None:
        raise SystemExit(f"{artifact} has no exact prior; run fit-exact and export it again")
    graph = manifest.graphs["encode"]
    session = onnxruntime.InferenceSession(str(artifact / graph.file), providers=["CPUExecutionProvider"])
    x = np.stack([_middle(one, crop) for one in read_pictures(pictures, count=streams)])
    parts = [session.run(None, {"x": x[first : first + _BATCH]}) for first in range(0, len(x), _BATCH)]
    levels = [np.concatenate(level) for level in zip(*parts, strict=True)]
    grids = []
    for link in manifest.exact_prior.links:
        codes = levels[link.level]
        several = getattr(manifest.latent[link.level], "num_codebooks", 1) > 1
        grids.append(np.resize(codes[:, link.codebook] if several else codes, (streams, *codes.shape[-2:])))
    return Streams(tuple(grids))


def _middle(picture: np.ndarray, crop: int | None) -> np.ndarray:
    """Cut the middle out."""
    if crop is None:
        return picture
    top, left = ((side - crop) // 2 for side in picture.shape[:2])
    return picture[top : top + crop, left : left + crop]


def _bytes(path: Path) -> float:
    """Give the mean length of a stream."""
    return float(np.mean([len(payload) for payload in Streams.load(path).payloads]))


def _row(setting: Setting, found: dict[str, float | str]) -> tuple[str, ...]:
    """Set what a worker found as a row."""
    runtime = "" if setting.module.endswith("reference") else str(found["onnxruntime"])
    share = f"{found['identical']:,} of {found['streams']:,}"
    return setting.name, share, str(found["floating"]), runtime, str(found["numpy"]), f"{float(found['seconds']):.0f}"


if __name__ == "__main__":
    raise SystemExit(main())
