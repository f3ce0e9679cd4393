"""Codes as a Markov chain: what a code tells of the next one, learned from some grids and measured on others."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from models.model import LatentVariableModel
from training.codes import Codes, downsampling, encode, neighbours
from training.data import Examples
from training.whole import padded

_DISCOUNT = 0.75
_MOST_CODES = 2**21
_BATCH = 100


def codes_to_learn(model: LatentVariableModel, examples: Examples) -> list[dict[str, Codes]]:
    """Encode examples of a split, in a random order, until there are some two million codes.

    Args:
        model: of codes, in evaluation mode, on the CPU.
        examples: the split.

    Returns:
        Codes by name, each entry of examples of one size.
    """
    found, count = list[dict[str, Codes]](), 0
    factor, size = downsampling(model), _BATCH if examples.uniform else 1
    order = np.random.Generator(np.random.Philox(key=[0, len(examples)])).permutation(len(examples))
    for first in range(0, len(order), size):
        if count >= _MOST_CODES:
            break
        batch = np.stack([padded(examples[index], factor)[0] for index in order[first : first + size]])
        found.append(encode(model, batch))
        count += sum(codes.size for codes in found[-1].values())
    return found


def markov_bits(learned: Sequence[Codes], measured: Sequence[Codes], num_embeddings: int) -> float:
    """Give the code length of grids under a Markov chain that was learned from others.

    Absolute discounting (Ney, Essen & Kneser 1994): p(b given a) = max(n(a, b) - d, 0) / n(a) + d m(a) / n(a) p(b) with
    d = 3/4, n(a) codes behind an a, m(a) kinds of them, and p(b) = (n(b) + 1/2) / (n + K / 2). The code before is the
    left neighbour, in the first column the upper one; the first of a grid, and one behind a code that was never seen,
    has p(b).

    Args:
        learned: arrays of grids of one codebook, each array of one size.
        measured: likewise.
        num_embeddings: K.

    Returns:
        Bits a code.
    """
    K = num_embeddings
    single = np.bincount(np.concatenate([codes.ravel() for codes in learned]), minlength=K) + 0.5
    single /= single.sum()
    kinds, times = np.unique(neighbours(learned, K), return_counts=True)
    behind = np.bincount(kinds // K, weights=times, minlength=K)
    held = np.bincount(kinds // K, minlength=K) * _DISCOUNT
    shares = np.divide(held, behind, out=np.ones(K), where=behind > 0)
    pairs = neighbours(measured, K)
    before, codes = pairs // K, pairs % K
    seen = _looked_up(pairs, kinds, times)
    found = np.maximum(seen - _DISCOUNT, 0.0) / np.maximum(behind[before], 1.0) + shares[before] * single[codes]
    firsts = np.concatenate([grids.reshape(len(grids), -1)[:, 0] for grids in measured])
    return float(-(np.log2(found).sum() + np.log2(single[firsts]).sum()) / (len(pairs) + len(firsts)))


def _looked_up(
    pairs: Int64[np.ndarray, " n"], kinds: Int64[np.ndarray, " m"], times: Int64[np.ndarray, " m"]
) -> Float64[np.ndarray, " n"]:
    """Tell how often pairs were seen."""
    places = np.minimum(np.searchsorted(kinds, pairs), len(kinds) - 1)
    found: NDArray[np.float64] = np.where(kinds[places] == pairs, times[places], 0).astype(np.float64)
    return found
