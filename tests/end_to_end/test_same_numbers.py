"""Fit, evaluate, export, serve: the service's bounds are those of `training evaluate` for the same seed."""

import asyncio
import io
from pathlib import Path

import httpx
import numpy as np

from artifact.store import Store
from service.app import create_app
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

    found = asyncio.run(served(tmp_path / "store", splits.test))
    for name in ("elbo_nats", "iwae_nats"):
        np.testing.assert_allclose([item[name] for item in found], getattr(expected, name), atol=1e-6 * 192)


async def served(store: Path, images: np.ndarray) -> list[dict[str, float]]:
    """Ask the HTTP endpoint for the bounds of images."""
    app = create_app(Settings(store=store, device="cpu", threads=1))
    engine = app.state.service.engine
    await engine.start()
    body = io.BytesIO()
    np.save(body, images)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post(
            "/likelihood?samples=70&seed=5", content=body.getvalue(), headers={"content-type": "application/x-npy"}
        )
    await engine.stop()
    items: list[dict[str, float]] = answer.json()["items"]
    return items
