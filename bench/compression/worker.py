"""Writes or reads the streams of a campaign under one ONNX Runtime, in one way; prints what came of it as JSON."""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from artifact.code_prior import PRIOR
from artifact.codes import Arrays
from artifact.exact import ExactPrior
from artifact.golden import Run
from artifact.manifest import MANIFEST_FILE, read_manifest
from bench.compression.streams import Streams, identical_read, identical_written, write

OPTIMISATIONS = {
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}

_FLOATING, _DIGITS = 64, 8
"""Streams that the floating-point prior is given, and the digits that are shown of the hash."""


def main() -> int:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", type=Path, help="folder of a model with an exact prior")
    parser.add_argument("streams", type=Path, help="npz of the campaign")
    parser.add_argument("way", choices=("write", "rewrite", "read"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--optimisation", choices=sorted(OPTIMISATIONS), default="none")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--count", type=int, help="of the first streams; left out: all")
    parser.add_argument("--float", action="store_true", help="hash what the floating-point prior gives as well")
    options = parser.parse_args()
    prior = prior_of(options.artifact)
    opened = session_options(threads=options.threads, optimisation=options.optimisation)
    run = runner(prior, options.artifact, opened)
    found = work(prior, run, options.streams, options.way, options.batch, options.count)
    if options.float:
        found["floating"] = floating_digest(options.artifact, options.streams, opened)
    print(json.dumps(found))
    return 0


def prior_of(artifact: Path) -> ExactPrior:
    """Read the exact prior of a model.

    Raises:
        SystemExit: it has none.
    """
    prior = read_manifest(artifact / MANIFEST_FILE).exact_prior
    if prior is None:
        raise SystemExit(f"{artifact} has no exact prior; run fit-exact and export it again")
    return prior


def session_options(*, threads: int, optimisation: str) -> onnxruntime.SessionOptions:
    """Give the options of sessions.

    Args:
        threads: of one run.
        optimisation: of the graphs, `all` or `none`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = OPTIMISATIONS[optimisation]
    return options


def floating_digest(artifact: Path, streams: Path, options: onnxruntime.SessionOptions) -> str:
    """Hash what the floating-point prior gives for the first streams.

    Args:
        artifact: folder of a model.
        streams: npz of the campaign.
        options: of the session.

    Returns:
        The first hexadecimal digits of the sha256 of the logits of its first link, without conditions.
    """
    manifest = read_manifest(artifact / MANIFEST_FILE)
    graph = manifest.graphs[PRIOR]
    codes = Streams.load(streams).first(_FLOATING).grids[0]
    session = onnxruntime.InferenceSession(str(artifact / graph.file), options, providers=["CPUExecutionProvider"])
    feeds = {one.name: np.zeros(len(codes), dtype=np.int64) for one in graph.inputs} | {"codes": codes}
    (logits,) = session.run(["logits"], feeds)
    return hashlib.sha256(logits.tobytes()).hexdigest()[:_DIGITS]


def runner(prior: ExactPrior, folder: Path, options: onnxruntime.SessionOptions) -> Run:
    """Open the graphs of an exact prior on the CPU.

    Args:
        prior: which.
        folder: of its graphs.
        options: of the sessions.

    Returns:
        Runs a graph by its role.
    """
    sessions = {
        role: onnxruntime.InferenceSession(str(folder / graph.file), options, providers=["CPUExecutionProvider"])
        for role, graph in prior.graphs.items()
    }

    names = {role: [tensor.name for tensor in graph.outputs] for role, graph in prior.graphs.items()}

    def run(role: str, feeds: Arrays) -> Arrays:
        return dict(zip(names[role], sessions[role].run(names[role], feeds), strict=True))

    return run


_WAYS: dict[str, Callable[[ExactPrior, Streams, Run, int], int]] = {
    "rewrite": identical_written,
    "read": identical_read,
}


def work(
    prior: ExactPrior, run: Run, path: Path, way: str, batch: int, count: int | None = None
) -> dict[str, int | float | str]:
    """Write the streams of a file into it, or count how many are written or read just so.

    Args:
        prior: in exact integers.
        run: of its graphs.
        path: npz of the campaign.
        way: `write`, `rewrite` or `read`.
        batch: streams side by side.
        count: of the first streams; None for all.

    Returns:
        What came of it.
    """
    streams = Streams.load(path)
    streams = streams.first(len(streams) if count is None else count)
    begun_s = time.perf_counter()
    if way == "write":
        written = write(prior, streams, run, batch)
        written.save(path)
        identical = len(written)
    else:
        identical = _WAYS[way](prior, streams, run, batch)
    return {
        "streams": len(streams),
        "identical": identical,
        "seconds": time.perf_counter() - begun_s,
        "floating": "",
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    raise SystemExit(main())
