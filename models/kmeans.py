"""Lloyd's algorithm, for codebooks that start from data."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def nearest(z: Float[Tensor, "*batch D"], centres: Float[Tensor, "K D"]) -> Int[Tensor, "*batch"]:
    """Give the index of the nearest centre.

    argmin_k |z - e_k|^2 = argmin_k |e_k|^2 - 2 z.e_k: one product of matrices, and no N x K x D array of differences.

    Args:
        z: vectors.
        centres: K of them.

    Returns:
        0 .. K - 1.
    """
    return (centres.square().sum(-1) - 2.0 * (z @ centres.T)).argmin(-1)


@torch.no_grad()
def kmeans(z: Float[Tensor, "N D"], count: int, iterations: int = 20) -> Float[Tensor, "count D"]:
    """Give centres that lie in the middle of their own vectors (Lloyd 1982).

    Args:
        z: vectors; with fewer than `count`, some centres are equal.
        count: K.
        iterations: of assignment and mean; a centre that loses all its vectors moves to a random one.

    Returns:
        The centres; random choices come from torch's global generator.
    """
    centres = pick(z, count)
    for _ in range(iterations):
        codes = nearest(z, centres)
        sizes = torch.bincount(codes, minlength=count).to(z.dtype)
        sums = torch.zeros_like(centres).index_add_(0, codes, z)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp(min=1.0)[:, None], pick(z, count))
    return centres


def pick(z: Float[Tensor, "N D"], count: int) -> Float[Tensor, "count D"]:
    """Pick vectors at random, without repetition while there are enough."""
    order = torch.randperm(len(z), device=z.device)
    return z[order.repeat(-(-count // len(z)))[:count]]
