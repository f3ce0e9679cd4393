"""Linear prediction of a sound whose weights follow it: recursive least squares over blocks, in integers alone.

The next values are predicted from the 32 before them. After each block of 64 values the weights are solved anew from
sums of products of all values so far, the older the less, by Gaussian elimination in fixed point; so whoever knows the
values so far knows the weights (backward adaptation; Haykin, "Adaptive Filter Theory", chapter 10, is about the exact
recursion). docs/format.md has every step.
"""

import numpy as np
from jaxtyping import Int64

ORDER = 32
BLOCK = 64
WEIGHT_BITS = 16
"""A weight is in units of 2^-16."""

_WEIGHT_LIMIT = 8 << WEIGHT_BITS
_PIVOT_BITS = 30
_LIMIT = (1 << 31) - 1
"""Products of two such numbers are 64-bit integers."""

Values = Int64[np.ndarray, " n"]


class Predictor:
    """The weights, and the sums that they are solved from.

    Args:
        forgetting: k, 1 .. 8: a block counts 1 - 2^-k of what the next one counts.
        ridge: what is added to the sums of squares, 1 .. 2^20: the more, the smaller the weights.

    Attributes:
        weights: of the values before, the oldest of the 32 first.
    """

    def __init__(self, forgetting: int, ridge: int) -> None:
        self.weights = np.zeros(ORDER, dtype=np.int64)
        self._forgetting, self._ridge = forgetting, ridge
        self._sums = np.zeros((ORDER, ORDER + 1), dtype=np.int64)

    def learn(self, values: Int64[np.ndarray, " order_and_block"]) -> None:
        """Take a block in, and solve the weights anew.

        Args:
            values: of 16 bits: the 32 before the block, and the block.
        """
        windows = np.lib.stride_tricks.sliding_window_view(values, ORDER + 1)
        self._sums -= self._sums >> self._forgetting
        self._sums += windows[:, :ORDER].T @ windows
        self.weights = solved(self._sums, self._ridge)


def solved(sums: Int64[np.ndarray, "order order_and_1"], ridge: int) -> Int64[np.ndarray, " order"]:
    """Solve normal equations in fixed point.

    Args:
        sums: of products of the values before with each other, and behind them with the value itself.
        ridge: see `Predictor`.

    Returns:
        Weights in units of 2^-16, each 8 at most in magnitude.
    """
    rows, order = sums.copy(), len(sums)
    diagonal = rows.diagonal()
    rows[np.arange(order), np.arange(order)] = diagonal + ridge
    shift = int(rows.diagonal().max()).bit_length() - _PIVOT_BITS
    rows = np.clip(rows >> shift if shift >= 0 else rows << -shift, -_LIMIT, _LIMIT)
    for k in range(order):
        rows[k, k] = max(rows[k, k], 1)
        below = rows[k + 1 :, k + 1 :]
        below -= rows[k + 1 :, k, None] * rows[k, k + 1 :] // rows[k, k]
        np.clip(below, -_LIMIT, _LIMIT, out=below)
    weights = np.zeros(order, dtype=np.int64)
    for k in reversed(range(order)):
        rest = (int(rows[k, order]) << WEIGHT_BITS) - int(rows[k, k + 1 : order] @ weights[k + 1 :])
        weights[k] = min(max(rest // int(rows[k, k]), -_WEIGHT_LIMIT), _WEIGHT_LIMIT)
    return weights
