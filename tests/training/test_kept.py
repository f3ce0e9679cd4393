"""Graphs that stay as they were published, so that what a model has written names it for ever."""

from pathlib import Path

import pytest
from torch import nn

from artifact.manifest import WEIGHTS_FILE
from artifact.store import Artifact, Store
from tests.toys import tokens
from tests.toys.publish import publish
from training.graphs.spec import GraphSpec
from training.kept import keep_graphs, latest_of

NAME = "toy-tokens"


@pytest.fixture
def latest(tmp_path: Path) -> Artifact:
    made = tokens.make(4, num_embeddings=7, embedding_dim=2, channels=3, downsampling=4)
    publish(tmp_path / "store", NAME, tokens.toy(made))
    found = latest_of(Store(tmp_path / "store"), NAME)
    assert found is not None
    return found


def written(latest: Artifact, folder: Path) -> tuple[list[GraphSpec], Path]:
    """Write the model anew: the same weights, and files of graphs that differ."""
    specs = [
        GraphSpec(role, nn.Identity(), graph.inputs, graph.outputs) for role, graph in latest.manifest.graphs.items()
    ]
    for spec in specs:
        (folder / spec.file).write_bytes(b"written anew")
    (folder / WEIGHTS_FILE).write_bytes((latest.path / WEIGHTS_FILE).read_bytes())
    return specs, folder / WEIGHTS_FILE


def test_graphs_with_the_same_weights_and_signatures_are_kept(latest: Artifact, tmp_path: Path) -> None:
    specs, weights = written(latest, tmp_path)
    keep_graphs(specs, weights, latest)
    for spec in specs:
        assert (tmp_path / spec.file).read_bytes() == latest.file(spec.role).read_bytes()


def test_graphs_of_another_model_are_not(latest: Artifact, tmp_path: Path) -> None:
    specs, weights = written(latest, tmp_path)
    other = [*specs[:-1], GraphSpec(specs[-1].role, nn.Identity(), specs[-1].inputs[:-1], specs[-1].outputs)]
    keep_graphs(other, weights, latest)
    keep_graphs(specs, weights, latest_of(Store(tmp_path / "store"), "another"))
    weights.write_bytes(b"other weights")
    keep_graphs(specs, weights, latest)
    assert {(tmp_path / spec.file).read_bytes() for spec in specs} == {b"written anew"}
