"""Claim: where a VAE with a strong decoder collapses, a delta-VAE of fixed variance and a weakened decoder do not.

Four models of binarised MNIST are fitted alike, for as many steps: a plain VAE with a PixelCNN decoder, both
delta-VAEs with that decoder, and the plain VAE with one whose pixels see few others. A model has collapsed where z
tells its decoder nothing: then a picture is as probable given the z of another picture as given its own. Both
delta-VAEs must keep their rate for every input. A rate is not yet information: that of the AR(1) prior can be paid by a
posterior that is the same for all inputs, and with this decoder it is, so what its z tells is printed, not claimed.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import UInt8

from bench.arguments import count, positive
from bench.verdict import Claim, judge
from models.families import FamilyConfig
from models.families.decoders import PixelCNNDecoderConfig
from models.families.delta_vae import DeltaVAEConfig
from models.families.vae import MLPConfig, VAEConfig
from models.model import LatentVariableModel
from training.data import DataConfig, Splits, load
from training.data.splits import ImageArray
from training.evaluate import active_units, continuous
from training.fit import Fit
from training.fit_model import ModelTask
from training.recipe import FitConfig, Recipe
from training.run import Run

LATENT = 16
NETWORK = MLPConfig(hidden=(256,))
STRONG = PixelCNNDecoderConfig(features=8, channels=24, layers=5, radius=3, hidden=32)
WEAK = PixelCNNDecoderConfig(features=8, channels=24, layers=1, radius=0, hidden=32)
COLLAPSED_NATS = 0.5
"""Told by z: less than this is nothing."""
BATCH = 100


@dataclass(frozen=True)
class Measured:
    """What a fitted model does on the test split.

    Attributes:
        elbo_nats: mean, of the first pictures.
        told_nats: by how much z makes a picture more probable than another picture's z, likewise.
        mean_kl_nats: over all pictures.
        least_kl_nats: of any picture.
        active_units: dimensions whose posterior mean depends on x.
    """

    elbo_nats: float
    told_nats: float
    mean_kl_nats: float
    least_kl_nats: float
    active_units: int


def main() -> int:
    """Fit the four, print what they do, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="folder of binarised MNIST; without it, it is downloaded")
    parser.add_argument("--steps", type=count, default=400)
    parser.add_argument("--batch-size", type=count, default=32)
    parser.add_argument("--delta", type=positive, default=5.0, help="committed rate in nats")
    parser.add_argument("--examples", type=count, default=400, help="of the test split, for all but the rates")
    options = parser.parse_args()
    splits = load(DataConfig(source="binarized-mnist", root=options.root, channels=1))
    found = {
        name: _measured(_fitted(config, splits, options), splits.test.fixed(), options.examples, name)
        for name, config in _models(options.delta)
    }
    plain, weak = found["vae"], found["vae, weak decoder"]
    claims = [
        Claim(
            f"the VAE's z tells below {COLLAPSED_NATS} nats", f"{plain.told_nats:.3f}", plain.told_nats < COLLAPSED_NATS
        ),
        Claim(f"with a weak decoder above {COLLAPSED_NATS}", f"{weak.told_nats:.3f}", weak.told_nats > COLLAPSED_NATS),
    ]
    for name in ("delta-vae, fixed-variance", "delta-vae, ar1"):
        least = found[name].least_kl_nats
        text = f"{name}: KL of every test input at least {options.delta}"
        claims.append(Claim(text, f"{least:.4f}", least >= options.delta))
    told = found["delta-vae, fixed-variance"].told_nats
    text = f"delta-vae, fixed-variance: z tells above {COLLAPSED_NATS} nats"
    claims.append(Claim(text, f"{told:.3f}", told > COLLAPSED_NATS))
    return judge(claims)


def _models(delta_nats: float) -> Iterator[tuple[str, FamilyConfig]]:
    """Name the models."""
    yield "vae", VAEConfig(latent=LATENT, network=NETWORK, decoder=STRONG)
    yield "vae, weak decoder", VAEConfig(latent=LATENT, network=NETWORK, decoder=WEAK)
    for construction in ("fixed-variance", "ar1"):
        yield (
            f"delta-vae, {construction}",
            DeltaVAEConfig(
                family="delta-vae",
                latent=LATENT,
                delta_nats=delta_nats,
                construction=construction,
                network=NETWORK,
                decoder=STRONG,
            ),
        )


class _Unseen(ModelTask):
    """A fit that draws no pictures, which decoders pixel by pixel take long for."""

    def pictures(self, model: torch.nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show nothing."""
        del model
        return {}


def _fitted(config: FamilyConfig, splits: Splits, options: argparse.Namespace) -> LatentVariableModel:
    """Fit a model on one thread."""
    fit = FitConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=5e-3,
        warmup_steps=50,
        weight_decay=0.0,
        precision="bf16-mixed",
        device="cpu",
        threads=1,
        validate_every=options.steps,
    )
    data = DataConfig(source="binarized-mnist", root=options.root, channels=1)
    recipe = Recipe(name="bench", data=data, model=config, fit=fit)
    few = replace(splits, validation=ImageArray(cast("ImageArray", splits.validation).images[: options.examples]))
    with tempfile.TemporaryDirectory() as folder:
        state = Fit(Run(Path(folder)), _Unseen(recipe, few))
        state.loop()
    return cast("LatentVariableModel", state.averaged).eval().requires_grad_(False)


@torch.no_grad()
def _measured(model: LatentVariableModel, images: UInt8[np.ndarray, "N H W C"], examples: int, name: str) -> Measured:
    """Measure a model, and print it."""
    bottleneck = continuous(model)
    encodings = [model.encode(batch) for batch in torch.split(torch.from_numpy(images), 1000)]
    rates = torch.cat([cast("torch.Tensor", bottleneck.kl(encoding)).double().sum(1) for encoding in encodings])
    means = torch.cat([bottleneck.point(encoding) for encoding in encodings]).double().numpy()
    own, other, elbo = [], [], []
    generator = torch.Generator().manual_seed(0)
    chosen = images[np.random.default_rng(0).permutation(len(images))[:examples]]
    for x in torch.split(torch.from_numpy(chosen), BATCH):
        found = model(x, torch.randn(len(x), 1, bottleneck.noise_dimensions, generator=generator))
        z = found.latent[-1].z.roll(1, 0)
        own.append(found.bound.reconstruction)
        other.append(model.likelihood.log_prob(x.unsqueeze(1), model.weighing(x, z)).mean(1))
        elbo.append(found.bound.elbo)
    measured = Measured(
        elbo_nats=torch.cat(elbo).mean().item(),
        told_nats=(torch.cat(own) - torch.cat(other)).mean().item(),
        mean_kl_nats=rates.mean().item(),
        least_kl_nats=rates.min().item(),
        active_units=active_units(means),
    )
    print(
        f"{name}: ELBO {measured.elbo_nats:.2f} nats, z tells {measured.told_nats:.3f} nats (n = {examples}); KL mean "
        f"{measured.mean_kl_nats:.4f}, least {measured.least_kl_nats:.4f} nats (n = {len(rates)}); "
        f"{measured.active_units} of {means.shape[1]} units active",
        flush=True,
    )
    return measured


if __name__ == "__main__":
    raise SystemExit(main())
