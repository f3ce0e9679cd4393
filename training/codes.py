"""Codes of a whole split, and what can be said of them without a model."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int32, UInt8
from numpy.typing import NDArray
from tqdm import tqdm

from models.bottleneck import VectorQuantizedBottleneck
from models.model import LatentVariableModel

_BATCH = 100
_PIXELS = 2**20
"""Pixels of a batch: as many pictures of ordinary size as it may have, and fewer of large ones."""

Codes = Int32[np.ndarray, "N h w"]


@torch.inference_mode()
def encode(model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"], *, progress: bool = False) -> Codes:
    """Give the codes of images of one size.

    Args:
        model: of one level of codes, in evaluation mode.
        images: N of them.
        progress: show a bar.

    Returns:
        0 .. K - 1.
    """
    size = max(1, min(_BATCH, _PIXELS // images[0, ..., 0].size))
    firsts = range(0, len(images), size)
    found = [
        model.encode(torch.from_numpy(images[first : first + size]))["codes"].numpy()
        for first in tqdm(firsts, unit="batch", desc="codes", disable=not progress, leave=False)
    ]
    return np.concatenate(found)


@torch.inference_mode()
def downsampling(model: LatentVariableModel) -> int:
    """Tell how many pixels a side one code stands for; 1 for a model without codes."""
    if not isinstance(model.bottleneck, VectorQuantizedBottleneck):
        return 1
    one = torch.zeros(1, 1, 1, dtype=torch.int32)
    return int(model.mean(model.bottleneck.point({"codes": one})).shape[1])


@dataclass(frozen=True)
class CodeStatistics:
    """How a set of codes uses its codebook.

    Attributes:
        counts: uses of each code.
        entropy_bits: order-0 entropy of the empirical distribution, bits a code.
        order_1_entropy_bits: entropy of a code given its left neighbour (its upper one in the first column), by the
            counts of the same set; where pairs are few for K^2 this is less than any model could reach on new data.
    """

    counts: Float64[np.ndarray, " K"]
    entropy_bits: float
    order_1_entropy_bits: float

    @property
    def usage(self) -> float:
        """Share of the codebook that occurs at all, 0 .. 1."""
        return float((self.counts > 0).mean())

    @property
    def perplexity(self) -> float:
        """2^entropy: how many equally frequent codes would carry as much, 1 .. K."""
        return float(2.0**self.entropy_bits)


def statistics(grids: list[Codes], num_embeddings: int) -> CodeStatistics:
    """Count codes and pairs of neighbours.

    Args:
        grids: arrays of grids, each array of one size.
        num_embeddings: K.

    Returns:
        The statistics.
    """
    counts = np.zeros(num_embeddings)
    pairs: list[NDArray[np.int64]] = []
    for codes in grids:
        counts += np.bincount(codes.ravel(), minlength=num_embeddings)
        wide = codes.astype(np.int64)
        across = wide[:, :, :-1] * num_embeddings + wide[:, :, 1:]
        down = wide[:, :-1, 0] * num_embeddings + wide[:, 1:, 0]
        pairs += [across.ravel(), down.ravel()]
    kinds, times = np.unique(np.concatenate(pairs), return_counts=True)
    before = np.bincount(kinds // num_embeddings, weights=times)
    order_1 = _entropy_bits(times.astype(np.float64)) - _entropy_bits(before)
    return CodeStatistics(counts, _entropy_bits(counts), max(order_1, 0.0))


def _entropy_bits(counts: Float64[np.ndarray, " n"]) -> float:
    """Give the entropy of an empirical distribution."""
    shares = counts[counts > 0] / max(counts.sum(), 1.0)
    return float(-(shares * np.log2(shares)).sum())
