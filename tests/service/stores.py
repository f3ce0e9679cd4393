"""A store whose models come, change and go, and an engine that serves it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from service.engine.engine import Engine
from service.settings import Settings
from tests.service.serving import with_engine
from tests.toys import vectors
from tests.toys.publish import publish
from tests.toys.vectors import ToyReference

NAME, OTHER = "toy-a", "toy-b"
EVERYTHING = ("encode", "decode", "reconstruct", "sample", "likelihood")


def reference(seed: int) -> ToyReference:
    return vectors.make(seed, channels=1, dimensions=2, binary=False)


def filled(folder: Path) -> Path:
    """Make a store with two models of one version each, of seeds 1 and 2."""
    root = folder / "store"
    add(root, NAME, 1)
    add(root, OTHER, 2)
    return root


def add(root: Path, name: str, seed: int) -> None:
    publish(root, name, vectors.toy(reference(seed), EVERYTHING))


def serve(root: Path, body: Callable[[Engine], Awaitable[Any]], *models: str, **options: Any) -> Any:
    settings = Settings(store=root, models=models, device="cpu", threads=1, buckets=(1, 4), **options)
    return with_engine(settings, body)


async def is_answering(engine: Engine, name: str, seed: int) -> None:
    """Hold what a model gives against the mathematics of the seed that it was made of."""
    images = reference(seed).images(3)
    answer = await engine.run(engine.named(name)[-1], "encode", {"x": images})
    assert np.allclose(answer["mean"], reference(seed).encode(images)[0], atol=1e-4)


def served(engine: Engine) -> list[str]:
    return [model.reference for model in engine.models()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - as a prober asks
            await asyncio.sleep(0.01)


def move(path: Path, target: Path) -> None:
    path.rename(target)


def damage(root: Path, name: str, version: int) -> None:
    """Change a byte of an artifact's weights."""
    path = root / name / str(version) / "weights.data"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
