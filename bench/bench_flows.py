"""Claim: on the decoder of a run as it is, a planar flow and full covariance beat the diagonal posterior.

For each kind of posterior encoder and flow are fitted with the decoder frozen, from the run's own encoder, which a
fresh flow or a fresh triangular factor leaves as it was, for the same number of steps on the same batches. The test
ELBOs come from the same noise; differences from the diagonal posterior, fitted on alike, are paired over examples. The
other flows stand in the table beside them: what they see of x is added inside their networks, which hardly lets the
dependence between dimensions of z change with x.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from artifact.noise import POSTERIOR_STREAM, batch_normal
from bench.verdict import Claim, judge
from models.families import build
from models.families.vae import VAEConfig
from models.model import LatentVariableModel
from training.data import Splits, load
from training.fit import batch_indices
from training.run import Run

POSTERIORS: dict[str, dict[str, Any]] = {
    "diagonal": {"kind": "diagonal"},
    "full covariance": {"kind": "full-covariance"},
    "planar, 16 steps": {"kind": "planar", "steps": 16},
    "radial, 16 steps": {"kind": "radial", "steps": 16},
    "coupling, 4 steps": {"kind": "coupling", "steps": 4, "hidden": 100},
    "inverse autoregressive, 4 steps": {"kind": "inverse-autoregressive", "steps": 4, "hidden": 200},
}
DIAGONAL = "diagonal"
CLAIMED = ("full covariance", "planar, 16 steps")
STANDARD_ERRORS = 4.0
_BATCH, _LEARNING_RATE, _GRADIENT_CLIP = 100, 1e-3, 100.0
_TEST_BATCH = 50

Elbos = Float64[np.ndarray, " N"]


def main() -> int:
    """Fit each posterior, and print its test ELBO and its advantage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a fitted run of family vae")
    parser.add_argument("--root", help="where its data are now")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=32, help="of z for each test example")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run = Run(options.run)
    recipe = run.recipe({"data.root": options.root} if options.root else None)
    if not isinstance(recipe.model, VAEConfig) or recipe.model.posterior.kind != "diagonal":
        parser.error("the run is not of family vae with a diagonal posterior")
    splits = load(recipe.data)
    fitted = run.model(recipe, splits.train.shape)
    start = _elbos(fitted, splits, options.samples)
    print(f"{'posterior':<34}{'test ELBO':>10}{'gain':>9}{'error':>8}{'fitted':>10}{'CPU s':>7}  (nats, numbers)")
    print(f"{'diagonal, as the run left it':<34}{start.mean():>10.3f}")
    found: dict[str, Elbos] = {}
    for name, table in POSTERIORS.items():
        config = VAEConfig.model_validate(recipe.model.model_dump() | {"posterior": table})
        model, began_s = _beside(fitted, config, splits.train.shape), time.process_time()
        _fit(model, splits, options.steps)
        seconds = time.process_time() - began_s
        found[name] = _elbos(model, splits, options.samples)
        gain, error = _paired(found[name] - found[DIAGONAL])
        numbers = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        print(f"{name:<34}{found[name].mean():>10.3f}{gain:>9.3f}{error:>8.3f}{numbers:>10}{seconds:>7.0f}", flush=True)
    return judge([_claim(name, found[name] - found[DIAGONAL]) for name in CLAIMED])


def _beside(fitted: LatentVariableModel, config: VAEConfig, shape: tuple[int, ...]) -> LatentVariableModel:
    """Compose a model with another posterior, with the decoder and, as far as it goes, the encoder of the fitted one.

    Of the encoder's last layer the fitted one has the rows of mean and log-variance. The rows of a triangular factor
    begin at zero; those of a context as they are, since a fresh flow does not heed it.
    """
    torch.manual_seed(0)
    model = build(config, shape)
    model.decoder.load_state_dict(fitted.decoder.state_dict())
    known = fitted.encoder.state_dict()
    with torch.no_grad():
        for name, weight in model.encoder.state_dict().items():
            if config.posterior.kind == "full-covariance" and len(weight) > len(known[name]):
                weight.zero_()
            weight[: len(known[name])] = known[name]
    model.decoder.requires_grad_(False)
    return model


def _fit(model: LatentVariableModel, splits: Splits, steps: int) -> None:
    """Fit encoder and posterior by the ELBO, by Adam, at a rate that rises for a tenth of the steps and then falls."""
    fitted = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(fitted, lr=_LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps, pct_start=0.1)
    random = np.random.Generator(np.random.Philox(key=[0, 0]))
    model.train()
    for step in range(steps):
        x = torch.from_numpy(splits.train.batch(batch_indices(0, step, _BATCH, len(splits.train)), random))
        bound = model.bound(x, torch.randn(len(x), 1, model.bottleneck.noise_dimensions))
        optimizer.zero_grad()
        torch.autograd.backward(-bound.elbo.mean())
        nn.utils.clip_grad_norm_(fitted, _GRADIENT_CLIP)
        optimizer.step()
        schedule.step()
    model.eval()


@torch.inference_mode()
def _elbos(model: LatentVariableModel, splits: Splits, samples: int) -> Elbos:
    """Give the ELBO of each test example, by the mean log-weight of its samples."""
    test, found = splits.test.fixed(), []
    for first in range(0, len(test), _TEST_BATCH):
        x = torch.from_numpy(test[first : first + _TEST_BATCH])
        shape = (samples, model.bottleneck.noise_dimensions)
        noise = torch.from_numpy(batch_normal(0, first, len(x), shape, stream=POSTERIOR_STREAM))
        found.append(model.bound(x, noise).log_weights.mean(1).numpy())
    return np.concatenate(found)


def _paired(gains: Elbos) -> tuple[float, float]:
    """Give the mean of paired differences and its standard error."""
    return float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))


def _claim(name: str, gains: Elbos) -> Claim:
    """Say whether a posterior is better by more than chance."""
    gain, error = _paired(gains)
    text = f"{name} beats diagonal by more than {STANDARD_ERRORS:g} standard errors"
    return Claim(text, f"{gain:.3f} +- {error:.3f} nats", gain > STANDARD_ERRORS * error)


if __name__ == "__main__":
    raise SystemExit(main())
