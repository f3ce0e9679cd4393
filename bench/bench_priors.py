"""Claim: PixelSNAIL gives the same codes a shorter length than a plain gated PixelCNN of equal size, fitted alike.

Both are fitted to the first grid of codes of a run, from the same seed, on the same batches.
"""

import argparse
import math
import tempfile
from pathlib import Path

from models.families.pixelcnn import PixelCNNConfig
from models.families.pixelsnail import PixelSNAILConfig
from models.families.priors import PriorModelConfig
from training.data import load
from training.fit import Fit
from training.fit_prior import Encoded, LinkTask, encode
from training.recipe import PriorConfig
from training.run import Run

PLAIN = PixelCNNConfig(channels=64, layers=8, hidden=256)
ATTENTIVE = PixelSNAILConfig(channels=60, layers=8, attention_every=4, heads=4, hidden=256)
"""No larger than the other."""


def main() -> int:
    """Fit both, and print the bits a token that each gives the validation split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a fitted run of a model of codes")
    parser.add_argument("--root", help="where its data are now")
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    run = Run(options.run)
    recipe = run.recipe({"data.root": options.root} if options.root else None)
    splits = load(recipe.data)
    prior = recipe.prior or PriorConfig()
    encoded = encode(recipe.name, prior, run.model(recipe, splits.train.shape), splits, "")
    plain, attentive = (_fitted_bits(encoded, model, options.steps) for model in (PLAIN, ATTENTIVE))
    print(f"ratio: {attentive / plain:.4f}, below 1: {'yes' if attentive < plain else 'NO'}")
    return 0 if attentive < plain else 1


def _fitted_bits(encoded: Encoded, model: PriorModelConfig, steps: int) -> float:
    """Fit a prior of the first grid; give bits a token of the validation split."""
    fit = encoded.config.link(0).fit.model_copy(update={"steps": steps, "validate_every": max(1, steps // 5)})
    config = PriorConfig(model=model, fit=fit, crop=encoded.config.crop, classes=encoded.config.classes)
    task = LinkTask(Encoded(**(vars(encoded) | {"config": config})), 0)
    with tempfile.TemporaryDirectory() as folder:
        state = Fit(Run(Path(folder)), task)
        progress = state.loop()
    bits = -progress.best_nats / (math.prod(encoded.grids[0].shape) * math.log(2.0))
    numbers = sum(parameter.numel() for parameter in state.averaged.parameters())
    print(f"{model.kind}: {numbers} parameters, {bits:.4f} bits a token after {progress.best_step} steps")
    return bits


if __name__ == "__main__":
    raise SystemExit(main())
