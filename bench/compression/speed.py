"""Claim: a 16x16 map of codes is coded in milliseconds, and decoded at least 10 times faster than by full passes.

The prior is a gated PixelCNN of at most 0.5 million parameters in exact integers, with random weights, which cost what
fitted ones do. Full passes run the whole prior once for each token, as a decoder without steps must.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from artifact.coding import weigh_codes
from artifact.exact import ExactPrior
from artifact.golden import Run
from artifact.manifest import EXACT_PRIOR
from artifact.sampling import complete
from bench.arguments import count
from bench.compression.streams import Streams, identical_read, weigh
from bench.compression.worker import runner, session_options
from bench.measure import spread
from codec.entropy import ChunkDecoder
from models.chain import Chain, LinkGrid
from models.exact.convert import exact_prior
from models.exact.layers import calibrating, freeze
from models.families.pixelcnn import PixelCNNConfig
from training.exact_export import describe_exact
from training.graphs.exact import write_exact_graphs
from training.graphs.prior import graphs

_SIDE, _CODES = 16, 512
_MOST_PARAMETERS, _LEAST_RATIO = 500_000, 10.0
_COMPRESS_MS, _DECOMPRESS_MS = 15.0, 60.0
_WARM = 3


def main() -> int:
    """Build the prior, time all three ways, and tell whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=count, default=48)
    parser.add_argument("--layers", type=count, default=8)
    parser.add_argument("--hidden", type=count, default=144)
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--repeats", type=count, default=30)
    options = parser.parse_args()
    config = PixelCNNConfig(channels=options.channels, layers=options.layers, hidden=options.hidden, dropout=0.0)
    random = np.random.default_rng(0)
    streams = Streams((random.integers(0, _CODES, (1, _SIDE, _SIDE), dtype=np.int32),))
    with tempfile.TemporaryDirectory() as folder:
        prior, parameters = _built(config, Path(folder))
        run = runner(prior, Path(folder), session_options(threads=options.threads, optimisation="all"))
        # A step is too small to be shared out: the service runs it on one thread as well.
        stepping = runner(prior, Path(folder), session_options(threads=1, optimisation="all"))
        payload = weigh(prior, streams.grids, run).payloads()
        written = Streams(streams.grids, tuple(payload))
        if identical_read(prior, written, run, 1) != 1 or not np.array_equal(
            _full(prior, written, run), streams.grids[0]
        ):
            raise SystemExit("the map did not come back")
        ways: dict[str, Callable[[], object]] = {
            "compress": lambda: weigh(prior, streams.grids, run).payloads(),
            "decompress": lambda: identical_read(prior, written, stepping, 1),
            "by full passes": lambda: _full(prior, written, run),
        }
        times = {name: _times_ms(way, options.repeats if name != "by full passes" else 3) for name, way in ways.items()}
    print(f"{parameters:,} parameters, {_SIDE}x{_SIDE} codes of {_CODES}, {options.threads} threads a pass, 1 a step")
    for name, found in times.items():
        print(f"{name}: {spread(found, 'ms')}")
    compress, decompress, full = (float(np.median(found)) for found in times.values())
    holds = full / decompress >= _LEAST_RATIO and compress <= _COMPRESS_MS and decompress <= _DECOMPRESS_MS
    print(
        f"ratio of full passes to steps: {full / decompress:.1f}; at least {_LEAST_RATIO:g}, {_COMPRESS_MS:g} ms and "
        f"{_DECOMPRESS_MS:g} ms at most: {'yes' if holds else 'NO'}"
    )
    return 0 if holds else 1


def _built(config: PixelCNNConfig, folder: Path) -> tuple[ExactPrior, int]:
    """Write the graphs of a prior with random weights; say what the manifest would, and count its parameters."""
    torch.manual_seed(0)
    grid = LinkGrid(_CODES, (_SIDE, _SIDE), 0, 0, 1)
    floating = config.build(grid, (), {})
    parameters = sum(parameter.numel() for parameter in floating.parameters())
    if parameters > _MOST_PARAMETERS:
        raise SystemExit(
            f"the prior has {parameters:,} parameters, expected at most {_MOST_PARAMETERS:,}; make it less"
        )
    exact = exact_prior(floating).eval()
    with torch.no_grad(), calibrating(exact):
        exact(torch.randint(0, _CODES, (4, *grid.shape)))
    freeze(exact)
    chain = Chain([exact], (grid,)).eval()
    specs = graphs(chain, (1,), any_size=False, prefix=EXACT_PRIOR)
    write_exact_graphs(specs, folder / "prior_exact.data")
    return describe_exact(chain, specs, folder, any_size=False, conditions={}), parameters


def _full(prior: ExactPrior, streams: Streams, run: Run) -> np.ndarray:
    """Decode a grid by one pass over all places for each of its codes."""
    decoder, codes = ChunkDecoder(streams.payloads[0]), np.zeros_like(streams.grids[0])
    for place in np.ndindex(codes.shape[1:]):
        (logits,) = complete(weigh_codes(prior, [codes]), run)
        codes[0, *place] = decoder.decode(logits[0, *place])
    return codes


def _times_ms(way: Callable[[], object], repeats: int) -> list[float]:
    """Time a call again and again, after a few that do not count."""
    found = []
    for index in range(min(_WARM, repeats) + repeats):
        begun_s = time.perf_counter()
        way()
        found.append(1e3 * (time.perf_counter() - begun_s))
        if index < min(_WARM, repeats):
            found.clear()
    return found


if __name__ == "__main__":
    raise SystemExit(main())
