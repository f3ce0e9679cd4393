"""The store and the manifest: published whole, verified, and every fault told with its cure."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifact.errors import (
    ChecksumError,
    MissingFileError,
    SchemaError,
    SignatureError,
    UnknownModelError,
    UnknownVariantError,
)
from artifact.manifest import GOLDEN_FILE, MANIFEST_FILE, Manifest, model_hash, read_manifest
from artifact.store import Store

Edit = Callable[[Path, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def store(store_root: Path, tmp_path: Path) -> Store:
    shutil.copytree(store_root, tmp_path / "store")
    return Store(tmp_path / "store")


def copy_into(source: Path, stage: Path) -> None:
    for path in source.iterdir():
        shutil.copy(path, stage / path.name)


def test_the_latest_version_is_the_default(store: Store) -> None:
    for _ in range(10):
        with store.stage("toy-binary") as stage:
            copy_into(store.root / "toy-binary" / "1", stage)
    assert store.versions("toy-binary") == list(range(1, 12))
    assert store.open("toy-binary").reference == "toy-binary@11"
    assert store.open("toy-binary@3").version == 3
    assert store.names() == ["toy-binary", "toy-colour", "toy-encoder", "toy-tokens", "toy-tokens-prior"]


@pytest.mark.parametrize(
    "reference", ["none", "toy-binary@2", "toy-binary@0", "toy-binary@x", "../store", "", "toy-binary@1@1", "TOY"]
)
def test_what_is_not_there_is_told(store: Store, reference: str) -> None:
    with pytest.raises(UnknownModelError):
        store.open(reference)


def test_an_empty_store_holds_nothing(tmp_path: Path) -> None:
    assert Store(tmp_path / "none").names() == []
    with pytest.raises(UnknownModelError, match="it holds: none"):
        Store(tmp_path / "none").open("anything")


def test_a_missing_file_is_told(store: Store) -> None:
    (store.root / "toy-binary" / "1" / "weights.data").unlink()
    with pytest.raises(MissingFileError, match=r"weights\.data is missing"):
        store.open("toy-binary")


@pytest.mark.parametrize("name", ["weights.data", "encode.onnx", "golden.npz"])
def test_a_flipped_bit_is_told(store: Store, name: str) -> None:
    path = store.root / "toy-binary" / "1" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ChecksumError, match="damaged"):
        store.open("toy-binary")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("junk", "not a manifest"),
        ("[]", "not a manifest"),
        ('{"schema_version": 6}', "update latentd"),
        ('{"schema_version": "1"}', "update latentd"),
        ('{"schema_version": 1}', "does not fit"),
    ],
)
def test_manifests_that_cannot_be_read_are_told(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(SchemaError, match=message):
        read_manifest(tmp_path / MANIFEST_FILE)


def test_a_file_outside_the_artifact_cannot_be_named(store: Store) -> None:
    path = store.root / "toy-binary" / "1" / MANIFEST_FILE
    content = json.loads(path.read_text())
    content["graphs"]["encode"]["file"] = "../encode.onnx"
    path.write_text(json.dumps(content))
    with pytest.raises(SchemaError, match="should match pattern"):
        store.open("toy-binary")


def test_a_model_hash_that_is_not_its_own_is_refused(store: Store) -> None:
    path = store.root / "toy-binary" / "1" / MANIFEST_FILE
    content = json.loads(path.read_text())
    content["model_hash"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(SchemaError, match="model_hash"):
        store.open("toy-binary")


def test_the_model_hash_is_of_what_is_computed(store: Store) -> None:
    manifest = store.open("toy-binary").manifest
    assert model_hash(manifest.graphs, dict(manifest.files) | {"MODEL_CARD.md": "0" * 64}) == manifest.model_hash
    assert model_hash(manifest.graphs, {"weights.data": "0" * 64}) != manifest.model_hash
    assert model_hash({}, dict(manifest.files)) != manifest.model_hash


def test_a_folder_of_another_name_is_refused(store: Store) -> None:
    (store.root / "toy-binary").rename(store.root / "renamed")
    with pytest.raises(UnknownModelError, match="must bear the same name"):
        store.open("renamed")


def test_a_failing_publication_leaves_nothing(store: Store) -> None:
    def publish() -> None:
        with store.stage("toy-binary") as stage:
            (stage / "half").write_text("written")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        publish()
    with pytest.raises(SchemaError), store.stage("toy-binary") as stage:
        (stage / MANIFEST_FILE).write_text("{}")
    assert [path.name for path in (store.root / "toy-binary").iterdir()] == ["1"]


def test_two_publishers_get_two_versions(store: Store) -> None:
    with store.stage("toy-binary") as first, store.stage("toy-binary") as second:
        for stage in (first, second):
            copy_into(store.root / "toy-binary" / "1", stage)
    assert store.versions("toy-binary") == [1, 2, 3]


def test_a_manifest_survives_being_written(store: Store) -> None:
    manifest = store.open("toy-colour").manifest
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def with_variant(content: dict[str, Any]) -> None:
    """Add a variant of `encode`, whose file is a copy of the full one."""
    graph = content["graphs"]["encode"] | {"file": "encode.fp16.onnx"}
    content["variants"] = {"fp16": {"graphs": {"encode": graph}, "parity": content["parity"]}}


def test_a_variant_stands_in_for_the_graphs_that_it_has(store: Store, edit_manifest: Edit) -> None:
    folder = store.root / "toy-binary" / "1"
    plain = store.open("toy-binary")
    shutil.copy(folder / "encode.onnx", folder / "encode.fp16.onnx")
    edit_manifest(folder / MANIFEST_FILE, with_variant)
    artifact = store.open("toy-binary")
    assert artifact.manifest.model_hash == plain.manifest.model_hash
    assert Manifest.model_validate_json(artifact.manifest.model_dump_json()) == artifact.manifest
    assert artifact.manifest.graphs_in(None) == plain.manifest.graphs
    assert artifact.file("encode").name == "encode.onnx"
    assert artifact.file("encode", "fp16").name == "encode.fp16.onnx"
    assert artifact.file("decode", "fp16").name == "decode.onnx"
    with pytest.raises(UnknownVariantError, match="toy-binary has no variant 'fp16', only: none; export it with"):
        plain.file("encode", "fp16")
    (folder / "encode.fp16.onnx").write_bytes(b"changed")
    with pytest.raises(ChecksumError, match=r"encode\.fp16\.onnx"):
        store.open("toy-binary")
    (folder / "encode.fp16.onnx").unlink()
    with pytest.raises(MissingFileError, match=r"encode\.fp16\.onnx is missing"):
        store.open("toy-binary")


def test_a_variant_takes_and_gives_what_the_full_graph_does(store: Store, edit_manifest: Edit) -> None:
    path = store.root / "toy-binary" / "1" / MANIFEST_FILE

    def spoil(content: dict[str, Any]) -> None:
        with_variant(content)
        graph = content["variants"]["fp16"]["graphs"]["encode"]
        content["variants"]["fp16"]["graphs"]["encode"] = graph | {"outputs": graph["outputs"][:1]}

    edit_manifest(path, spoil)
    with pytest.raises(SchemaError, match="graph 'encode' of variant fp16 takes or gives other tensors"):
        store.open("toy-binary")

    def name_unknown(content: dict[str, Any]) -> None:
        with_variant(content)
        content["variants"] = {"fp4": content["variants"]["fp16"]}

    edit_manifest(path, name_unknown)
    with pytest.raises(SchemaError, match="'fp16'"):
        store.open("toy-binary")


@pytest.mark.parametrize("version", [1, 2])
def test_manifests_of_older_schemas_are_read(store: Store, edit_manifest: Edit, version: int) -> None:
    expected = store.open("toy-binary").manifest

    def age(content: dict[str, Any]) -> None:
        content["schema_version"] = version
        del content["variants"], content["files"][GOLDEN_FILE]

    edit_manifest(store.root / "toy-binary" / "1" / MANIFEST_FILE, age)
    manifest = store.open("toy-binary").manifest
    assert (manifest.schema_version, manifest.variants) == (version, {})
    assert manifest.model_hash == expected.model_hash


def test_a_tensor_that_disagrees_is_told(store: Store) -> None:
    graph = store.open("toy-binary").manifest.graphs["encode"]
    graph.check("encode", {"x": "uint8"}, {"mean": "float32", "log_variance": "float32"})
    with pytest.raises(SignatureError, match="export the model again"):
        graph.check("encode", {"x": "float32"}, {"mean": "float32", "log_variance": "float32"})
    with pytest.raises(SignatureError, match="outputs"):
        graph.check("encode", {"x": "uint8"}, {"mean": "float32"})
