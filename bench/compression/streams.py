"""Streams of a campaign: grids of codes, the bytes that they were written as, and whoever writes and reads them.

It imports what decoding needs and nothing else, so that an old runtime, or an emulated processor, can run it.
"""

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64

from artifact.coding import read_codes, weigh_codes
from artifact.exact import ExactPrior
from artifact.golden import Run
from artifact.sampling import complete
from codec.entropy import ChunkDecoder, encode_chunk
from codec.errors import MalformedContainerError
from codec.probabilities import intervals, surprise_bits

Grids = tuple[Int32[np.ndarray, "N *grid"], ...]


@dataclass(frozen=True)
class Streams:
    """Grids of codes, and what they were written as.

    Attributes:
        grids: of each link of a prior, of all streams.
        payloads: of each stream; empty where nothing was written yet.
    """

    grids: Grids
    payloads: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.grids[0])

    def first(self, count: int) -> "Streams":
        """Give the first streams."""
        return Streams(tuple(grid[:count] for grid in self.grids), self.payloads[:count])

    def save(self, path: Path) -> None:
        """Write all as npz."""
        lengths = np.array([len(payload) for payload in self.payloads], dtype=np.int32)
        joined = np.frombuffer(b"".join(self.payloads), dtype=np.uint8)
        grids = {f"codes_{index}": grid for index, grid in enumerate(self.grids)}
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, lengths=lengths, payloads=joined, **grids)

    @classmethod
    def load(cls, path: Path) -> "Streams":
        """Read what `save` wrote."""
        with zipfile.ZipFile(path) as names:
            count = sum(name.startswith("codes_") for name in names.namelist())
        with np.load(path, allow_pickle=False) as arrays:
            ends, joined = np.cumsum(arrays["lengths"]).tolist(), arrays["payloads"].tobytes()
            starts = [0, *ends[:-1]] if ends else []
            payloads = tuple(joined[start:end] for start, end in zip(starts, ends, strict=True))
            return cls(tuple(arrays[f"codes_{index}"] for index in range(count)), payloads)


@dataclass(frozen=True)
class Intervals:
    """The parts of 0 .. T - 1 that the codes of some streams own, in the order of coding: all links, one after another.

    Attributes:
        starts: c.
        sizes: f.
    """

    starts: Int64[np.ndarray, "n places"]
    sizes: Int64[np.ndarray, "n places"]

    def payloads(self) -> list[bytes]:
        """Write each stream."""
        return [encode_chunk(start, size) for start, size in zip(self.starts, self.sizes, strict=True)]

    def bits(self) -> list[float]:
        """Give -log2 p of each stream."""
        return [surprise_bits(size) for size in self.sizes]


def weigh(prior: ExactPrior, grids: Sequence[Int32[np.ndarray, "n *grid"]], run: Run) -> Intervals:
    """Find the intervals of codes by the parallel pass.

    Args:
        prior: in exact integers.
        grids: of each link.
        run: of its graphs.

    Returns:
        The intervals of each stream.
    """
    count, parts = len(grids[0]), []
    for logits, grid in zip(complete(weigh_codes(prior, grids), run), grids, strict=True):
        found = intervals(logits.reshape(grid.size, -1), grid.reshape(-1))
        parts.append([one.reshape(count, -1) for one in found])
    return Intervals(*(np.concatenate(one, axis=1) for one in zip(*parts, strict=True)))


def write(prior: ExactPrior, streams: Streams, run: Run, batch: int) -> Streams:
    """Write all streams by the parallel pass, so many at a time."""
    payloads: list[bytes] = []
    for part in _batches(streams, batch):
        payloads += weigh(prior, part.grids, run).payloads()
    return replace(streams, payloads=tuple(payloads))


def identical_written(prior: ExactPrior, streams: Streams, run: Run, batch: int) -> int:
    """Count the streams that are written with the very same bytes."""
    again = write(prior, streams, run, batch)
    return sum(one == other for one, other in zip(again.payloads, streams.payloads, strict=True))


def identical_read(prior: ExactPrior, streams: Streams, run: Run, batch: int) -> int:
    """Count the streams that decode to the very same codes, step by step, so many side by side."""
    return sum(_identical_in(prior, part, run) for part in _batches(streams, batch))


def _identical_in(prior: ExactPrior, part: Streams, run: Run) -> int:
    """Count them in a batch."""
    decoders = [ChunkDecoder(payload) for payload in part.payloads]
    found = complete(read_codes(prior, [grid.shape[1:] for grid in part.grids], decoders), run)
    same = np.ones(len(part), dtype=np.bool_)
    for grid, codes in zip(part.grids, found, strict=True):
        same &= (grid == codes).reshape(len(part), -1).all(axis=1)
    return sum(bool(equal) and _is_whole(decoder) for equal, decoder in zip(same, decoders, strict=True))


def _is_whole(decoder: ChunkDecoder) -> bool:
    """Tell whether what was read is written with the bytes that were given."""
    try:
        decoder.finish()
    except MalformedContainerError:
        return False
    return True


def _batches(streams: Streams, batch: int) -> Iterator[Streams]:
    """Cut streams into batches."""
    for first in range(0, len(streams), batch):
        part = slice(first, first + batch)
        yield Streams(tuple(grid[part] for grid in streams.grids), streams.payloads[part])
