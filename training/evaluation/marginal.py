"""Estimates of log p(x) from weights whose mean is p(x), with standard errors; the plainest draws z from the prior."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from numpy.typing import NDArray
from tqdm import tqdm

from artifact.bounds import BoundAccumulator
from artifact.noise import PRIOR_STREAM, batch_normal
from models.model import LatentVariableModel
from training.evaluation.batches import in_batches
from training.evaluation.latents import draw_prior, log_likelihood, weighable

_DECODER_ROWS = 64


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates of log p(x) of N examples: each the log of the mean of S weights.

    By Jensen's inequality the expectation of each is at most log p(x), and it grows with S.

    Attributes:
        nats: the estimates.
        noise_standard_error_nats: of each, of the draw of its weights alone, by the delta method; NaN for S = 1.
        effective_sample_size: (sum w)^2 / sum w^2, from 1 to S.
    """

    nats: Float64[np.ndarray, " N"]
    noise_standard_error_nats: Float64[np.ndarray, " N"]
    effective_sample_size: Float64[np.ndarray, " N"]

    @classmethod
    def of(cls, accumulator: BoundAccumulator) -> "LogLikelihood":
        """Reduce what was accumulated."""
        found = accumulator.result()
        return cls(found.iwae_nats, found.iwae_standard_error_nats, found.effective_sample_size)

    @classmethod
    def of_weights(cls, log_weights: NDArray[np.float64]) -> "LogLikelihood":
        """Reduce log-weights `[N, S]`, nats."""
        accumulator = BoundAccumulator(len(log_weights))
        accumulator.add(log_weights, np.zeros_like(log_weights), np.zeros_like(log_weights))
        return cls.of(accumulator)

    @classmethod
    def joined(cls, parts: "list[LogLikelihood]") -> "LogLikelihood":
        """Put the estimates of batches one after the other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def figures(self, name: str) -> dict[str, float]:
        """Give the mean over examples with its errors, by names that begin with `name`."""
        return {
            f"{name}_nats": float(self.nats.mean()),
            f"{name}_standard_error_nats": standard_error(self.nats),
            f"{name}_noise_standard_error_nats": noise_of_mean(self.noise_standard_error_nats),
            f"{name}_effective_sample_size": float(self.effective_sample_size.mean()),
        }


def standard_error(values: Float64[np.ndarray, " N"]) -> float:
    """Give the standard error of a mean over examples, as draws from all the examples that there could be."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def noise_of_mean(errors: Float64[np.ndarray, " N"]) -> float:
    """Give the standard error of a mean over these very examples from the noise's error of each."""
    return float(np.sqrt(np.square(np.nan_to_num(errors)).sum()) / len(errors))


def monte_carlo(
    model: LatentVariableModel, data: Shaped[np.ndarray, "N *data"], *, samples: int, seed: int, progress: bool = False
) -> LogLikelihood:
    """Estimate log p(x) = log E_{p(z)} p(x given z) by naive Monte Carlo: log (1/S) sum_s p(x given z_s), z_s ~ p(z).

    Where the posterior is much narrower than the prior, nearly all weights are nearly 0: an effective sample size near
    1 says that the estimate is far below log p(x), and that its error is not to be trusted.

    Args:
        model: in evaluation mode.
        data: item i has index i.
        samples: S.
        seed: of the noise.
        progress: show a bar.

    Returns:
        The estimates.

    Raises:
        RunError: the model has no prior over real-valued latents.
    """
    bottleneck = weighable(model)
    device = next(model.parameters()).device

    @torch.inference_mode()
    def measure(part: slice) -> LogLikelihood:
        x = torch.from_numpy(data[part]).to(device)
        accumulator = BoundAccumulator(len(x))
        width = max(1, _DECODER_ROWS // len(x))
        for first in range(0, samples, width):
            shape = min(width, samples - first), bottleneck.prior_noise_dimensions
            noise = batch_normal(seed, part.start, len(x), shape, stream=PRIOR_STREAM, first_sample=first)
            z = draw_prior(bottleneck, torch.from_numpy(noise).to(device))
            log_weights = log_likelihood(model, x, z).cpu().numpy()
            accumulator.add(log_weights, np.zeros_like(log_weights), np.zeros_like(log_weights))
        return LogLikelihood.of(accumulator)

    parts = []
    with tqdm(total=len(data) * samples, unit="sample", unit_scale=True, desc="p(z)", disable=not progress) as bar:
        for found in in_batches(len(data), max(1, _DECODER_ROWS // samples), measure):
            parts.append(found)
            bar.update(len(found.nats) * samples)
    return LogLikelihood.joined(parts)
