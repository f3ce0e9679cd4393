"""Evaluation: bounds with their standard errors, distortion and latent statistics of a run, over a whole split."""

import json
import sys
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from tqdm import tqdm

from artifact.bounds import BoundAccumulator, BoundEstimate, bits_per_dim
from artifact.noise import POSTERIOR_STREAM, batch_normal
from media.distortion import mse, psnr_db
from models.autoregressive import TeacherForcedModel
from models.bottleneck import DiscreteBottleneck
from models.model import LatentVariableModel
from training.data import Splits
from training.evaluate_codes import evaluate_codes, finite_mean
from training.evaluation import collapse
from training.evaluation.batches import in_batches
from training.evaluation.latents import continuous as continuous
from training.evaluation.latents import weighable
from training.evaluation.marginal import noise_of_mean, standard_error
from training.fit_model import variance
from training.markov import codes_to_learn
from training.run import Run, write_text

Split = Literal["train", "validation", "test"]

IMPORTANCE_SAMPLES = 100
"""Of the IWAE bound, where nothing else is asked for."""

_ACTIVE_VARIANCE = 0.01
_ENCODE_BATCH = 500
_DECODER_ROWS = 64
_DRAWN = 100
"""Pictures that a decoder draws pixel by pixel for the distortion, one after the other."""
_OF_ENTROPIES = (
    "Entropies are those of the counts of this very set: where pairs of codes are few, that of order 1 is lower than "
    "any model could reach; `markov` is what a chain learned from the training split needs."
)
_OF_INFORMATION = (
    ". The mutual information is at most the logarithm of the number of examples that it is estimated from: near this "
    "it is only known to be no smaller, and the aggregate KL to be no larger"
)


