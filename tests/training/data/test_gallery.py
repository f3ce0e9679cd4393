"""Folders of archives, and what leaves their splits open."""

import zipfile
from pathlib import Path

import pytest

from training.data.gallery import open_gallery
from training.errors import DataError


def archive(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)


def test_members_lie_below_the_split_of_their_archive(tmp_path: Path) -> None:
    archive(tmp_path / "set-train2017.zip", {"cat/b.png": b"1", "cat/a.JPG": b"2", "cat/": b"", "notes.txt": b""})
    archive(tmp_path / "set.val.zip", {"cat/b.png": b"3", "__MACOSX/cat/b.png": b""})
    (tmp_path / "notes-test.txt").write_text("no archive")
    (tmp_path / "._set-train2017.zip").write_bytes(b"no archive either")
    with open_gallery("zip", tmp_path) as gallery:
        assert gallery.names == ["train/cat/a.JPG", "train/cat/b.png", "validation/cat/b.png"]
        assert [gallery.read(name) for name in gallery.names] == [b"2", b"1", b"3"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["set-train.zip", "train.zip"], r"set-train\.zip and train\.zip are of the same split; remove one"),
        (["a-val.zip", "b-valid.zip"], "are of the same split"),
        (["latest.zip", "train.zip"], r"latest\.zip names no split, expected one of train, val"),
        (["train-test.zip"], r"train-test\.zip names test and train, expected one"),
        ([], "holds no zip archives"),
        (["train.zip"], "holds no pictures"),
    ],
)
def test_archives_of_unclear_split_are_told(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        archive(tmp_path / name, {"notes.txt": b""})
    with pytest.raises(DataError, match=message), open_gallery("zip", tmp_path):
        pass


def test_a_damaged_archive_among_others_is_told_with_its_name(tmp_path: Path) -> None:
    archive(tmp_path / "test.zip", {"a.png": b""})
    (tmp_path / "train.zip").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"cannot read .*train\.zip as a zip archive"), open_gallery("zip", tmp_path):
        pass
