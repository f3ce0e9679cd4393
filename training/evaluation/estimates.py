"""Estimates of log p(x) beyond importance sampling, for a run: naive Monte Carlo, annealed chains, both directions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.model import LatentVariableModel
from training.data import Splits
from training.evaluate import Split, bounds
from training.evaluation.ais import Annealing, ais, bdmc, figures
from training.evaluation.latents import weighable
from training.evaluation.marginal import monte_carlo, standard_error
from training.evaluation.store import add_figures
from training.run import Run


@dataclass(frozen=True)
class Asked:
    """What to estimate.

    Attributes:
        examples: the first so many of a split, and as many simulated ones.
        importance_samples: of the bound that annealed chains are compared with.
        monte_carlo: draws from the prior; 0 for no such estimate.
        annealing: chains from below; None for none.
        bidirectional: also chains from both sides, on simulated data.
        seed: of the noise.
    """

    examples: int
    importance_samples: int
    monte_carlo: int = 0
    annealing: Annealing | None = None
    bidirectional: bool = False
    seed: int = 0


def estimates_of_run(run: Run, splits: Splits, split: Split, asked: Asked) -> dict[str, float]:
    """Estimate log p(x) for a run's best weights, and store the figures with its others.

    Args:
        run: the run.
        splits: its data.
        split: which to measure.
        asked: what to estimate.

    Returns:
        The figures.

    Raises:
        RunError: the run is not complete, or its model has no prior over real-valued latents.
    """
    model = run.model(run.recipe(), splits.train.shape)
    weighable(model)
    data = getattr(splits, split).fixed(asked.examples)
    found: dict[str, float] = {}
    # Stored one by one: each may take hours, and what is measured is not to be lost with the next.
    for measured, note in _estimates(model, data, f"the first {len(data)} examples of the {split} split", asked):
        add_figures(run, measured, note)
        found |= measured
    return found


def _estimates(
    model: LatentVariableModel, data: np.ndarray, where: str, asked: Asked
) -> Iterator[tuple[dict[str, float], str]]:
    """Give the figures of each estimate, and how it was made."""
    seed, how = asked.seed, f"over {where}, noise seed {asked.seed}"
    yield {"estimated_examples": float(len(data))}, ""
    if asked.monte_carlo:
        drawn = monte_carlo(model, data, samples=asked.monte_carlo, seed=seed, progress=True)
        yield drawn.figures("monte_carlo"), f"monte_carlo: {asked.monte_carlo} draws of z from the prior, {how}."
    if asked.annealing is None:
        return
    config, samples = asked.annealing, asked.importance_samples
    below = ais(model, data, config, seed=seed, progress=True)
    sampled = bounds(model, data, samples=samples, seed=seed, progress=True)
    chains = f"{config.chains} chains of {config.steps} steps, each of {config.leapfrog_steps} leapfrogs"
    yield (
        figures(below, "ais") | _difference("ais_minus_iwae", below.lower.nats - sampled.iwae_nats),
        f"ais: {chains}, from the {config.start}, {how}; beside iwae of {samples} samples.",
    )
    if asked.bidirectional:
        both = bdmc(model, len(data), data.shape[1:], config, seed=seed, progress=True)
        yield (
            figures(both, "bdmc"),
            f"bdmc: such chains, and back from exact samples, on {len(data)} simulated examples.",
        )


def _difference(name: str, nats: np.ndarray) -> dict[str, float]:
    """Give the mean of a paired difference, with its standard error."""
    return {f"{name}_nats": float(nats.mean()), f"{name}_standard_error_nats": standard_error(nats)}
