"""A tiny data set and recipe that fit within seconds, and the whole data sets where they are."""

import os
from pathlib import Path

import numpy as np
import pytest


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