@dataclass(frozen=True)
class Evaluation:
    """What was measured, as means over a split.

    Attributes:
        metrics: figures by name, names with units.
        bounds: of every example; None where the model has none.
        collapse: how its latents are used; likewise.
    """

    metrics: dict[str, float]
    bounds: BoundEstimate | None
    collapse: collapse.CollapseReport | None


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
    model = model.for_export()  # else a prior that is made of the encoder would be made anew for every few samples

    def measure(part: slice) -> BoundEstimate:
        return _batch_bounds(model, images[part], part.start, samples, seed)

    bar = tqdm(total=len(images) * samples, unit="sample", unit_scale=True, desc="bounds", disable=not progress)
    parts: list[BoundEstimate] = []
    total, done = 0.0, 0
    with bar:
        for part in in_batches(len(images), max(1, _DECODER_ROWS // samples), measure):
            parts.append(part)
            total += float(part.iwae_nats.sum())
            done += len(part.iwae_nats)
            bar.update(len(part.iwae_nats) * samples)
            bar.set_postfix_str(f"iwae {total / done:.3f} nats", refresh=False)
    names = [field.name for field in fields(BoundEstimate)]
    return BoundEstimate(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


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


def evaluate(
    model: LatentVariableModel,
    images: UInt8[np.ndarray, "N H W C"],
    *,
    samples: int,
    seed: int,
    progress: bool = False,
) -> Evaluation:
    """Measure a model on a split; of one without a bound only how far its reconstructions are from the pictures.

    Args:
        model: in evaluation mode, on the CPU.
        images: the split.
        samples: S of the IWAE bound.
        seed: of the noise.
        progress: show a bar.

    Returns:
        The figures and what is behind them.

    Raises:
        RunError: the model's latents are of another kind.
    """
    metrics = {"examples": float(len(images))}
    if not continuous(model).bounds_log_p:
        return Evaluation(metrics | _distortion(model, images), None, None)
    estimate = bounds(model, images, samples=samples, seed=seed, progress=progress)
    report = collapse.report(model, images, seed=seed, progress=progress)
    metrics |= {"importance_samples": float(samples)} | _bound_figures(model, images, estimate)
    metrics |= _distortion(model, images) | _closed_form_rate(model, images, report) | report.figures()
    return Evaluation(metrics, estimate, report)


def _bound_figures(
    model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"], estimate: BoundEstimate
) -> dict[str, float]:
    """Average bounds over examples; bits a dimension are those of the tightest, where it is a code length."""
    figures = {
        "elbo_nats": float(estimate.elbo_nats.mean()),
        "elbo_standard_error_nats": standard_error(estimate.elbo_nats),
        "reconstruction_nats": float(estimate.reconstruction_nats.mean()),
        "kl_nats": float(estimate.kl_nats.mean()),
        "iwae_nats": float(estimate.iwae_nats.mean()),
        "iwae_standard_error_nats": standard_error(estimate.iwae_nats),
        "iwae_noise_standard_error_nats": noise_of_mean(estimate.iwae_standard_error_nats),
        "effective_sample_size": float(estimate.effective_sample_size.mean()),
    }
    tightest, exact = estimate.iwae_nats, _exact(model, images)
    if exact is not None:
        tightest = exact
        figures |= {"exact_nats": float(exact.mean()), "exact_standard_error_nats": standard_error(exact)}
    if not model.likelihood.is_density:
        figures["bits_per_dim"] = float(bits_per_dim(tightest, int(np.prod(images.shape[1:]))).mean())
    return figures


@torch.inference_mode()
def _exact(model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"]) -> Float64[np.ndarray, " N"] | None:
    """Give log p(x) of every image, nats, where the model knows it."""
    found = []
    for first in range(0, len(images), _ENCODE_BATCH):
        part = model.exact_log_prob(torch.from_numpy(images[first : first + _ENCODE_BATCH]))
        if part is None:
            return None
        found.append(part.numpy())
    return np.concatenate(found)


@torch.inference_mode()
def _distortion(model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"]) -> dict[str, float]:
    """Measure reconstructions, each from the one z that stands for x."""
    points, errors, ratios = [], [], []
    bottleneck, drawn = continuous(model), isinstance(model, TeacherForcedModel)
    for first in range(0, len(images), _ENCODE_BATCH):
        x = images[first : first + _ENCODE_BATCH]
        point = bottleneck.point(model.encode(torch.from_numpy(x)))
        points.append(point.double().numpy())
        shown = x if not drawn else x[: max(0, _DRAWN - first)]
        if len(shown):
            answer = model.mean(point[: len(shown)]).round().clamp(0, 255).to(torch.uint8).numpy()
            errors.append(mse(shown, answer))
            ratios.append(psnr_db(shown, answer, peak=255.0))
    return {
        "mse": float(np.concatenate(errors).mean()),
        "psnr_db": finite_mean(np.concatenate(ratios)),
        "active_units": float(active_units(np.concatenate(points))),
    }


@torch.inference_mode()
def _closed_form_rate(
    model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"], report: collapse.CollapseReport
) -> dict[str, float]:
    """Give the mean KL in closed form, where there is one."""
    if continuous(model).kl(model.encode(torch.from_numpy(images[:1]))) is None:
        return {}
    return {"kl_closed_form_nats": float(sum(report.kl_per_dimension_nats))}


def evaluate_run(
    run: Run, splits: Splits, *, split: Split, samples: int | None, seed: int, limit: int | None
) -> dict[str, float]:
    """Evaluate a run's best weights, and its prior's where it has one, and store the figures in its folder.

    Args:
        run: the run.
        splits: its data.
        split: which to measure.
        samples: S, for a model of real-valued latents that are weighed; None for 100.
        seed: of the noise.
        limit: measure the first so many examples; None for all.

    Returns:
        The figures.

    Raises:
        RunError: the run is not complete, or importance samples are asked for of a model without a bound.
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
        if samples is not None:
            weighable(model)
        images = examples.fixed(limit)
        found = evaluate(model, images, samples=samples or IMPORTANCE_SAMPLES, seed=seed, progress=True)
        metrics, how = found.metrics, f", noise seed {seed}{_OF_INFORMATION if found.collapse else ''}."
        if found.collapse is not None:
            found.collapse.write(run.path / "collapse.json")
            for warning in found.collapse.warnings:
                tqdm.write(f"warning: {warning}", file=sys.stderr)
    part = "" if limit is None else f"the first {metrics['examples']:.0f} examples of "
    note = f"Means over {part}the {split} split of {splits.name}, by `python -m training evaluate`{how}"
    stored = {"note": note, "weights": run.weights(), "metrics": metrics}
    write_text(run.metrics_file, json.dumps(stored, indent=2) + "\n")
    return metrics


def table(metrics: dict[str, float]) -> str:
    """Set figures as two aligned columns."""
    width = max(map(len, metrics))
    return "\n".join(f"{name:<{width}}  {value:>12.4f}" for name, value in metrics.items())
