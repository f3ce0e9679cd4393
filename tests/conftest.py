"""A small store of hand-made models, for every test that needs one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.toys import tokens, vectors
from tests.toys.publish import TOYS, mend_hashes, publish
from tests.toys.tokens import ToyTokens
from tests.toys.vectors import ToyReference

ALL = ("encode", "decode", "reconstruct", "sample", "likelihood")


@pytest.fixture(scope="session")
def toy_references() -> dict[str, ToyReference]:
    """The mathematics of every model of `store_root` that has real-valued latents, by name."""
    return {
        "toy-binary": vectors.make(1, channels=1, dimensions=4, binary=True),
        "toy-colour": vectors.make(2, channels=3, dimensions=3, binary=False),
        "toy-encoder": vectors.make(3, channels=1, dimensions=2, binary=True),
    }


@pytest.fixture(scope="session")
def toy_tokens() -> dict[str, ToyTokens]:
    """The mathematics of every model of `store_root` that has integer codes, by name."""
    patches = tokens.make(5, num_embeddings=6, embedding_dim=3, channels=1, downsampling=2, side=8)
    return {
        "toy-tokens": tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4),
        "toy-tokens-prior": tokens.with_prior(patches, 6, tokens.CLASSES),
    }


@pytest.fixture(scope="session")
def store_root(
    tmp_path_factory: pytest.TempPathFactory,
    toy_references: dict[str, ToyReference],
    toy_tokens: dict[str, ToyTokens],
) -> Path:
    """A store that holds one version of each toy; copy it to change it."""
    root = tmp_path_factory.mktemp("store")
    for name, reference in toy_references.items():
        publish(root, name, vectors.toy(reference, ("encode", "decode") if name == "toy-encoder" else ALL))
    for name, model in toy_tokens.items():
        publish(root, name, tokens.toy(model))
    return root


@pytest.fixture
def settings(store_root: Path) -> Settings:
    """Settings for the toy store on one CPU thread."""
    return Settings(store=store_root, models=TOYS, device="cpu", threads=1)


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[dict[str, Any]], None]], None]:
    """Give a function that changes the JSON of a manifest in place and mends its hashes."""

    def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
        content = json.loads(path.read_text())
        change(content)
        mend_hashes(path, content)

    return edit
