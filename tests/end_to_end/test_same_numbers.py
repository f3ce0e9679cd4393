"""Fit, evaluate, export, serve: the service's bounds are those of `training evaluate` for the same seed."""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from artifact.store import Store
from service.app import create_app
from service.settings import Settings
from training.data import load
from training.evaluate import bounds, evaluate_run
from training.export import export
from training.fit_model import fit
from training.fit_prior import fit_prior
from training.recipe import Recipe, read_recipe
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


def fitted(text: str, folder: Path) -> tuple[Run, Recipe]:
    """Fit a recipe to pictures of noise."""
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8))
    (folder / "recipe.toml").write_text(text.format(root=folder / "images.npy"))
    recipe, run = read_recipe(folder / "recipe.toml"), Run(folder / "run")
    fit(run, recipe, resume=False)
    return run, recipe


def test_bounds_over_the_service_are_those_of_the_evaluation(tmp_path: Path) -> None:
    run, recipe = fitted(RECIPE, tmp_path)
    splits = load(recipe.data)
    export(run, splits, Store(tmp_path / "store"))
    expected = bounds(run.model(recipe, (8, 8, 3)), splits.test.fixed(), samples=70, seed=5)

    found = asyncio.run(served(tmp_path / "store", splits.test.fixed(), "?samples=70&seed=5"))
    for name in ("elbo_nats", "iwae_nats"):
        np.testing.assert_allclose([item[name] for item in found], getattr(expected, name), atol=1e-6 * 192)


CODES_RECIPE = """
name = "noise-vq"
[data]
source = "npy"
root = "{root}"
channels = 3
[model]
family = "vqvae"
network = {{ downsampling = 2, hidden = 8, residual_hidden = 4, residual_blocks = 1 }}
quantizer = {{ num_embeddings = 12, embedding_dim = 3 }}
likelihood = {{ kind = "gaussian", variance = "shared", scale = 60.0 }}
[fit]
steps = 30
batch_size = 32
[prior]
model = {{ channels = 6, layers = 3, hidden = 8 }}
[prior.fit]
steps = 20
batch_size = 32
"""


def test_the_bound_of_codes_over_the_service_is_that_of_the_evaluation(tmp_path: Path) -> None:
    run, recipe = fitted(CODES_RECIPE, tmp_path)
    fit_prior(run, recipe, resume=False)
    splits = load(recipe.data)
    export(run, splits, Store(tmp_path / "store"))
    expected = evaluate_run(run, splits, split="test", samples=1, seed=0, limit=None)

    found = asyncio.run(served(tmp_path / "store", splits.test.fixed(), ""))
    assert {item["prior"] for item in found} == {"learned"}
    for name, of_evaluation in (("elbo_nats",) * 2, ("bits_per_dim",) * 2, ("bits_per_token", "prior_bits_per_token")):
        mean = np.mean([item[name] for item in found])
        np.testing.assert_allclose(mean, expected[of_evaluation], rtol=1e-6)


async def served(store: Path, images: np.ndarray, query: str) -> list[dict[str, Any]]:
    """Ask the HTTP endpoint for the bounds of images."""
    app = create_app(Settings(store=store, device="cpu", threads=1))
    engine = app.state.service.engine
    await engine.start()
    body = io.BytesIO()
    np.save(body, images)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post(
            f"/likelihood{query}", content=body.getvalue(), headers={"content-type": "application/x-npy"}
        )
    await engine.stop()
    items: list[dict[str, Any]] = answer.json()["items"]
    return items
