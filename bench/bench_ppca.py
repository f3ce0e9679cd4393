"""Claim: EM and a linear VAE fitted by SGVB end where probabilistic PCA has its maximum, in closed form.

The data are real pictures, scaled down and grey, whose pixels are taken as real numbers: log p is a density over grey
levels.
"""

import argparse
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch

from bench.arguments import count
from bench.verdict import Claim, judge
from models.families.ppca import PPCAConfig
from models.ppca import PPCA, LinearGaussian, closed_form
from training.data import DataConfig, Splits, load
from training.fit import Fit
from training.fit_model import ModelTask, build
from training.objectives import EMConfig
from training.ppca import mean_exact_nats, moments
from training.recipe import FitConfig, Recipe
from training.run import Run

EM_TOLERANCE_NATS = 1e-3
SGVB_TOLERANCE_NATS = 0.1
ROUNDING_NATS = 1e-9
"""By which a float64 log p may seem to fall."""


def main() -> int:
    """Fit in the three ways, print where they end, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, help="folder, or zip archives, of pictures")
    parser.add_argument("--source", choices=("folder", "zip"), default="zip")
    parser.add_argument("--size", type=count, default=8, help="pixels a side")
    parser.add_argument("--latent", type=count, default=4)
    parser.add_argument("--steps", type=count, default=4000, help="of SGVB")
    options = parser.parse_args()
    data = DataConfig(source=options.source, root=options.root, channels=1, size=options.size)
    splits = load(data)
    recipe = Recipe(
        name="bench",
        data=data,
        model=PPCAConfig(family="ppca", latent=options.latent, posterior="diagonal"),
        fit=FitConfig(
            steps=options.steps,
            batch_size=128,
            learning_rate=3e-2,
            warmup_steps=100,
            weight_decay=0.0,
            gradient_clip=1e6,
            ema_decay=0.99,
            device="cpu",
            threads=1,
            validate_every=max(1, options.steps // 4),
        ),
    )
    torch.manual_seed(recipe.fit.seed)
    model = cast("PPCA", build(recipe, splits)).requires_grad_(False)
    mean, covariance = moments(model, splits.train)
    start = replace(model.parameters_of_x(), location=mean)
    best = _nats(model, closed_form(mean, covariance, options.latent), splits)
    path = [start, *EMConfig(kind="ppca-em").solve(start, covariance)]
    fall = max(a - b for a, b in pairwise(step.mean_log_prob(covariance) for step in path))
    by_em = _nats(model, path[-1], splits)
    by_sgvb = mean_exact_nats(_fitted(recipe, splits), splits.train)
    values = int(np.prod(splits.train.shape))
    print(
        f"{len(splits.train)} pictures of {values} values, z of {options.latent}; mean log p(x) of the training split:"
    )
    print(f"closed form {best:.5f} nats; EM {by_em:.5f} after {len(path) - 1} steps; SGVB {by_sgvb:.5f}")
    return judge(
        [
            Claim("EM never falls", f"{fall:.1e}", fall < ROUNDING_NATS),
            Claim(
                f"EM ends within {EM_TOLERANCE_NATS} nats", f"{best - by_em:.2e}", abs(best - by_em) < EM_TOLERANCE_NATS
            ),
            Claim(
                f"SGVB ends within {SGVB_TOLERANCE_NATS} nats",
                f"{best - by_sgvb:.4f}",
                abs(best - by_sgvb) < SGVB_TOLERANCE_NATS,
            ),
        ]
    )


def _nats(model: PPCA, found: LinearGaussian, splits: Splits) -> float:
    """Give the mean log p of the training split under some parameters."""
    model.put(found)
    return mean_exact_nats(model, splits.train)


def _fitted(recipe: Recipe, splits: Splits) -> PPCA:
    """Fit the linear VAE."""
    with tempfile.TemporaryDirectory() as folder:
        state = Fit(Run(Path(folder)), ModelTask(recipe, splits))
        state.loop()
    return cast("PPCA", state.averaged).eval().requires_grad_(False)


if __name__ == "__main__":
    raise SystemExit(main())
