"""Golden outputs: what they hold agrees with plain NumPy, and whatever computes something else is told."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from artifact import golden
from artifact.errors import GoldenError
from artifact.examples import example_inputs
from artifact.golden import Arrays, Golden, Run
from artifact.manifest import GOLDEN_FILE, MANIFEST_FILE
from artifact.store import Artifact, Store, file_sha256
from tests.toys.tokens import ToyTokens
from tests.toys.vectors import ToyReference

Edit = Callable[[Path, Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def store(store_root: Path, tmp_path: Path) -> Store:
    shutil.copytree(store_root, tmp_path / "store")
    return Store(tmp_path / "store")


def runtime(folder: Path) -> Run:
    """Run the graphs of a folder by ONNX Runtime."""

    def run(role: str, feeds: Arrays) -> Arrays:
        session = onnxruntime.InferenceSession(folder / f"{role}.onnx", providers=["CPUExecutionProvider"])
        names = [tensor.name for tensor in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return run


def recorded(found: Golden) -> Run:
    """Give the golden outputs themselves."""
    return lambda role, feeds: dict(found.examples[role].outputs)


def changed(found: Golden, role: str, **outputs: np.ndarray) -> Run:
    """Give the golden outputs, some of one graph changed."""
    right = recorded(found)
    return lambda asked, feeds: right(asked, feeds) | (outputs if asked == role else {})


@pytest.mark.parametrize("name", ["toy-binary", "toy-colour"])
def test_numpy_gives_the_golden_outputs_of_vectors(
    store: Store, toy_references: dict[str, ToyReference], name: str
) -> None:
    model = toy_references[name]

    def run(role: str, feeds: Arrays) -> Arrays:
        if role == "encode":
            return dict(zip(("mean", "log_variance"), model.encode(feeds["x"]), strict=True))
        if role == "decode":
            logits = {"logits": model.output(feeds["z"]).reshape(1, *model.shape)} if model.binary else {}
            return {"mean": model.decode(feeds["z"])} | logits
        terms = model.log_weight(feeds["x"], feeds["mean"], feeds["log_variance"], feeds["noise"])
        return dict(zip(("log_p_x_given_z", "log_p_z", "log_q"), terms, strict=True))

    report = golden.read(store.open(name)).check(run)
    assert report.skipped is None
    assert set(report.errors) == {"encode", "decode", "log_weight"}
    assert 0.0 < max(report.errors.values()) <= 1e-4
    assert "golden outputs of 3 graphs agree" in str(report)


def test_numpy_gives_the_golden_outputs_of_codes(store: Store, toy_tokens: dict[str, ToyTokens]) -> None:
    model = toy_tokens["toy-tokens-prior"]
    found = golden.read(store.open("toy-tokens-prior"))
    assert set(found.examples) == {"encode", "embed", "decode", "log_likelihood", "prior", "prior_row", "prior_pixel"}
    inputs = {role: example.inputs for role, example in found.examples.items()}
    expected = {
        ("encode", "codes"): model.encode(inputs["encode"]["x"]),
        ("embed", "z_q"): model.weights["E"][inputs["embed"]["codes"]],
        ("decode", "mean"): model.decode(inputs["decode"]["codes"]),
        ("log_likelihood", "log_p_x_given_z"): model.log_likelihood(
            inputs["log_likelihood"]["x"], inputs["log_likelihood"]["codes"]
        ),
        ("prior", "logits"): model.logits(inputs["prior"]["codes"], inputs["prior"]["condition"]),
    }
    for (role, name), value in expected.items():
        np.testing.assert_allclose(found.examples[role].outputs[name], value, rtol=1e-4, atol=1e-3)


def test_inputs_are_of_fixed_content_within_their_range(store: Store) -> None:
    manifest = store.open("toy-tokens").manifest
    encode = manifest.graphs["encode"]
    picture = example_inputs(encode, manifest.geometry.multiple_of)["x"]
    assert picture.shape == (1, 16, 24, 3)
    assert picture.std() > 40
    assert np.array_equal(example_inputs(encode, 4)["x"], picture)
    assert not np.array_equal(example_inputs(encode, 4, seed=1)["x"], picture)

    binary = store.open("toy-binary").manifest.graphs["log_weight"]
    inputs = example_inputs(binary, 1)
    assert set(np.unique(inputs["x"])) == {0, 255}
    assert inputs["noise"].shape == (1, 3, 4)
    assert 0.2 < np.concatenate([inputs[name].ravel() for name in ("mean", "noise")]).std() < 2.0

    row = example_inputs(store.open("toy-tokens-prior").manifest.graphs["prior_row"], 2)
    for tensor in store.open("toy-tokens-prior").manifest.graphs["prior_row"].inputs:
        value = row[tensor.name]
        assert value.dtype == tensor.dtype
        if tensor.minimum is not None and tensor.maximum is not None:
            assert tensor.minimum <= value.min() <= value.max() <= tensor.maximum
    assert not row["state_above"].any()
    assert len(np.unique(row["codes"])) > 1


def test_a_changed_weight_is_told(store: Store) -> None:
    artifact = store.open("toy-colour")
    found = golden.read(artifact)
    assert max(found.check(runtime(artifact.path)).errors.values()) == 0.0
    weights = np.fromfile(artifact.path / "weights.data", dtype=np.float32)
    weights[0] += 1.0  # of the encoder
    weights.tofile(artifact.path / "weights.data")
    with pytest.raises(GoldenError, match=r"toy-colour@1: graph 'encode', output 'mean': off by .* at most 0.0001"):
        found.check(runtime(artifact.path))


def test_what_another_device_computes_is_judged_by_the_precision(store: Store) -> None:
    found = golden.read(store.open("toy-colour"))
    mean = found.examples["decode"].outputs["mean"]
    largest = np.abs(mean).max()
    for error, full, reduced in ((5e-5, True, True), (1e-3, False, True), (2e-2, False, False), (np.nan, False, False)):
        spoiled = mean.copy()
        spoiled[0, 0, 0, 0] += error * largest
        run = changed(found, "decode", mean=spoiled)
        for precision, passes in ((None, full), ("fp16", reduced)):
            if passes:
                assert found.check(run, precision=precision).errors["decode"] == pytest.approx(error, rel=1e-2)
            else:
                with pytest.raises(GoldenError, match="graph 'decode', output 'mean': off by"):
                    found.check(run, precision=precision)


def test_integers_are_equal_but_for_a_share_in_reduced_precision() -> None:
    codes = np.arange(200, dtype=np.int32)
    found = Golden("model@1", {"encode": golden.Example({}, {"codes": codes})})
    for differing, full, reduced in ((0, True, True), (2, False, True), (3, False, False)):
        run = changed(found, "encode", codes=np.where(np.arange(200) < differing, 511, codes))
        for precision, passes in ((None, full), ("fp16", reduced)):
            if passes:
                assert found.check(run, precision=precision).errors == {"encode": differing / 200}
            else:
                with pytest.raises(GoldenError, match="as a share of values that differ"):
                    found.check(run, precision=precision)


def test_missing_and_misshapen_outputs_are_told(store: Store) -> None:
    found = golden.read(store.open("toy-binary"))
    right = recorded(found)

    def without_logits(role: str, feeds: Arrays) -> Arrays:
        return {name: value for name, value in right(role, feeds).items() if name != "logits"}

    with pytest.raises(GoldenError, match="'logits': it is missing, the run gave mean"):
        found.check(without_logits)
    assert found.check(without_logits, read={"decode": ("mean",)}).errors["decode"] == 0.0
    with pytest.raises(GoldenError, match=r"its shape is \[1, 3\], expected \[1, 4\]"):
        found.check(changed(found, "encode", mean=np.zeros((1, 3), np.float32)))


def test_an_artifact_without_golden_outputs_is_not_checked(store: Store, edit_manifest: Edit) -> None:
    def age(content: dict[str, Any]) -> None:
        content["schema_version"] = 2
        del content["variants"], content["files"][GOLDEN_FILE]

    edit_manifest(store.root / "toy-binary" / "1" / MANIFEST_FILE, age)
    artifact = store.open("toy-binary")
    assert artifact.manifest.variants == {}
    report = golden.read(artifact).check(runtime(artifact.path))
    assert report.errors == {}
    assert "not checked: toy-binary@1 was exported without golden.npz" in str(report)


def rewritten(artifact: Artifact, content: bytes) -> Artifact:
    """Put another file of golden outputs into an artifact, with its checksum."""
    (artifact.path / GOLDEN_FILE).write_bytes(content)
    manifest = json.loads((artifact.path / MANIFEST_FILE).read_text())
    manifest["files"][GOLDEN_FILE] = file_sha256(artifact.path / GOLDEN_FILE)
    (artifact.path / MANIFEST_FILE).write_text(json.dumps(manifest))
    return Store(artifact.path.parents[1]).open(artifact.reference)


def test_golden_files_that_cannot_be_used_are_told(store: Store) -> None:
    artifact = store.open("toy-binary")
    with np.load(artifact.path / GOLDEN_FILE, allow_pickle=False) as file:
        arrays = dict(file)
    lacking, objects, single = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(single, np.zeros(3))
    np.savez(lacking, **{name: value for name, value in arrays.items() if name != "encode/outputs/mean"})
    np.savez(objects, **arrays | {"encode/outputs/mean": np.array([{}], dtype=object)})
    for content, told in (
        (lacking.getvalue(), "'encode/outputs/mean' is missing"),
        (objects.getvalue(), "not an npz file"),
        (single.getvalue(), "holds one array"),
        (b"junk", "not an npz file"),
        (b"PK\x03\x04junk", "not an npz file"),
        (b"", "not an npz file"),
    ):
        with pytest.raises(GoldenError, match=told):
            golden.read(rewritten(artifact, content))
