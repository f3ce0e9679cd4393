"""Data sets of the Hugging Face library: local copies on disk, since no test may need the network."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import DataConfig, load
from training.data import hub as hub_module
from training.errors import DataError

datasets = pytest.importorskip("datasets")
NAMES = ["cat/dog", "owl"]


def _png(value):
    file = io.BytesIO()
    Image.fromarray(np.full((12, 10, 3), value, dtype=np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def _write(folder, split, values):
    features = datasets.Features(
        {"photo": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES), "note": datasets.Value("string")}
    )
    rows = {
        "photo": [_png(value) for value in values],
        "kind": [value % 2 for value in values],
        "note": [f"n{value}" for value in values],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("birds") / "birds"
    folder.mkdir()
    _write(folder, "train", range(20))
    _write(folder, "test", range(100, 106))
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "_CACHE", tmp_path / "cache")


def _config(copy, **other):
    settings = {"column": "photo", "label_column": "kind", "size": 8} | other
    return DataConfig(source="hub", dataset=str(copy), **settings)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_splits_columns_and_classes_of_a_local_copy(copy: Path) -> None:
    splits = load(_config(copy))

    assert splits.classes == ("cat-dog", "owl")
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 6)
    for examples in (splits.train, splits.validation, splits.test):
        values = examples.fixed()[:, 0, 0, 0]
        np.testing.assert_array_equal(examples.labels, values % 2)
    assert sorted(splits.test.fixed()[:, 0, 0, 0]) == list(range(100, 106))


def test_one_split_is_divided(copy: Path) -> None:
    splits = load(_config(copy, split="train", label_column=None))

    assert splits.classes == ()
    found = np.concatenate([part.fixed()[:, 0, 0, 0] for part in (splits.train, splits.validation, splits.test)])
    assert sorted(found) == list(range(20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": "picture"}, "no column 'picture', only photo, kind, note"),
        ({"column": "note"}, "holds Value, expected images or sounds"),
        ({"split": "extra"}, "no split 'extra', only"),
        ({"label_column": "species"}, "no column 'species'"),
    ],
)
def test_what_is_not_there_is_named(copy: Path, change: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(_config(copy, **change))


def test_without_the_network_a_name_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__):
        raise ConnectionError("Couldn't reach 'owner/birds' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=r"Couldn't reach .* give the path of a local copy as data\.dataset"):
        load(_config("owner/birds"))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot get the data set"):
        load(_config(tmp_path / "nowhere"))


def test_the_data_set_is_named_with_this_source_alone() -> None:
    with pytest.raises(ValueError, match="needs dataset"):
        DataConfig(source="hub", size=8)
    with pytest.raises(ValueError, match="no other source takes it"):
        DataConfig(source="folder", root=Path(), size=8, dataset="owner/birds")
