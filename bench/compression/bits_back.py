"""Claim: bits-back coding stores digits to the bit at the cost of their ELBO, in less than any other format needs.

Digits of the test split, chosen at random, are archived under the exact graphs of a published model and read again.
Other formats get the same pictures, each by itself and all together: PNG of one bit a pixel and lossless WebP (all
together as one sheet), gzip and bz2 of the pixels as bits and as bytes, whichever is shorter.
"""

import argparse
import bz2
import gzip
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from jaxtyping import Float64, UInt8
from PIL import Image

from artifact.codes import Arrays
from artifact.exact_latents import ExactLatents
from artifact.golden import Run
from artifact.latent_networks import LatentNetworks
from artifact.latents_golden import read, read_contexts
from artifact.noise import POSTERIOR_STREAM, batch_normal
from artifact.sampling import complete
from artifact.store import Artifact, Store
from bench.arguments import count
from bench.compression.table import markdown
from codec.archive import read_archive, write_archive
from codec.bits_back import Pictures, net_bits, pack
from codec.coded import read_coded, write_coded
from training.data import load
from training.data.config import DataConfig

_DRAWS = 4
_BATCH = 100
_NET_LIMIT, _GROSS_LIMIT, _RATE_LIMIT, _RATE_TARGET = 0.003, 0.01, 0.170, 0.155


def main() -> int:
    """Archive digits, read them again, and print what they take beside other formats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the fixed binarised MNIST (.amat)")
    parser.add_argument("--store", type=Path, default=Path("pretrained"))
    parser.add_argument("--model", default="digits-vae")
    parser.add_argument("--pictures", type=count, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of pictures (default: 0)")
    options = parser.parse_args()
    test = load(DataConfig(source="binarized-mnist", root=options.root, channels=1)).test.fixed()
    chosen = np.random.default_rng(options.seed).choice(len(test), options.pictures, replace=False)
    pictures = (test[chosen, ..., 0] > 0).astype(np.uint8)
    artifact = Store(options.store).open(options.model)
    print(f"{options.pictures} of the test split's {len(test)} digits, seed {options.seed}, by {artifact.reference}\n")
    container_bytes, is_good = _archive(artifact, pictures)
    others = _others(pictures)
    rows = [("bits-back archive", "", _told(container_bytes, pictures)), *others]
    print("\n" + markdown(("format", "each by itself", "all together"), rows))
    return 0 if is_good else 1


def _archive(artifact: Artifact, pictures: Pictures) -> tuple[int, bool]:
    """Write and read an archive; give its length, and whether it is all that is claimed."""
    part = artifact.manifest.exact_latents
    if part is None:
        raise SystemExit(f"error: {artifact.reference} has no exact latents; export it from a run with fit-exact")
    run = _runner(artifact, part)
    read(artifact, part).check(run)
    networks = LatentNetworks(part, read_contexts(artifact.path / part.golden, artifact.manifest.files[part.golden]))
    start_s = time.perf_counter()
    packed = complete(pack(pictures, networks), run)
    hashes = {"model_hash": artifact.manifest.model_hash, "canonical_hash": part.canonical_hash}
    data = write_coded(write_archive(packed, pictures, extent=pictures.shape[1:], **hashes))
    written_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    found = complete(read_archive(read_coded(data), networks, len(pictures)), run)
    read_s = time.perf_counter() - start_s
    is_equal = bool(np.array_equal(found, pictures))

    pixels, gross = pictures.size, 8 * len(data)
    weights = np.array([cost.net_bits for cost in packed.costs])
    bits_back = weights[: len(weights) - packed.direct]
    # What the stack holds beyond the pictures that were coded directly is what the others took in fact.
    net = 8 * len(packed.payload) - weights[len(bits_back) :].sum()
    excess, overhead, rate = net / bits_back.sum() - 1, gross / weights.sum() - 1, gross / pixels
    elbo, iwae = _bounds(pictures, networks, run)
    print(f"every picture bit-equal: {'yes' if is_equal else 'NO'}; {packed.direct} of them coded directly")
    print(f"-log2 of the weights used: {bits_back.mean():.3f} bits a picture ({bits_back.mean() / 784:.5f} bits/dim)")
    print(f"net {net / len(bits_back):.3f} bits a picture, {excess:+.4%} of that: at most {_NET_LIMIT:.1%}")
    print(f"gross {gross / len(weights):.3f} bits a picture, {overhead:+.4%} of net: at most {_GROSS_LIMIT:.0%}")
    print(f"gross {rate:.5f} bits/dim: at most {_RATE_LIMIT}, target {_RATE_TARGET}")
    print(f"ELBO {elbo / 784:.5f}, IWAE of {_DRAWS} draws {iwae / 784:.5f} bits/dim; {gross} bits in all")
    print(f"{1e3 * written_s / len(weights):.1f} ms a picture to write, {1e3 * read_s / len(weights):.1f} to read")
    is_good = is_equal and abs(excess) <= _NET_LIMIT and overhead <= _GROSS_LIMIT and rate <= _RATE_LIMIT
    print(f"all within the limits: {'yes' if is_good else 'NO'}; the target: {'yes' if rate <= _RATE_TARGET else 'NO'}")
    return len(data), is_good


def _runner(artifact: Artifact, part: ExactLatents) -> Run:
    """Open the exact graphs, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        role: onnxruntime.InferenceSession(artifact.path / graph.file, options, providers=["CPUExecutionProvider"])
        for role, graph in part.graphs.items()
    }

    def run(role: str, feeds: Arrays) -> Arrays:
        names = [tensor.name for tensor in part.graphs[role].outputs]
        return dict(zip(names, sessions[role].run(names, feeds), strict=True))

    return run


