"""Evaluation: bounds with their standard errors, distortion and latent statistics of a run, over a whole split."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from tqdm import tqdm

from artifact.bounds import BoundAccumulator, BoundEstimate, bits_per_dim
from artifact.noise import POSTERIOR_STREAM, batch_normal
from media.distortion import mse, psnr_db
from models.bottleneck import DiscreteBottleneck
from models.continuous import ContinuousBottleneck
from models.model import LatentVariableModel
from training.data import Splits
from training.errors import RunError
from training.evaluate_codes import evaluate_codes, finite_mean
from training.fit_model import variance
from training.markov import codes_to_learn
from training.run import Run, write_text

Split = Literal["train", "validation", "test"]

_ACTIVE_VARIANCE = 0.01
_ENCODE_BATCH = 500
_DECODER_ROWS = 64
_OF_ENTROPIES = (
    "Entropies are those of the counts of this very set: where pairs of codes are few, that of order 1 is lower than "
    "any model could reach; `markov` is what a chain learned from the training split needs."
)


@dataclass(frozen=True)
class Evaluation:
    """What was measured, as means over a split.

    Attributes:
        metrics: figures by name, names with units.
        bounds: the bounds of every example.
    """

    metrics: dict[str, float]
    bounds: BoundEstimate


def bounds(
    model: LatentVariableModel,
    images: UInt8[np.ndarray, "N H W C"],
    *,
    samples: int,
    seed: int,
    progress: bool = False,
) -> BoundEstimate:
    """Bound log p(x) of every image, with the noise that the service would use for the same seed and indices.

    Args:
        model: in evaluation mode.
        images: item i has index i.
        samples: S.
        seed: of the noise.
        progress: show a bar with the bound so far.

    Returns:
        The bounds, `[N]`.
    """
    batch = max(1, _DECODER_ROWS // samples)
    firsts = range(0, len(images), batch)

    def measure(first: int) -> BoundEstimate:
        return _batch_bounds(model, images[first : first + batch], first, samples, seed)

    bar = tqdm(total=len(images) * samples, unit="sample", unit_scale=True, desc="bounds", disable=not progress)
    parts: list[BoundEstimate] = []
    total, done = 0.0, 0
    with bar, _one_thread_each() as workers, ThreadPoolExecutor(workers) as pool:
        for part in pool.map(measure, firsts):
            parts.append(part)
            total += float(part.iwae_nats.sum())
            done += len(part.iwae_nats)
            bar.update(len(part.iwae_nats) * samples)
            bar.set_postfix_str(f"iwae {total / done:.3f} nats", refresh=False)
    names = BoundEstimate.__dataclass_fields__
    return BoundEstimate(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Give the number of workers: many single-threaded runs do more than one run on many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _batch_bounds(
    model: LatentVariableModel, images: UInt8[np.ndarray, "B H W C"], first_index: int, samples: int, seed: int
) -> BoundEstimate:
    """Bound log p(x) of a few images, slice by slice of samples."""
    x = torch.from_numpy(images)
    posterior = model.encode(x)
    accumulator = BoundAccumulator(len(images))
    width = max(1, _DECODER_ROWS // len(images))
    for first_sample in range(0, samples, width):
        shape = (min(width, samples - first_sample), model.bottleneck.noise_dimensions)
        noise = batch_normal(seed, first_index, len(x), shape, stream=POSTERIOR_STREAM, first_sample=first_sample)
        accumulator.add(*(term.numpy() for term in model.log_weight(x, posterior, torch.from_numpy(noise))))
    return accumulator.result()


def active_units(means: Float64[np.ndarray, "N D"]) -> int:
    """Count latent dimensions whose posterior mean depends on x: Cov_x E_q[z] > 0.01 (Burda et al. 2016, section 5.2).

    Args:
        means: posterior means of N examples.

    Returns:
        0 .. D.
    """
    return int((means.var(axis=0) > _ACTIVE_VARIANCE).sum())


@torch.inference_mode()
def evaluate(
    model: LatentVariableModel,
    images: UInt8[np.ndarray, "N H W C"],
    *,
    samples: int,
    seed: int,
    progress: bool = False,
) -> Evaluation:
    """Measure a model on a split.

    Args:
        model: in evaluation mode, on the CPU.
        images: the split.
        samples: S of the IWAE bound.
        seed: of the noise.
        progress: show a bar.

    Returns:
        The figures and the bounds behind them.
    """
    means, rates, errors, ratios = [], [], [], []
    bottleneck = continuous(model)
    for first in range(0, len(images), _ENCODE_BATCH):
        x = images[first : first + _ENCODE_BATCH]
        posterior = model.encode(torch.from_numpy(x))
        kl = bottleneck.kl(posterior)
        if kl is not None:
            rates.append(kl.double().sum(1).numpy())
        point = bottleneck.point(posterior)
        reconstruction = model.mean(point).round().clamp(0, 255).to(torch.uint8).numpy()
        means.append(point.double().numpy())
        errors.append(mse(x, reconstruction))
        ratios.append(psnr_db(x, reconstruction, peak=255.0))
    estimate = bounds(model, images, samples=samples, seed=seed, progress=progress)
    count, dimensions = len(images), int(np.prod(images.shape[1:]))
    psnr = np.concatenate(ratios)
    metrics = {
        "examples": float(count),
        "importance_samples": float(samples),
        "elbo_nats": float(estimate.elbo_nats.mean()),
        "elbo_standard_error_nats": _standard_error(estimate.elbo_nats),
        "reconstruction_nats": float(estimate.reconstruction_nats.mean()),
        "kl_nats": float(estimate.kl_nats.mean()),
        "iwae_nats": float(estimate.iwae_nats.mean()),
        "iwae_standard_error_nats": _standard_error(estimate.iwae_nats),
        "iwae_noise_standard_error_nats": float(
            np.sqrt(np.nan_to_num(estimate.iwae_standard_error_nats**2).sum()) / count
        ),
        "effective_sample_size": float(estimate.effective_sample_size.mean()),
        "bits_per_dim": float(bits_per_dim(estimate.iwae_nats, dimensions).mean()),
        "mse": float(np.concatenate(errors).mean()),
        "psnr_db": finite_mean(psnr),
        "active_units": float(active_units(np.concatenate(means))),
    }
    if rates:
        metrics["kl_closed_form_nats"] = float(np.concatenate(rates).mean())
    return Evaluation(metrics, estimate)


def _standard_error(values: Float64[np.ndarray, " N"]) -> float:
    """Give the standard error of a mean over examples."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def continuous(model: LatentVariableModel) -> ContinuousBottleneck:
    """Give the bottleneck of a model of real-valued latents.

    Raises:
        RunError: its latents are of another kind.
    """
    if not isinstance(model.bottleneck, ContinuousBottleneck):
        raise RunError(
            f"importance sampling needs real-valued latents, the model has a {type(model.bottleneck).__name__}"
        )
    return model.bottleneck


