"""Folders and archives of pictures."""

import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import DataConfig, load, pictures
from training.data.pictures import square
from training.data.public import PUBLIC
from training.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make 20 pictures of one colour each, of differing sizes and types, with rubbish beside them."""
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    for index in range(20):
        picture = Image.new("RGB", (10 + index, 24), (10 * index, 0, 255 - 10 * index))
        kind = ("png", "jpeg", "webp")[index % 3]
        picture.save(root / ("deep" if index % 2 else ".") / f"{index:02d}.{kind}", lossless=True)
    (root / "notes.txt").write_text("not a picture")
    (root / ".hidden.png").write_bytes(b"junk")
    return root


def archive_of(folder: Path, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(folder.rglob("*")):
            file.write(member, member.relative_to(folder))
        file.writestr("__MACOSX/x.png", b"junk")
    return path


def test_a_folder_and_its_archive_give_the_same_squares(folder: Path, tmp_path: Path) -> None:
    path = archive_of(folder, tmp_path / "pictures.zip")
    one = load(DataConfig(source="folder", root=folder, size=8))
    two = load(DataConfig(source="zip", root=path, size=8))
    assert one.train.fixed().shape == (16, 8, 8, 3)
    assert one.validation.fixed().shape == one.test.fixed().shape == (2, 8, 8, 3)
    for name in ("train", "validation", "test"):
        assert np.array_equal(getattr(one, name).fixed(), getattr(two, name).fixed())
    everything = np.concatenate([one.train.fixed(), one.validation.fixed(), one.test.fixed()])
    reds = sorted(round(image[..., 0].mean() / 10) for image in everything)
    assert reds == list(range(20))
    assert load(DataConfig(source="folder", root=folder, size=8, channels=1)).train.shape == (8, 8, 1)


def test_photographs_keep_their_size(folder: Path) -> None:
    found = load(DataConfig(source="folder", root=folder, crop=10, test_every=4))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[0-9]*"))
    held_out = [np.asarray(Image.open(folder / name)) for name in names[::4]]
    assert [len(part) for part in (found.train, found.validation, found.test)] == [13, 2, 5]
    assert found.train.shape == (10, 10, 3)
    for index, picture in enumerate(held_out):
        assert np.array_equal(found.test[index], picture)
    assert len({found.train[index].shape for index in range(13)}) == 13
    assert load(DataConfig(source="folder", root=folder, crop=10, channels=1)).train.shape == (10, 10, 1)


def save_greys(folder: Path, levels: list[int]) -> None:
    """Save small pictures of one grey each, named by it."""
    folder.mkdir(parents=True, exist_ok=True)
    for level in levels:
        Image.new("L", (9, 9), level).save(folder / f"{level}.png")


def test_labels_follow_the_pictures_into_the_splits(tmp_path: Path) -> None:
    """Each class has its own decade of greys, so that a picture tells its label."""
    for decade, kind in enumerate(("ant", "bee", "cat")):
        save_greys(tmp_path / kind, [10 * decade + unit for unit in range(10)])
    for table in ({}, {"test_every": 3}):
        found = load(DataConfig(source="folder", root=tmp_path, size=9, channels=1, **table))
        assert found.classes == ("ant", "bee", "cat")
        for part in (found.train, found.validation, found.test):
            assert part.labels.dtype == np.int64
            assert part.labels.tolist() == (part.fixed()[:, 0, 0, 0] // 10).tolist()
    (tmp_path / "cat" / "20.png").rename(tmp_path / "stray.png")
    stray = load(DataConfig(source="folder", root=tmp_path, size=9, channels=1))
    assert (stray.train.labels, stray.classes) == (None, ())


def test_splits_share_one_list_of_classes(tmp_path: Path) -> None:
    save_greys(tmp_path / "train" / "bee", [1, 2])
    save_greys(tmp_path / "train" / "cat", [3])
    save_greys(tmp_path / "val" / "cat", [4])
    save_greys(tmp_path / "test" / "ant", [5])
    found = load(DataConfig(source="folder", root=tmp_path, crop=9, channels=1))
    assert found.classes == ("ant", "bee", "cat")
    labels = [part.labels.tolist() for part in (found.train, found.validation, found.test)]
    assert labels == [[1, 1, 2], [2], [0]]


def test_archives_are_the_splits_that_they_name(tmp_path: Path) -> None:
    for split, count in (("train", 20), ("test", 3)):
        save_greys(tmp_path / split / "cat", list(range(count)))
        archive_of(tmp_path / split, tmp_path / "zips" / f"greys-{split}.zip")
    found = load(DataConfig(source="zip", root=tmp_path / "zips", size=9, channels=1))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [18, 2, 3]
    assert sorted([*found.train.fixed()[:, 0, 0, 0], *found.validation.fixed()[:, 0, 0, 0]]) == list(range(20))
    assert (found.name, found.classes) == ("zips", ("cat",))
    archive_of(tmp_path / "test", tmp_path / "zips" / "greys_Valid.ZIP")
    again = load(DataConfig(source="zip", root=tmp_path / "zips", size=9, channels=1))
    assert [len(part) for part in (again.train, again.validation, again.test)] == [20, 3, 3]


def test_no_more_files_than_threads_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, most, lock = 0, 0, threading.Lock()
    read_bytes, read_image = Path.read_bytes, pictures.read_image

    def counted_read(path: Path) -> bytes:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return read_bytes(path)

    def counted_decode(content: bytes, *, channels: int, max_pixels: int) -> np.ndarray:
        nonlocal held
        image = read_image(content, channels=channels, max_pixels=max_pixels)
        with lock:
            held -= 1
        return image

    monkeypatch.setattr(Path, "read_bytes", counted_read)
    monkeypatch.setattr(pictures, "read_image", counted_decode)
    monkeypatch.setattr(pictures, "ThreadPoolExecutor", lambda: ThreadPoolExecutor(2))
    load(DataConfig(source="folder", root=folder, size=8))
    assert held == 0
    assert 1 <= most <= 2


def with_flag(content: bytes) -> bytes:
    """Mark every member as encrypted, in its own header and in the directory."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = changed.find(signature)
        while at >= 0:
            changed[at + offset] |= 1
            at = changed.find(signature, at + 1)
    return bytes(changed)


