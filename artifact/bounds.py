"""The host half of the `log_weight` graph: from importance weights to bounds, streamed in float64."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

DENSITY_UNIT = "nats_density"
"""Unit of a log p that is of a density: no code length of the data follows from it, and so no bits."""


@dataclass(frozen=True)
class BoundEstimate:
    """Bounds on log p(x) of B examples, from S importance samples each; every field is `[B]`, float64.

    Attributes:
        elbo_nats: the mean log-weight, equal to `reconstruction_nats - kl_nats`.
        iwae_nats: the log of the mean weight; never below `elbo_nats`.
        iwae_standard_error_nats: of the noise draw alone, by the delta method; NaN for S = 1.
        effective_sample_size: (sum w)^2 / sum w^2, from 1 to S.
        reconstruction_nats: the mean of log p(x given z).
        kl_nats: the mean of log q(z given x) - log p(z), over the same samples.
    """

    elbo_nats: Float64[np.ndarray, " B"]
    iwae_nats: Float64[np.ndarray, " B"]
    iwae_standard_error_nats: Float64[np.ndarray, " B"]
    effective_sample_size: Float64[np.ndarray, " B"]
    reconstruction_nats: Float64[np.ndarray, " B"]
    kl_nats: Float64[np.ndarray, " B"]


class BoundAccumulator:
    """Reduce slices of log-weights to bounds without keeping them.

    With log w_s = log p(x given z_s) + log p(z_s) - log q(z_s given x): the ELBO is their mean (Kingma & Welling 2014,
    eq. 2), the IWAE bound L_S = log (1/S) sum_s w_s (Burda et al. 2016, eq. 8).

    Args:
        batch: B, examples.
    """

    def __init__(self, batch: int) -> None:
        self._samples = 0
        self._reconstruction = np.zeros(batch)
        self._rate = np.zeros(batch)
        self._maximum = np.full(batch, -np.inf)
        self._sum = np.zeros(batch)
        self._sum_of_squares = np.zeros(batch)

    def add(
        self,
        log_p_x_given_z: NDArray[np.floating],
        log_p_z: NDArray[np.floating],
        log_q: NDArray[np.floating],
    ) -> None:
        """Add a slice of samples.

        Args:
            log_p_x_given_z: `[B, s]`, nats.
            log_p_z: `[B, s]`, nats.
            log_q: `[B, s]`, nats.
        """
        reconstruction = np.asarray(log_p_x_given_z, dtype=np.float64)
        rate = np.asarray(log_q, dtype=np.float64) - np.asarray(log_p_z, dtype=np.float64)
        log_weight = reconstruction - rate
        self._samples += log_weight.shape[1]
        self._reconstruction += reconstruction.sum(axis=1)
        self._rate += rate.sum(axis=1)
        maximum = np.maximum(self._maximum, log_weight.max(axis=1))
        shrink = np.exp(self._maximum - maximum)
        weight = np.exp(log_weight - maximum[:, None])
        self._sum = self._sum * shrink + weight.sum(axis=1)
        self._sum_of_squares = self._sum_of_squares * shrink**2 + (weight**2).sum(axis=1)
        self._maximum = maximum

    def result(self) -> BoundEstimate:
        """Give the bounds over all samples added so far.

        Raises:
            ValueError: nothing was added.
        """
        if self._samples == 0:
            raise ValueError("no samples were added; a bound needs at least one")
        samples = self._samples
        reconstruction, kl = self._reconstruction / samples, self._rate / samples
        elbo = reconstruction - kl
        iwae = self._maximum + np.log(self._sum / samples)
        effective = self._sum**2 / self._sum_of_squares
        spread = np.maximum(samples / effective - 1.0, 0.0)
        error = np.sqrt(spread / (samples - 1)) if samples > 1 else np.full_like(elbo, np.nan)
        # Jensen's inequality holds for the numbers, not for their last bits: equal weights may round below the mean.
        return BoundEstimate(elbo, np.maximum(iwae, elbo), error, effective, reconstruction, kl)


def bits_per_dim(log_p_nats: Float64[np.ndarray, " B"], dimensions: int) -> Float64[np.ndarray, " B"]:
    """Turn a bound in nats into bits per data dimension: -log2 p(x) / dimensions."""
    bits: NDArray[np.float64] = -log_p_nats / (np.log(2.0) * dimensions)
    return bits
