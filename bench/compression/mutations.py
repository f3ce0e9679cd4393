"""Claim: whatever happened to a container, it is refused with a typed error or gives the right tokens, fast and small.

Containers of both versions are damaged: bits flipped, pieces inserted, deleted, cut off, taken from other containers,
sizes replaced by huge ones; read with the model that they were written for or with another; as they are, with a closing
checksum that fits, with all checksums fitting, and with even that of the tokens. Tokens count as right if they are
those that were written, or if the very bytes are what the tokens that came out are written as. Chunks that are salvaged
must be those that were written there, under the same header.
"""

import argparse
import random
import resource
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from bench.arguments import count
from bench.compression.damage import WAYS, damaged, forged
from bench.compression.specimens import SPECIMENS, Specimen, read, rewrite
from bench.resources import megabytes
from bench.verdict import Claim, judge
from codec.coded import Coded, salvage_coded
from codec.errors import CodecError
from codec.reading import read_any

SLOWEST_MS = 100.0
"""A whole specimen is decoded in less, by a long way."""
LARGEST_BYTES = 1 << 20
TRACED = 100
"""One in so many, the first ones, are run under a tracer of memory, which is slow."""

_KINDS = [*WAYS, *WAYS, "forged", "forged, tokens too"]


@dataclass
class Campaign:
    """What has happened so far.

    Attributes:
        outcomes: by kind of damage and what came of it.
        slowest_s: the most time of a processor that one took, and its kind.
        largest_bytes: the most memory that one took, and its kind.
        wrong: how many gave tokens that are not right, or an error of no type.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest_s: tuple[float, str] = (0.0, "none")
    largest_bytes: tuple[int, str] = (0, "none")
    wrong: int = 0

    def run(self, rng: random.Random) -> None:
        """Damage a container, and read it; what it takes of memory is seen where that is traced, else of time."""
        specimen, kind, data = mutated(rng)
        reader = specimen if rng.random() < 0.9 else rng.choice(SPECIMENS)
        is_traced = tracemalloc.is_tracing()
        tracemalloc.reset_peak()
        start_bytes, start_s = tracemalloc.get_traced_memory()[0], time.process_time()
        outcome, is_right = outcome_of(data, specimen, reader)
        is_right &= kind.startswith("forged") or salvaged_rightly(data)
        taken_s = time.process_time() - start_s
        if is_traced:
            self.largest_bytes = max(self.largest_bytes, (tracemalloc.get_traced_memory()[1] - start_bytes, kind))
        else:
            self.slowest_s = max(self.slowest_s, (taken_s, kind))
        self.outcomes[kind, outcome] += 1
        self.wrong += not is_right


def mutated(rng: random.Random) -> tuple[Specimen, str, bytes]:
    """Damage a container.

    Args:
        rng: what is left to chance.

    Returns:
        Which one, how, and the bytes.
    """
    specimen, kind = rng.choice(SPECIMENS), rng.choice(_KINDS)
    if kind in WAYS:
        is_sealed = rng.random() < 0.5
        data = damaged(specimen, kind, rng, SPECIMENS, is_sealed=is_sealed)
        return specimen, f"{kind}, sealed" if is_sealed else kind, data
    return specimen, kind, forged(specimen, rng, SPECIMENS, fits=kind != "forged")


def outcome_of(data: bytes, written: Specimen, reader: Specimen) -> tuple[str, bool]:
    """Read what may be damaged.

    Args:
        data: the bytes.
        written: what they once were.
        reader: whose model is at hand.

    Returns:
        The name of what happened, and whether it may happen.
    """
    try:
        container, codes = read(data, reader)
    except CodecError as error:
        return type(error).__name__, True
    except Exception as error:  # noqa: BLE001 (what a service would answer 500 for is counted, not raised)
        return type(error).__name__, False
    if len(codes) == len(written.codes) and all(map(np.array_equal, codes, written.codes)):
        return "tokens", rewrite(container, codes, reader.layout) == data
    return "other tokens, in their one form", rewrite(container, codes, reader.layout) == data


def salvaged_rightly(data: bytes) -> bool:
    """Salvage what may be damaged, though nobody forged its checksums.

    Args:
        data: the bytes.

    Returns:
        Whether each chunk that is taken for sound is one that was written there under that header.
    """
    try:
        found, lost = salvage_coded(data)
    except CodecError:
        return True
    if found.chunk_rows is None:
        return True
    for specimen in SPECIMENS:
        written = read_any(specimen.data)
        if isinstance(written, Coded) and replace(written, chunks=found.chunks) == found:
            pairs = enumerate(zip(found.chunks, written.chunks, strict=True))
            return all(number in lost or chunk == original for number, (chunk, original) in pairs)
    return len(lost) == len(found.chunks)


def main() -> int:
    """Run the campaign, print what came of it, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=count, default=1_000_000, help="containers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, campaign = random.Random(options.seed), Campaign()
    start_s = time.perf_counter()
    tracemalloc.start()
    for _ in range(options.count // TRACED):
        campaign.run(rng)
    tracemalloc.stop()
    start_bytes = _resident_bytes()
    for _ in range(options.count - options.count // TRACED):
        campaign.run(rng)
    print(f"{options.count} containers in {time.perf_counter() - start_s:.0f} s")
    for kind, outcome in sorted(campaign.outcomes):
        print(f"{kind:<20}  {outcome:<32}  {campaign.outcomes[kind, outcome]:>8}")
    slowest_ms, slowest_kind = 1000 * campaign.slowest_s[0], campaign.slowest_s[1]
    largest, largest_kind = campaign.largest_bytes
    print(f"resident memory grew by {megabytes(_resident_bytes() - start_bytes)} at most")
    limit_ms, limit = f"{SLOWEST_MS:.0f} ms", megabytes(LARGEST_BYTES)
    return judge(
        [
            Claim("no wrong token, no error without a type", str(campaign.wrong), campaign.wrong == 0),
            Claim(
                f"none takes a processor {limit_ms} ({slowest_kind})", f"{slowest_ms:.1f} ms", slowest_ms < SLOWEST_MS
            ),
            Claim(f"none takes {limit} ({largest_kind})", f"{largest / 1024:.0f} kB", largest < LARGEST_BYTES),
        ]
    )


def _resident_bytes() -> int:
    """Give the most memory that this process has ever had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    raise SystemExit(main())