def with_unknown_method(content: bytes) -> bytes:
    """Give the first member a compression that nobody knows."""
    changed = bytearray(content)
    changed[changed.find(b"PK\x01\x02") + 10] = 99
    return bytes(changed)


def with_damage(content: bytes) -> bytes:
    """Overwrite the first member's compressed bytes."""
    start = 30 + len("00.png")
    return content[:start] + b"\xff" * 40 + content[start + 40 :]


@pytest.mark.parametrize(
    ("change", "method", "message"),
    [
        (with_flag, zipfile.ZIP_STORED, "encrypted"),
        (with_unknown_method, zipfile.ZIP_STORED, "not supported"),
        (with_damage, zipfile.ZIP_STORED, "Bad CRC-32"),
        (with_damage, zipfile.ZIP_DEFLATED, "decompressing"),
    ],
)
def test_a_member_that_cannot_be_unpacked_is_told_with_its_name(
    tmp_path: Path, folder: Path, change: Callable[[bytes], bytes], method: int, message: str
) -> None:
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        for index in range(4):
            file.write(folder / "00.png", f"{index:02d}.png")
    path.write_bytes(change(path.read_bytes()))
    # Where all four are encrypted, the draw of the splits decides which is met first.
    with pytest.raises(DataError, match=rf"0\d\.png: .*{message}.*mend or remove it"):
        load(DataConfig(source="zip", root=path, size=8))


def test_a_square_is_cut_from_the_centre() -> None:
    image = np.zeros((10, 30, 1), dtype=np.uint8)
    image[:, 10:20] = 200
    assert (square(image, 5) == 200).all()
    gradient = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    assert np.array_equal(square(gradient, 8), gradient)


def test_what_cannot_be_read_is_told_with_its_name(folder: Path, tmp_path: Path) -> None:
    (folder / "00.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"00\.png.*mend or remove it"):
        load(DataConfig(source="folder", root=folder, size=8))
    with pytest.raises(DataError, match="is not a folder"):
        load(DataConfig(source="folder", root=tmp_path / "none", size=8))
    with pytest.raises(DataError, match="as a zip archive"):
        load(DataConfig(source="zip", root=folder / "notes.txt", size=8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        load(DataConfig(source="folder", root=tmp_path / "empty", size=8))


@pytest.mark.slow
@pytest.mark.data
def test_the_archives_of_small_photographs_are_read(data_root: Path) -> None:
    found = load(DataConfig(source="zip", root=data_root / "cifar10-jpg", size=32))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [45_000, 5_000, 10_000]
    assert found.train.shape == (32, 32, 3)
    assert found.classes == PUBLIC["cifar10"].classes
    assert np.bincount(found.test.labels).tolist() == [1000] * 10
    assert (np.bincount(found.train.labels) + np.bincount(found.validation.labels)).tolist() == [5000] * 10


@pytest.mark.data
def test_photographs_are_read(data_root: Path) -> None:
    path = data_root / "photos" / "photos-320.zip"
    found = load(DataConfig(source="zip", root=path, crop=96, test_every=10))
    assert [len(part) for part in (found.train, found.validation, found.test)] == [729, 81, 90]
    assert found.validation.fixed().shape == (81, 96, 96, 3)
    with zipfile.ZipFile(path) as file, file.open(sorted(file.namelist())[10]) as member:
        assert np.array_equal(found.test[1], np.asarray(Image.open(member).convert("RGB")))