def _bounds(pictures: Pictures, networks: LatentNetworks, run: Run) -> tuple[float, float]:
    """Estimate minus ELBO and minus IWAE in bits a picture, by latents drawn apart from the archive."""
    bits: list[Float64[np.ndarray, "draws n"]] = []
    for first in range(0, len(pictures), _BATCH):
        part = pictures[first : first + _BATCH]
        noise = batch_normal(0, first, len(part), (_DRAWS, sum(networks.sizes)), stream=POSTERIOR_STREAM)
        bits.append(np.stack([complete(net_bits(part, networks, noise[:, draw]), run) for draw in range(_DRAWS)]))
    joined = np.concatenate(bits, axis=1)
    return float(joined.mean()), float((np.log2(_DRAWS) - np.logaddexp2.reduce(-joined, axis=0)).mean())


def _others(pictures: Pictures) -> list[tuple[str, str, str]]:
    """Measure other formats."""
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in _rows(pictures)], axis=0)
    found = []
    for name, code in _FORMATS.items():
        alone, together = sum(len(code(picture)) for picture in pictures), len(code(sheet))
        if name in ("gzip", "bz2"):
            together = len(code(pictures.reshape(-1, pictures.shape[-1])))
        found.append((name, _told(alone, pictures), _told(together, pictures)))
    return found


def _rows(pictures: Pictures) -> list[Pictures]:
    """Lay pictures out as a sheet about as high as wide, with black ones at its end."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    padded = np.zeros((-(-len(pictures) // columns) * columns, *pictures.shape[1:]), dtype=np.uint8)
    padded[: len(pictures)] = pictures
    return [padded[first : first + columns] for first in range(0, len(padded), columns)]


def _told(length: int, pictures: Pictures) -> str:
    return f"{length} bytes, {8 * length / pictures.size:.4f} bits/dim"


def _png(picture: UInt8[np.ndarray, "H W"]) -> bytes:
    return _saved(Image.fromarray(picture * np.uint8(255)).convert("1"), format="PNG", optimize=True)


def _webp(picture: UInt8[np.ndarray, "H W"]) -> bytes:
    return _saved(Image.fromarray(picture * np.uint8(255)), format="WEBP", lossless=True, quality=100, method=6)


def _saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def _shorter(compress: Callable[[bytes], bytes]) -> Callable[[UInt8[np.ndarray, "H W"]], bytes]:
    """Code pixels as bits or as bytes, whichever is shorter."""
    return lambda pixels: min(compress(np.packbits(pixels).tobytes()), compress(pixels.tobytes()), key=len)


_FORMATS: dict[str, Callable[[UInt8[np.ndarray, "H W"]], bytes]] = {
    "PNG": _png,
    "WebP, lossless": _webp,
    "gzip": _shorter(lambda data: gzip.compress(data, 9, mtime=0)),
    "bz2": _shorter(lambda data: bz2.compress(data, 9)),
}

if __name__ == "__main__":
    raise SystemExit(main())
