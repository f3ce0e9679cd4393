"""Codes of a whole split, and what can be said of them without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from models.bottleneck import DiscreteBottleneck
from models.model import LatentVariableModel
from models.quantizers.base import ABSENT
from training.collapse import collapse_warning

_BATCH = 100
_VALUES = 3 * 2**20
"""Numbers in a batch: as many examples of ordinary size as it may have, and fewer of large ones."""

Codes = Int32[np.ndarray, "N *grid"]
Array = TypeVar("Array", NDArray[np.int32], Tensor)


@torch.inference_mode()
def encode(
    model: LatentVariableModel, examples: Shaped[np.ndarray, "N *data"], *, progress: bool = False
) -> dict[str, Codes]:
    """Give the codes of images or sounds of one size, by name as in an encoding.

    Args:
        model: of codes, in evaluation mode.
        examples: N of them.
        progress: show a bar.

    Returns:
        0 .. K - 1, of each level.
    """
    size = max(1, min(_BATCH, _VALUES // examples[0].size))
    firsts = range(0, len(examples), size)
    found: dict[str, list[Codes]] = {}
    for first in tqdm(firsts, unit="batch", desc="codes", disable=not progress, leave=False):
        for name, codes in model.encode(torch.from_numpy(examples[first : first + size])).items():
            found.setdefault(name, []).append(codes.numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class Codebook:
    """One codebook of one level: a link of the chain of grids that a prior is over.

    Attributes:
        level: 0 for the top.
        index: of the codebook in its level.
        name: of the level's codes in an encoding.
        label: for the names of figures: empty for the only one of a model, else as `level_0` or `codebook_1`.
        num_embeddings: K.
        several: whether the level has others, which are an axis of its codes.
    """

    level: int
    index: int
    name: str
    label: str
    num_embeddings: int
    several: bool

    def grid(self, encoding: Mapping[str, Array]) -> Array:
        """Give its codes alone, `[N, *grid]`."""
        codes = encoding[self.name]
        return codes[:, self.index] if self.several else codes


def codebooks(bottleneck: DiscreteBottleneck) -> tuple[Codebook, ...]:
    """List the codebooks of a model in the order in which codes are drawn: levels top first, each its codebooks."""
    quantizers, names = bottleneck.quantizers, bottleneck.code_names
    found = []
    for level, (quantizer, name) in enumerate(zip(quantizers, names, strict=True)):
        for index in range(quantizer.num_codebooks):
            several = quantizer.num_codebooks > 1
            parts = [f"level_{level}"] * (len(names) > 1) + [f"codebook_{index}"] * several
            found.append(Codebook(level, index, name, "_".join(parts), quantizer.num_embeddings, several))
    return tuple(found)


def raw_bits(book: Codebook) -> float:
    """Give the bits of a code of fixed length."""
    return float(np.ceil(np.log2(book.num_embeddings)))


def first_codebooks(bottleneck: DiscreteBottleneck, encoding: Mapping[str, Codes], count: int) -> dict[str, Codes]:
    """Leave out all but the first codebooks of every level.

    Args:
        bottleneck: the model's.
        encoding: codes by name.
        count: codebooks to keep, from 1; a level that has no more keeps all.

    Returns:
        The codes, -1 in the codebooks that are left out.
    """
    kept = dict(encoding)
    for name, quantizer in zip(bottleneck.code_names, bottleneck.quantizers, strict=True):
        if count < quantizer.num_codebooks:
            kept[name] = kept[name].copy()
            kept[name][:, count:] = ABSENT
    return kept


@torch.inference_mode()
def downsampling(model: LatentVariableModel) -> int:
    """Tell how many pixels a side, or samples, a place of the coarsest grid stands for; 1 for a model without codes."""
    if not isinstance(model.bottleneck, DiscreteBottleneck):
        return 1
    return int(model.mean(model.bottleneck.point(model.bottleneck.example(1))).shape[1])


@dataclass(frozen=True)
class CodeStatistics:
    """How a set of codes uses its codebook.

    Attributes:
        counts: uses of each code.
        entropy_bits: order-0 entropy of the empirical distribution, bits a code.
        order_1_entropy_bits: entropy of a code given its left neighbour (its upper one in the first column), by the
            counts of the same set; where pairs are few for K^2 this is less than any model could reach on new data,
            which `training.markov` measures.
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


def neighbours(grids: Sequence[Codes], num_embeddings: int) -> Int64[np.ndarray, " n"]:
    """Pair every code but the first of a grid with the one before it: the left, in the first column the upper one.

    Args:
        grids: as of `statistics`.
        num_embeddings: K.

    Returns:
        K times the code before, and the code.
    """
    pairs: list[NDArray[np.int64]] = []
    for codes in grids:
        wide = codes.astype(np.int64)
        pairs.append((wide[..., :-1] * num_embeddings + wide[..., 1:]).ravel())
        if wide.ndim > 2:
            pairs.append((wide[:, :-1, 0] * num_embeddings + wide[:, 1:, 0]).ravel())
    return np.concatenate(pairs)


def statistics(grids: list[Codes], num_embeddings: int) -> CodeStatistics:
    """Count codes and pairs of neighbours.

    Args:
        grids: arrays of grids of one codebook, in one or two dimensions, each array of one size.
        num_embeddings: K.

    Returns:
        The statistics.
    """
    counts = np.zeros(num_embeddings)
    for codes in grids:
        counts += np.bincount(codes.ravel(), minlength=num_embeddings)
    kinds, times = np.unique(neighbours(grids, num_embeddings), return_counts=True)
    before = np.bincount(kinds // num_embeddings, weights=times)
    order_1 = _entropy_bits(times.astype(np.float64)) - _entropy_bits(before)
    return CodeStatistics(counts, _entropy_bits(counts), max(order_1, 0.0))


def collapse_warnings(bottleneck: DiscreteBottleneck, encodings: Sequence[Mapping[str, Codes]]) -> tuple[str, ...]:
    """Warn of collapsed codebooks.

    Args:
        bottleneck: the model's.
        encodings: codes by name, each of data of one size.

    Returns:
        What is wrong and what to do, of each that has collapsed.
    """
    found = []
    for book in codebooks(bottleneck):
        use = statistics([book.grid(encoding) for encoding in encodings], book.num_embeddings)
        found.append(collapse_warning(book.label, use.perplexity, book.num_embeddings, float(use.counts.sum())))
    return tuple(text for text in found if text is not None)


def _entropy_bits(counts: Float64[np.ndarray, " n"]) -> float:
    """Give the entropy of an empirical distribution."""
    shares = counts[counts > 0] / max(counts.sum(), 1.0)
    return float(-(shares * np.log2(shares)).sum())
