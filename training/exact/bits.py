"""What codes cost under priors: bits a code, of whole grids, nothing else being known of them."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from models.code_priors import CodePrior
from training.code_sets import CodeSet

_TOKENS = 2**13
"""In a batch of grids of one size."""


@torch.inference_mode()
def bits_per_token(prior: CodePrior, codes: CodeSet, index: int, *, desc: str, known: bool = False) -> float:
    """Measure the code length of one link.

    Args:
        prior: of the link, in evaluation mode, on the CPU.
        codes: of all links.
        index: of the link.
        desc: for the progress bar.
        known: whether the classes of the examples are known.

    Returns:
        Bits a code of the link's grids.
    """
    nats, tokens = 0.0, 0
    for batch in tqdm(list(_batches(codes)), unit="batch", desc=desc, leave=False):
        *earlier, own = (torch.from_numpy(np.stack([grid[i] for i in batch])) for grid in codes.grids[: index + 1])
        conditions = {n: c for n, c in codes.conditions(batch).items() if n in prior.conditions} if known else None
        nats -= prior.log_prob(own, prior.given(earlier), conditions).sum().item()
        tokens += own.numel()
    return nats / tokens / math.log(2.0)


def tokens_of(codes: CodeSet, index: int) -> int:
    """Count the codes of a link."""
    return sum(grid.size for grid in codes.grids[index])


def _batches(codes: CodeSet) -> Iterator[np.ndarray]:
    """Group grids of one size."""
    first = codes.grids[-1]
    size = max(1, _TOKENS // first[0].size) if isinstance(first, np.ndarray) else 1
    for start in range(0, len(codes), size):
        yield np.arange(start, min(start + size, len(codes)))