def evaluate_run(
    run: Run, splits: Splits, *, split: Split, samples: int, seed: int, limit: int | None
) -> dict[str, float]:
    """Evaluate a run's best weights, and its prior's where it has one, and store the figures in its folder.

    Args:
        run: the run.
        splits: its data.
        split: which to measure.
        samples: S, for a model of real-valued latents.
        seed: of the noise.
        limit: measure the first so many examples; None for all.

    Returns:
        The figures.

    Raises:
        RunError: the run is not complete.
    """
    recipe = run.recipe()
    model = run.model(recipe, splits.train.shape)
    examples = getattr(splits, split)
    if isinstance(model.bottleneck, DiscreteBottleneck):
        prior = run.fitted_prior(recipe, model, splits)
        learned = codes_to_learn(model, splits.train) if prior is not None and limit is None else ()
        metrics = evaluate_codes(model, model.bottleneck, prior, examples, learned=learned, limit=limit, progress=True)
        spread = variance(splits)
        if spread > 0.0:
            metrics["mse_over_training_variance"] = metrics["mse"] / spread
        how = f". {_OF_ENTROPIES}"
    else:
        metrics = evaluate(model, examples.fixed(limit), samples=samples, seed=seed, progress=True).metrics
        how = f", noise seed {seed}."
    part = "" if limit is None else f"the first {metrics['examples']:.0f} examples of "
    note = f"Means over {part}the {split} split of {splits.name}, by `python -m training evaluate`{how}"
    stored = {"note": note, "weights": run.weights(), "metrics": metrics}
    write_text(run.metrics_file, json.dumps(stored, indent=2) + "\n")
    return metrics


def table(metrics: dict[str, float]) -> str:
    """Set figures as two aligned columns."""
    width = max(map(len, metrics))
    return "\n".join(f"{name:<{width}}  {value:>12.4f}" for name, value in metrics.items())
