"""Splits and classes by names alone."""

from pathlib import Path

import pytest

from training.data import DataConfig
from training.data.division import divide
from training.errors import DataError

ROOT = Path("pictures")


def config(**table: int) -> DataConfig:
    return DataConfig(source="folder", root=ROOT, size=8, **table)


def test_every_nth_name_is_the_test_split() -> None:
    names = [f"{index:03d}.png" for index in range(41)]
    found = divide(names, config(test_every=10), ROOT)
    assert found.test == ["000.png", "010.png", "020.png", "030.png", "040.png"]
    assert len(found.validation) == 4
    assert found.train == sorted(found.train)
    assert sorted(found.train + found.validation + found.test) == names
    other = divide(names, config(test_every=10, split_seed=1), ROOT)
    assert other.test == found.test
    assert other.validation != found.validation


def test_split_folders_are_the_splits() -> None:
    names = ["Test/a.png", "train/a.png", "train/b.png", "val/a.png"]
    found = divide(names, config(), ROOT)
    assert (found.train, found.validation, found.test) == (names[1:3], names[3:], names[:1])
    assert found.class_of == {}


def test_a_validation_split_is_drawn_where_there_is_none() -> None:
    names = ["test/a.png", *(f"train/{index:02d}.png" for index in range(20))]
    found = divide(names, config(), ROOT)
    assert (len(found.train), len(found.validation)) == (18, 2)
    assert sorted(found.train + found.validation) == names[1:]
    assert found.test == ["test/a.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cover.png", "test/a.png", "train/a.png"], r"cover\.png lies outside them; move it"),
        (["train/a.png", "val/a.png"], "splits of its own but none for test"),
        (["val/a.png"], "splits of its own but none for train and test"),
        (["test/a.png", "train/a.png"], "found 1 examples.*2 splits"),
        (["a.png", "b.png"], "found 2 examples.*3 splits"),
    ],
)
def test_what_leaves_the_splits_open_is_told(names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        divide(names, config(), ROOT)


def test_counting_would_mix_splits() -> None:
    with pytest.raises(DataError, match=r"data\.test_every would mix; leave test_every out"):
        divide(["test/a.png", "train/a.png"], config(test_every=2), ROOT)


def test_a_class_may_bear_the_name_of_a_split() -> None:
    names = [f"{kind}/{index}.png" for kind in ("car", "train") for index in range(10)]
    found = divide(names, config(), ROOT)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [16, 2, 2]
    assert found.classes == ("car", "train")
    assert found.class_of["train/3.png"] == "train"


@pytest.mark.parametrize("stray", ["z.png", "dog/puppy/z.png"])
def test_one_picture_outside_class_folders_leaves_all_without_a_class(stray: str) -> None:
    names = sorted([stray, *(f"cat/{index}.png" for index in range(9))])
    assert divide(names, config(), ROOT).class_of == {}
