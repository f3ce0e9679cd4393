"""The alarm for codebooks that collapse: few codes do all the work, and the others carry nothing."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

COLLAPSED = 0.1
"""Evenness below which a codebook counts as collapsed."""

_DECAY = 0.99


def evenness(perplexity: float, num_embeddings: int, count: float) -> float:
    """Give a perplexity as a share of what equally probable codes would show.

    N draws among K codes show about K (1 - exp(-N / K)) of them, so that few draws are not taken for a collapse.

    Args:
        perplexity: of an empirical distribution.
        num_embeddings: K.
        count: N, codes that were counted.

    Returns:
        From 0 to about 1.
    """
    reachable = -num_embeddings * math.expm1(-count / num_embeddings)
    return perplexity / max(reachable, 1.0)


def collapse_warning(label: str, perplexity: float, num_embeddings: int, count: float) -> str | None:
    """Warn of a collapsed codebook.

    Args:
        label: which one, as in `training.codes.Codebook`; empty for the only one.
        perplexity: of its codes.
        num_embeddings: K.
        count: codes that were counted.

    Returns:
        What is wrong and what to do; None where it is well.
    """
    found = evenness(perplexity, num_embeddings, count)
    if found >= COLLAPSED:
        return None
    which = f" {label.replace('_', ' ')}" if label else ""
    return (
        f"the codebook{which} has collapsed: its perplexity is {perplexity:.1f} of {num_embeddings} codes, {found:.0%} "
        f"of what even use would give (at least {COLLAPSED:.0%} is expected), so most codes carry nothing; fit again "
        "with quantizer.initialisation = 'kmeans', quantizer.revive_below above 0, fewer codes, a smaller learning "
        "rate or quantizer.kind = 'fsq'"
    )


class CodeWatch:
    """Follows how codebooks are used over the last batches of a fit, about a hundred."""

    def __init__(self) -> None:
        self._counts: dict[str, Float[Tensor, " K"]] = {}

    def add(self, label: str, codes: Int[Tensor, "B *grid"], num_embeddings: int) -> Float[Tensor, ""]:
        """Count the codes of a batch.

        Args:
            label: of the codebook.
            codes: its grids; -1 where it is absent.
            num_embeddings: K.

        Returns:
            Perplexity over the last batches.
        """
        counts = torch.bincount(codes[codes >= 0].flatten(), minlength=num_embeddings).double()
        before = self._counts.get(label)
        self._counts[label] = counts if before is None else _DECAY * before + counts
        return _perplexity(self._counts[label])

    def warnings(self) -> tuple[str, ...]:
        """Warn of the codebooks that have collapsed."""
        found = (
            collapse_warning(label, float(_perplexity(counts)), len(counts), float(counts.sum()))
            for label, counts in self._counts.items()
        )
        return tuple(text for text in found if text is not None)


def _perplexity(counts: Float[Tensor, " K"]) -> Float[Tensor, ""]:
    """Give e^entropy of an empirical distribution."""
    return torch.special.entr(counts / counts.sum().clamp(min=1.0)).sum().exp()
