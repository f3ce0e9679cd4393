"""Graphs that stay as they were published: a model's hash is of its files, and what it has written names that hash."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from artifact.store import Artifact, Store, file_sha256
from training.graphs.spec import GraphSpec


def latest_of(store: Store, name: str) -> Artifact | None:
    """Open the latest version of a model; None where there is none."""
    return store.open(name) if store.versions(name) else None


def keep_graphs(specs: Sequence[GraphSpec], weights: Path, latest: Artifact | None) -> None:
    """Take the graphs of the latest version in place of those just written, where it has the same weights.

    Another version of the exporter, or a line of a likelihood written anew, makes other files of the same model. What
    is kept is measured as what was written would have been.

    Args:
        specs: the graphs.
        weights: their file, as it was just written; the graphs lie beside it.
        latest: the latest version of the model, where there is one.
    """
    if latest is None or latest.manifest.files.get(weights.name) != file_sha256(weights):
        return
    published = latest.manifest.graphs
    known = [published.get(spec.role) for spec in specs]
    if any(
        graph is None or (graph.inputs, graph.outputs, graph.file) != (spec.inputs, spec.outputs, spec.file)
        for spec, graph in zip(specs, known, strict=True)
    ):
        return
    for spec in specs:
        shutil.copyfile(latest.file(spec.role), weights.with_name(spec.file))
