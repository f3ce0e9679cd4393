"""Every family of pictures: fitted for a step or two, exported with its parity, and served with torch's own bounds."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from artifact.store import Store
from models.bottleneck import DiscreteBottleneck
from models.families import FamilyConfig, build
from models.networks import ImageShape
from service.app import create_app
from service.settings import Settings
from tests.end_to_end.test_same_numbers import served
from tests.models.test_families import FAMILIES
from training.data import DataConfig, load
from training.evaluate import bounds, evaluate_run
from training.export import export
from training.fit_model import fit
from training.recipe import FitConfig, Recipe
from training.run import Run

OBJECTIVES = {"autoencoder": {"kind": "reconstruction"}}
"""Of families that the default one is not for."""
OF_PICTURES = {name: (config, data) for name, (config, data) in FAMILIES.items() if isinstance(data, ImageShape)}


def pictures(config: FamilyConfig, data: ImageShape) -> NDArray[np.uint8]:
    """Draw pictures of noise, of the values that the family's likelihood takes."""
    shape = (60, data.height, data.width, data.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    values = build(config, shape[1:]).likelihood.values
    return images if values is None else np.where(images >= 128, 255, 0).astype(np.uint8)


async def status_of_likelihood(store: Path, images: NDArray[np.uint8]) -> int:
    """Ask for bounds, and tell the answer's status."""
    app = create_app(Settings(store=store, device="cpu", threads=1))
    await app.state.service.engine.start()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/likelihood", json={"items": [{"image": images[0].tolist()}]})
    await app.state.service.engine.stop()
    return answer.status_code


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_PICTURES)
def test_it_is_served_as_it_is_in_torch(name: str, tmp_path: Path) -> None:
    config, data = OF_PICTURES[name]
    np.save(tmp_path / "images.npy", pictures(config, data))
    table: dict[str, Any] = {"objective": OBJECTIVES[config.family]} if config.family in OBJECTIVES else {}
    recipe = Recipe(
        name="family",
        data=DataConfig(source="npy", root=tmp_path / "images.npy", channels=data.channels),
        model=config,
        fit=FitConfig(steps=2, batch_size=8, device="cpu", threads=1),
        **table,
    )
    run, splits = Run(tmp_path / "run"), load(recipe.data)
    fit(run, recipe, resume=False)
    artifact = export(run, splits, Store(tmp_path / "store"))
    model, images = run.model(recipe, splits.train.shape), splits.test.fixed()
    if artifact.manifest.bound is None:
        assert not model.bottleneck.bounds_log_p
        assert asyncio.run(status_of_likelihood(tmp_path / "store", images)) == 409
        return
    if isinstance(model.bottleneck, DiscreteBottleneck):
        expected = evaluate_run(run, splits, split="test", samples=1, seed=0, limit=None)["elbo_nats"]
        found = np.mean([item["elbo_nats"] for item in asyncio.run(served(tmp_path / "store", images, ""))])
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        return
    of_torch = bounds(model, images, samples=7, seed=5)
    items = asyncio.run(served(tmp_path / "store", images, "?samples=7&seed=5"))
    for bound in ("elbo_nats", "iwae_nats"):
        of_service = [item[bound] for item in items]
        np.testing.assert_allclose(of_service, getattr(of_torch, bound), atol=1e-6 * images[0].size, rtol=1e-6)
