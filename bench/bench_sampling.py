"""Claims: codes are drawn step by step at least 100 times faster than by whole passes, and are the same ones, on a
32x32 grid under a gated PixelCNN and under PixelSNAIL; and the tokens of speech faster than they are spoken.

All runs in ONNX Runtime on as many threads, with the same random weights, noise and draws.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from jaxtyping import Float64, Int32

from artifact.codes import Arrays, draw_codes
from artifact.manifest import Link
from artifact.noise import CODES_STREAM, batch_uniform
from artifact.sampling import complete, sample
from bench.arguments import count
from bench.measure import spread
from bench.verdict import Claim, judge
from models.chain import LinkGrid
from models.families.pixelcnn import PixelCNNConfig
from models.families.pixelsnail import PixelSNAILConfig
from models.families.wavenet import WaveNetConfig
from training.graphs.prior import link_graphs
from training.graphs.spec import GraphSpec
from training.graphs.write import write_graphs

CODES = 512
RUNS = 5
LEAST_RATIO = 100.0
TOKENS, TOKENS_PER_S = 64, 125

Codes = Int32[np.ndarray, "B *grid"]
Uniform = Float64[np.ndarray, "B places"]


@dataclass(frozen=True)
class Written:
    """The graphs of a prior over one grid, opened.

    Attributes:
        link: what a manifest would say of it.
        specs: its graphs by role.
        sessions: likewise.
    """

    link: Link
    specs: dict[str, GraphSpec]
    sessions: dict[str, onnxruntime.InferenceSession]

    def run(self, role: str, feeds: Arrays) -> Arrays:
        """Run a graph; outputs by name."""
        session = self.sessions[role]
        return dict(zip((tensor.name for tensor in session.get_outputs()), session.run(None, feeds), strict=True))

    def step_by_step(self, uniform: Uniform) -> Codes:
        """Draw by the steps of the prior."""
        return complete(sample(self.specs, self.link, {"uniform": uniform}), self.run)

    def by_whole_passes(self, uniform: Uniform) -> Codes:
        """Draw every place from a pass over the whole grid."""
        codes = np.zeros((1, *self.link.grid), dtype=np.int32)
        for place in range(math.prod(self.link.grid)):
            logits = self.run("prior", {"codes": codes})["logits"].reshape(1, -1, CODES)
            codes.reshape(1, -1)[:, place] = draw_codes(logits[:, place], uniform[:, place])
        return codes


def main() -> int:
    """Draw by both ways, and print the ratios of their times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=count, default=32, help="places on a side of the grid (default: %(default)s)")
    parser.add_argument("--threads", type=count, default=1, help="of a run (default: %(default)s)")
    options = parser.parse_args()
    square = options.side, options.side
    rasters = {
        "gated PixelCNN": PixelCNNConfig(channels=96, layers=10, hidden=384),
        "PixelSNAIL": PixelSNAILConfig(channels=96, layers=10, attention_every=5, hidden=384),
    }
    claims = [_raster(name, _write(config, square, options.threads)) for name, config in rasters.items()]
    claims.append(_speech(_write(WaveNetConfig(), (TOKENS,), options.threads)))
    return judge(claims)


def _write(config: Any, grid: tuple[int, ...], threads: int) -> Written:
    """Write the graphs of a prior of random weights, and open them."""
    torch.manual_seed(0)
    places = LinkGrid(CODES, grid, level=0, codebook=0, factor=1)
    prior = config.build(places, (), {}).eval().requires_grad_(False)
    specs = {spec.role: spec for spec in link_graphs(prior, (places,), (1,), any_size=False)}
    with tempfile.TemporaryDirectory() as folder:
        write_graphs(tuple(specs.values()), Path(folder) / "prior.data")
        sessions = {role: _session(Path(folder) / spec.file, threads) for role, spec in specs.items()}
    return Written(Link(order=prior.order, grid=grid), specs, sessions)


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _timed(draw: Callable[[Uniform], Codes], uniform: Uniform, runs: int) -> tuple[list[float], Codes]:
    """Draw several times; give the seconds of each, and the codes."""
    seconds, codes = [], np.zeros(0, dtype=np.int32)
    for _ in range(runs):
        start_s = time.perf_counter()
        codes = draw(uniform)
        seconds.append(time.perf_counter() - start_s)
    return seconds, codes


def _noise(written: Written) -> Uniform:
    return batch_uniform(0, 0, 1, math.prod(written.link.grid), stream=CODES_STREAM)


def _raster(name: str, written: Written) -> Claim:
    """Draw a grid by both ways."""
    uniform = _noise(written)
    written.step_by_step(uniform)
    stepwise, drawn = _timed(written.step_by_step, uniform, RUNS)
    (whole_s,), expected = _timed(written.by_whole_passes, uniform, 1)
    ratio = whole_s / statistics.median(stepwise)
    differ = int((drawn != expected).sum())
    print(f"{name}, step by step:    {spread(stepwise, 's')}")
    print(f"{name}, by whole passes: {whole_s:.1f} s (n = 1), {drawn.size} passes; codes that differ: {differ}")
    holds = ratio >= LEAST_RATIO and not differ
    return Claim(f"{name}: the same codes, at least {LEAST_RATIO:g} times faster", f"{ratio:.0f}", holds)


def _speech(written: Written) -> Claim:
    """Draw the tokens of an utterance."""
    uniform = _noise(written)
    written.step_by_step(uniform)
    seconds, drawn = _timed(written.step_by_step, uniform, RUNS)
    spoken_s = drawn.size / TOKENS_PER_S
    ratio = spoken_s / statistics.median(seconds)
    print(f"WaveNet, {drawn.size} tokens of {spoken_s:.3f} s of speech: {spread(seconds, 's')}")
    return Claim("WaveNet: tokens of speech faster than they are spoken", f"{ratio:.1f}", ratio > 1.0)


if __name__ == "__main__":
    raise SystemExit(main())
