"""Claim: payloads are as long as -log2 p of their codes, within a few bits, and headers are short.

Codes of pictures are written as the service writes them. Of each container the payload is held against -log2 p under
the integer tables, which no coder goes below on average; and the exact prior against the one in floating point.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from artifact.manifest import MANIFEST_FILE, read_manifest
from bench.arguments import count
from bench.compression.pictures import read_pictures
from bench.compression.served import Data, Served
from bench.compression.table import markdown
from codec.coded import Coded
from codec.reading import read_any
from service.bitstreams import Wish

_MEAN_BITS, _MOST_BITS, _MOST_HEADER_BYTES = 4.0, 8.0, 32


def main() -> int:
    """Write, print the table, and tell whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path, help="zip file or folder")
    parser.add_argument("artifacts", type=Path, nargs="+", help="folders of models of pictures, with exact priors")
    parser.add_argument("--streams", type=count, default=1000)
    parser.add_argument("--every", type=count, default=1, help="take pictures whose position is a multiple of it")
    options = parser.parse_args()
    pictures = read_pictures(options.pictures, every=options.every, count=options.streams)
    rows, holds = [], True
    for artifact in options.artifacts:
        row, fine = _measure(artifact, pictures)
        rows.append(row)
        holds &= fine
    head = ("model", "streams", "payload - (-log2 p), bits: mean", "most", "header, bytes", "exact / float prior, bits")
    print(markdown(head, rows))
    print(
        f"at most {_MEAN_BITS:g} bits on average, {_MOST_BITS:g} at most, headers of at most {_MOST_HEADER_BYTES} "
        f"bytes: {'yes' if holds else 'NO'}"
    )
    return 0 if holds else 1


def _measure(artifact: Path, pictures: Sequence[Data]) -> tuple[tuple[str, ...], bool]:
    """Measure one model: a row of the table, and whether the claim holds."""
    prior = read_manifest(artifact / MANIFEST_FILE).exact_prior
    if prior is None:
        raise SystemExit(f"{artifact} has no exact prior; run fit-exact and export it again")
    excess, headers = [], []
    with Served(artifact) as served:
        for picture in pictures:
            written = served.compress(picture, Wish(profile="prior"))
            coded = read_any(written.container)
            if not isinstance(coded, Coded):
                raise TypeError("a container of the profile `prior` is of another version")
            excess.append(8 * coded.payload_bytes - written.surprise_bits)
            headers.append(coded.overhead_bytes)
        name = served.reference
    mean, most, header = float(np.mean(excess)), float(np.max(excess)), max(headers)
    ratio = prior.exact_bits_per_token / prior.float_bits_per_token
    row = (name, f"{len(excess):,}", f"{mean:.2f}", f"{most:.2f}", str(header), f"{100 * (ratio - 1):+.3f}%")
    return row, mean <= _MEAN_BITS and most <= _MOST_BITS and header <= _MOST_HEADER_BYTES


if __name__ == "__main__":
    raise SystemExit(main())
