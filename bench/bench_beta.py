"""Claim: the weight of the rate moves a VAE along the rate-distortion curve, and annealing moves it so in time.

Small VAEs with the same networks are fitted alike to the fixed binarisation of MNIST, but for the weight of the rate.
As it grows the rate falls and the distortion rises; each model is the best of these by the weighted sum that it was
fitted to, so that beta = 1 has the best ELBO; a model whose linear annealing is stopped at half its weight lies between
those fitted with a quarter and the whole; and where annealing has ended, a model is where beta = 1 is.
"""

import argparse
import tempfile
from pathlib import Path
from typing import cast

from bench.arguments import count
from bench.verdict import Claim, judge
from models.families.parts import BernoulliConfig
from models.families.vae import MLPConfig, VAEConfig
from models.model import LatentVariableModel
from training.data import DataConfig, Splits, load
from training.evaluate import evaluate
from training.evaluation.rate_distortion import Point, table, write
from training.fit import Fit
from training.fit_model import ModelTask
from training.objectives.annealing import CyclicalAnnealing, LinearAnnealing
from training.objectives.sgvb import SGVBConfig
from training.recipe import FitConfig, Recipe
from training.run import Run

BETAS = (0.25, 1.0, 4.0)
ANNEALED_NATS = 2.0
"""Between the ELBO of a fit whose annealing has ended and that of one without any."""


def main() -> int:
    """Fit the models, print their points and draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of the data, in place of the download")
    parser.add_argument("--steps", type=count, default=10_000)
    parser.add_argument("--examples", type=count, default=10_000, help="of the test split, that are measured")
    parser.add_argument("--output", type=Path, default=Path("rate-distortion.png"), help="picture to write")
    options = parser.parse_args()
    splits = load(DataConfig(source="binarized-mnist", root=options.root, channels=1))
    objectives = _objectives(options.steps)
    points = {}
    for name, objective in objectives.items():
        points[name] = _fitted(name, objective, splits, options.steps, options.examples)
        print(table([points[name]]), flush=True)
    note = f"The first {options.examples} test examples of {splits.name}, after {options.steps} steps"
    write(note, list(points.values()), options.output)
    print(table(list(points.values())))
    return judge(_claims(points))


def _objectives(steps: int) -> dict[str, SGVBConfig]:
    """Give the objectives by name."""
    cycle = max(1, steps // 5)
    return {
        **{f"beta {beta:g}": SGVBConfig(rate_weight=beta) for beta in BETAS},
        "linear annealing, stopped half-way": SGVBConfig(annealing=LinearAnnealing(steps=2 * steps)),
        "linear annealing": SGVBConfig(annealing=LinearAnnealing(steps=max(1, steps // 2))),
        "cyclical annealing": SGVBConfig(annealing=CyclicalAnnealing(cycle_steps=cycle, cycles=4)),
    }


def _fitted(name: str, objective: SGVBConfig, splits: Splits, steps: int, examples: int) -> Point:
    """Fit a model and measure its last weights."""
    recipe = Recipe(
        name="rate-distortion",
        data=DataConfig(source="binarized-mnist", channels=1),
        model=VAEConfig(latent=10, network=MLPConfig(hidden=(100,)), likelihood=BernoulliConfig()),
        objective=objective,
        # The one validation is at the end, so that the bound chooses no earlier weights.
        fit=FitConfig(
            steps=steps, batch_size=100, learning_rate=2e-3, warmup_steps=100, ema_decay=0.99, validate_every=steps,
            checkpoint_every=steps, threads=1, device="cpu",
        ),
    )  # fmt: skip
    # The log's writer may still be at work when the folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        state = Fit(Run(Path(folder)), ModelTask(recipe, splits))
        state.loop()
    model = cast("LatentVariableModel", state.averaged.eval().requires_grad_(False))
    metrics = evaluate(model, splits.test.fixed(examples), samples=1, seed=0).metrics
    return Point(name, metrics["kl_nats"], -metrics["reconstruction_nats"])


def _claims(points: dict[str, Point]) -> list[Claim]:
    """Say what must hold of the points."""
    fitted = [points[f"beta {beta:g}"] for beta in BETAS]
    rates, distortions = ([getattr(one, name) for one in fitted] for name in ("rate_nats", "distortion_nats"))
    claims = [
        Claim(
            "the rate falls as beta grows, nats",
            ", ".join(f"{rate:.2f}" for rate in rates),
            rates == sorted(rates)[::-1],
        ),
        Claim(
            "the distortion rises as beta grows, nats",
            ", ".join(f"{one:.2f}" for one in distortions),
            distortions == sorted(distortions),
        ),
    ]
    for beta, own in zip(BETAS, fitted, strict=True):
        sums = [one.distortion_nats + beta * one.rate_nats for one in fitted]
        ahead = min(other for other, one in zip(sums, fitted, strict=True) if one is not own) - sums[fitted.index(own)]
        text = f"fitted with beta {beta:g}: distortion + {beta:g} rate is the least, by so many nats"
        claims.append(Claim(text, f"{ahead:.2f}", ahead > 0))
    half = points["linear annealing, stopped half-way"].rate_nats
    between = rates[1] < half < rates[0]
    claims.append(
        Claim("a linear annealing at weight 0.5 has a rate between those of 0.25 and 1", f"{half:.2f}", between)
    )
    for name in ("linear annealing", "cyclical annealing"):
        off = abs(points[name].elbo_nats - fitted[1].elbo_nats)
        text = f"a {name} that has ended is within {ANNEALED_NATS} nats of the ELBO of beta 1"
        claims.append(Claim(text, f"{off:.2f}", off <= ANNEALED_NATS))
    return claims


if __name__ == "__main__":
    raise SystemExit(main())
