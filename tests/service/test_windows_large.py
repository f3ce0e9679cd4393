"""Ten minutes of sound and a photograph in pieces against one run, and the memory that they take."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import discrete
from service.conditions import to_conditions
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.settings import Settings
from tests.service.serving import with_engine
from tests.toys import pictures, sounds
from tests.toys.publish import publish
from tests.toys.sounds import DOWNSAMPLING, SAMPLE_RATE_HZ, ToySounds

ROOT = Path(__file__).parents[2]
SOUND, SOUND_WHOLE, PICTURE, PICTURE_WHOLE = "toy-sound", "toy-sound-whole", "toy-picture", "toy-picture-whole"
TEN_MINUTES = 600 * SAMPLE_RATE_HZ
NEAR_TIE = 1e-4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def speech() -> ToySounds:
    return sounds.make(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, speech: ToySounds) -> Path:
    folder = tmp_path_factory.mktemp("store")
    publish(folder, SOUND, sounds.toy(speech, maximum=2**20))
    publish(folder, SOUND_WHOLE, sounds.toy(speech, windows=None, maximum=2**30))
    publish(folder, PICTURE, pictures.toy(1))
    publish(folder, PICTURE_WHOLE, pictures.toy(1, windows=None))
    return folder


def through(root: Path, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Give codes, what they decode to, and the number of runs that the codes took."""
    found: list[Any] = []

    async def body(engine: Engine) -> None:
        model: ServedModel = engine.model(name, "encode")
        codes = await discrete.encode(engine, model, x)
        conditions = to_conditions(model, {}, 1, with_prior=False)
        made = await discrete.decode(engine, model, codes, conditions)
        found.extend((codes["codes"], made, engine.loads[model.reference, "encode"].runs))

    with_engine(Settings(store=root, models=(name,), device="cpu", threads=1, buckets=(1,)), body)
    return found[0], found[1], found[2]


def test_ten_minutes_in_pieces_are_those_of_one_run(root: Path, speech: ToySounds) -> None:
    x = speech.sound(TEN_MINUTES)[None]
    codes, samples, runs = through(root, SOUND, x)
    whole, expected, one = through(root, SOUND_WHOLE, x)
    assert (runs, one) == (600 // 8, 1)
    differing = np.flatnonzero(codes != whole)
    assert len(differing) <= 1e-4 * whole.size
    for place in differing:
        around = slice(max(0, (place - 2) * DOWNSAMPLING), (place + 3) * DOWNSAMPLING)
        distances = np.sort(speech.distances(x[:, around])[0, min(2, place)])
        assert distances[1] - distances[0] < NEAR_TIE * distances[1]
    if not len(differing):
        np.testing.assert_allclose(samples, expected, atol=1e-5)


def test_a_photograph_in_pieces_is_that_of_one_run(root: Path) -> None:
    x = pictures.images(1536, 2048)
    codes, pixels, runs = through(root, PICTURE, x)
    whole, expected, one = through(root, PICTURE_WHOLE, x)
    assert (runs, one) == (3 * 4, 1)
    assert (codes != whole).mean() <= 1e-4
    # Rounding to a pixel may go either way; a seam would be a line of larger differences.
    assert np.abs(pixels.astype(int) - expected)[:, (codes == whole).all()].max(initial=0) <= 1


def test_memory_is_that_of_a_piece(root: Path) -> None:
    """Beside the input and the answer, which are as large as they are, eight times the input takes no more."""
    for name, whole, small, large in (
        (SOUND, SOUND_WHOLE, str(TEN_MINUTES), str(8 * TEN_MINUTES)),
        (PICTURE, PICTURE_WHOLE, "1024x1536", "4096x3072"),
    ):
        once, often = peak(root, name, small), peak(root, name, large)
        assert often < 1.3 * once + 2**24, (name, once, often)
        if name == PICTURE:
            assert peak(root, whole, large) > 2 * often


def peak(root: Path, name: str, size: str) -> int:
    """Give the bytes that a program took at most beside its input and its answer."""
    environment = os.environ | {"LATENTD_MODELS": name, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "tests.service.window_memory", str(root), name, size]
    result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    return int(result.stdout)
