"""Fit, evaluate, export, serve: the service's bounds are those of `training evaluate` for the same seed."""

import asyncio
from pathlib import Path

import numpy as np

from artifact.store import Store
from service import operations
from service.engine import Engine
from service.settings import Settings
from training.data import load
from training.evaluate import bounds
from training.export import export
from training.fit import fit
from training.recipe import read_recipe
from training.run import Run

RECIPE = """
name = "noise-vae"
[data]
source = "npy"
root = "{root}"
channels = 3
[model]
family = "vae"
latent = 3
network = {{ kind = "conv", encoder_channels = [6], decoder_channels = [6], hidden = 16 }}
likelihood = {{ kind = "gaussian", variance = "learned", scale = 60.0 }}
[fit]
steps = 30
batch_size = 32
"""


def test_bounds_over_the_service_are_those_of_the_evaluation(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "noise-vae.toml").write_text(RECIPE.format(root=tmp_path / "images.npy"))
    recipe = read_recipe(tmp_path / "noise-vae.toml")
    run = Run(tmp_path / "run")
    fit(run, recipe, resume=False)
    splits = load(recipe.data)
    export(run, splits, Store(tmp_path / "store"))
    expected = bounds(run.model(recipe, (8, 8, 3)), splits.test, samples=70, seed=5)

    async def served() -> None:
        engine = Engine(Settings(store=tmp_path / "store", device="cpu", threads=1))
        await engine.start()
        model = engine.model(None, "likelihood")
        found = await operations.likelihood(engine, model, splits.test, samples=70, seed=5, first_index=0)
        await engine.stop()
        np.testing.assert_allclose(found.elbo_nats, expected.elbo_nats, atol=1e-6 * 192)
        np.testing.assert_allclose(found.iwae_nats, expected.iwae_nats, atol=1e-6 * 192)
        assert np.abs(found.iwae_nats - expected.iwae_nats).max() < 0.01

    asyncio.run(served())
