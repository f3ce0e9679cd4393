"""The Frechet distance between two sets of features."""

import numpy as np
from jaxtyping import Float64

from training.errors import RunError


def frechet_distance(x: Float64[np.ndarray, "N F"], y: Float64[np.ndarray, "n F"]) -> float:
    """Give the Frechet distance of the Gaussians that have the moments of two sets (Heusel et al. 2017, eq. 6).

    d^2 = |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^{1/2}). The trace of the root is the sum of the singular values of
    A_x A_y^T, where A^T A = C are the centred features over the root of their number less one.

    Args:
        x: features of one set.
        y: of the other.

    Returns:
        d^2, in squared units of the features. Small sets have a bias upwards: compare sets of equal sizes alone.

    Raises:
        RunError: a set has fewer than two members.
    """
    if min(len(x), len(y)) < 2:
        raise RunError(f"found sets of {len(x)} and {len(y)}, a Frechet distance needs two members of each or more")
    roots = [(features - features.mean(axis=0)) / np.sqrt(len(features) - 1) for features in (x, y)]
    # The product of the triangular factors has the same singular values as that of the sets, and is much smaller.
    first, second = (np.asarray(np.linalg.qr(root, mode="r")) for root in roots)
    shared = np.linalg.norm(first @ second.T, ord="nuc")
    spread = sum(float(np.square(root).sum()) for root in roots) - 2.0 * float(shared)
    return float(np.square(x.mean(axis=0) - y.mean(axis=0)).sum()) + max(spread, 0.0)
