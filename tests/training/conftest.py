"""A tiny data set and recipe that fit within seconds, and the whole data sets where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from artifact.store import Artifact, Store
from media.images import write_png
from training.cli import main
from training.run import Run


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of whole data sets; only tests marked `data` ask for it."""
    return Path(os.environ["LATENTD_DATA"])


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 600 black-and-white 8x8 pictures of one horizontal and one vertical bar."""
    random = np.random.default_rng(0)
    images = np.zeros((600, 8, 8), dtype=np.uint8)
    for image, (row, column) in zip(images, random.integers(0, 8, (600, 2)), strict=True):
        image[row, :], image[:, column] = 255, 255
    path = tmp_path_factory.mktemp("bars") / "bars.npy"
    np.save(path, images)
    return path


@pytest.fixture(scope="session")
def recipe_file(bars: Path) -> Path:
    """Write a recipe for the bars."""
    path = bars.with_name("bars-vae.toml")
    path.write_text(f"""
name = "bars-vae"

[data]
source = "npy"
root = "{bars}"
channels = 1

[model]
family = "vae"
latent = 4
network = {{ kind = "conv", encoder_channels = [8], decoder_channels = [8], hidden = 32, dropout = 0.1 }}

[objective]
kl_warmup_steps = 20

[fit]
steps = 120
batch_size = 64
learning_rate = 3e-3
warmup_steps = 10
validate_every = 40
checkpoint_every = 7
threads = 1
""")
    return path


K, SIDE = 16, 8


@pytest.fixture(scope="session")
def bars_by_class(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 200 colour pictures of one bar each, in folders `lying` and `standing`."""
    root = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for index in range(200):
        image = np.full((SIDE, SIDE, 3), 60, dtype=np.uint8)
        name, place = ("lying", "standing")[index % 2], random.integers(0, SIDE)
        bar = image[place] if name == "lying" else image[:, place]
        bar[:] = random.integers(0, 256, 3)
        folder = root / name
        folder.mkdir(exist_ok=True)
        (folder / f"{index}.png").write_bytes(write_png(image))
    return root


@pytest.fixture(scope="session")
def vq_recipe_file(bars_by_class: Path) -> Path:
    """Write a recipe for a model of codes of these, and a prior."""
    path = bars_by_class.with_name("bars-vq.toml")
    path.write_text(f"""
name = "bars-vq"

[data]
source = "folder"
root = "{bars_by_class}"
size = {SIDE}

[model]
family = "vqvae"
network = {{ downsampling = 2, hidden = 12, residual_hidden = 8, residual_blocks = 1 }}
# Quick averages and an eager revival: with them few steps use every code, whatever the seed.
quantizer = {{ num_embeddings = {K}, embedding_dim = 4, commitment_cost = 1.0, decay = 0.9, revive_below = 0.3 }}
likelihood = {{ kind = "gaussian", variance = "shared", scale = 60.0 }}

[fit]
steps = 150
batch_size = 32
learning_rate = 3e-3
warmup_steps = 10
validate_every = 75
threads = 1

[prior]
model = {{ channels = 8, layers = 4, hidden = 16 }}

[prior.fit]
steps = 60
batch_size = 32
learning_rate = 5e-3
warmup_steps = 5
validate_every = 30
checkpoint_every = 7
threads = 1
""")
    return path


@pytest.fixture(scope="session")
def vq_run(vq_recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Fit both."""
    path = tmp_path_factory.mktemp("runs") / "bars-vq"
    assert main(["fit", str(vq_recipe_file), "--output", str(path)]) == 0
    assert main(["fit-prior", str(path)]) == 0
    return Run(path)


@pytest.fixture(scope="session")
def vq_artifact(vq_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Evaluate and publish them, in reduced precision as well."""
    store = tmp_path_factory.mktemp("store")
    assert main(["evaluate", str(vq_run.path)]) == 0
    assert main(["export", str(vq_run.path), "--store", str(store), "--variants", "fp16"]) == 0
    return Store(store).open("bars-vq")
