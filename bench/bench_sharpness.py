"""Claim: the pictures of a VAE-GAN are sharper than those of the VAE with the same networks.

Both runs are fitted already. Their reconstructions of test pictures, and as many draws from their priors, are measured
by two figures of sharpness as shares of what the real pictures have; a picture shows all side by side.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from artifact.noise import PRIOR_STREAM, batch_normal
from bench.arguments import count
from bench.verdict import Claim, judge
from media.images import contact_sheet, write_png
from models.model import LatentVariableModel
from training.data import load
from training.evaluate import continuous
from training.evaluation.sharpness import Ratio, gradient_energy, laplacian_variance, relative
from training.pictures import intensities
from training.run import Run

Pictures = UInt8[np.ndarray, "N H W C"]
MEASURES: dict[str, Callable[[Pictures], Float64[np.ndarray, " N"]]] = {
    "gradient energy": gradient_energy,
    "variance of the Laplacian": laplacian_variance,
}
_BATCH = 100
_SHOWN = 12
_MOST = 1.25
"""Times the figure of real pictures: what has more is a pattern or noise, which is not what is meant by sharp."""


def main() -> int:
    """Measure both runs, print the figures and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vae_gan", type=Path, help="folder of the run of the VAE-GAN")
    parser.add_argument("vae", type=Path, help="folder of the run of the VAE")
    parser.add_argument("--root", help="where their data are now")
    parser.add_argument("--examples", type=count, default=1000, help="test pictures, and draws from each prior")
    parser.add_argument("--output", type=Path, default=Path("sharpness.png"), help="picture to write")
    options = parser.parse_args()
    runs = {"VAE": Run(options.vae), "VAE-GAN": Run(options.vae_gan)}
    overrides = {"data.root": options.root} if options.root else None
    recipes = {name: run.recipe(overrides) for name, run in runs.items()}
    splits = load(recipes["VAE"].data)
    test = splits.test.fixed()
    real = test[np.random.default_rng(0).permutation(len(test))[: options.examples]]
    models = {name: run.model(recipes[name], real.shape[1:]) for name, run in runs.items()}
    reconstructed = {name: reconstructions(model, real) for name, model in models.items()}
    drawn = {name: draws(model, len(real)) for name, model in models.items()}
    rows = [real, *reconstructed.values(), *drawn.values()]
    sheet = contact_sheet(np.concatenate([row[:_SHOWN] for row in rows]), columns=_SHOWN)
    options.output.write_bytes(write_png(sheet))
    print(f"{len(real)} test pictures of {splits.name}; {options.output}: real, then of VAE and of VAE-GAN the")
    print("reconstructions, then the draws; all figures are shares of those of the real pictures")
    return judge([*_claims("reconstructions", reconstructed, real), *_claims("draws", drawn, real)])


@torch.inference_mode()
def reconstructions(model: LatentVariableModel, real: Pictures) -> Pictures:
    """Give the means that a model reconstructs pictures by."""
    parts = (torch.from_numpy(real[first : first + _BATCH]) for first in range(0, len(real), _BATCH))
    return np.concatenate([intensities(model.reconstruct(part)) for part in parts])


@torch.inference_mode()
def draws(model: LatentVariableModel, number: int) -> Pictures:
    """Give the means of draws from a model's prior."""
    bottleneck, parts = continuous(model), []
    for first in range(0, number, _BATCH):
        rows = min(_BATCH, number - first)
        noise = batch_normal(0, first, rows, (1, bottleneck.prior_noise_dimensions), stream=PRIOR_STREAM)[:, 0]
        parts.append(intensities(model.mean(bottleneck.sample(torch.from_numpy(noise), torch.ones(rows)))))
    return np.concatenate(parts)


def _claims(what: str, pictures: dict[str, Pictures], real: Pictures) -> list[Claim]:
    """Compare the models by every figure: that of the VAE-GAN must be greater, but not above that of real pictures."""
    claims = []
    for name, measure in MEASURES.items():
        of_real = measure(real)
        plain, gan = (relative(measure(pictures[model]), of_real) for model in ("VAE", "VAE-GAN"))
        greater = gan.value - plain.value > 2 * np.hypot(plain.standard_error, gan.standard_error)
        text = f"{_text(plain)} of the VAE, {_text(gan)} of the VAE-GAN"
        claims.append(
            Claim(f"{name} of {what} is greater, and at most {_MOST}", text, bool(greater and gan.value <= _MOST))
        )
    return claims


def _text(ratio: Ratio) -> str:
    """Write a ratio with its standard error."""
    return f"{ratio.value:.3f} +- {ratio.standard_error:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
