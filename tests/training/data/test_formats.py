"""Array formats, against files written by others' rules."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from training.data import DataConfig, load
from training.data.draw import draw
from training.data.formats import amat_images, idx_images, idx_labels, npy_images, read_bytes
from training.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 2, (12, 6, 6, 1), dtype=np.uint8) * np.uint8(255)


def amat(images: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savetxt(buffer, images.reshape(len(images), -1) // 255, fmt="%d")
    return buffer.getvalue()


def idx(images: np.ndarray) -> bytes:
    shape = images.shape[:3]
    return bytes([0, 0, 8, 3]) + np.array(shape, dtype=">i4").tobytes() + images.tobytes()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_every_format_gives_the_same_images() -> None:
    for found in (amat_images(amat(IMAGES), "a"), idx_images(idx(IMAGES), "i"), npy_images(npy(IMAGES[..., 0]), "n")):
        assert found.dtype == np.uint8
        assert np.array_equal(found, IMAGES)
    assert amat_images(amat(IMAGES).replace(b"\n", b" \r\n"), "crlf").shape == IMAGES.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (amat(IMAGES).replace(b"1", b"2", 1), "row 1: found something else"),
        (amat(IMAGES)[:-20], "row 12 of 12: found 26 pixels, expected 36 as in the first; is the file complete"),
        (b"0 1 0 1\n0 1 0\n1 0 1 0 1\n", "row 2 of 3: found 3 pixels, expected 4"),
        (b"0 1 0 1\n\n0 1 0 1\n", "row 2 of 3: found 0 pixels"),
        (b"0 1 0 1\n0 1 01\n", "row 2: found something else"),
        (b"0 1 0\n", "row 1: found 3 pixels, expected a square image"),
        (b"\n", "row 1: found 0 pixels"),
        (b"", "is empty"),
    ],
)
def test_amat_that_is_none_is_told(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        amat_images(content, "file.amat")


@pytest.mark.parametrize(
    ("content", "message"),
    [(idx(IMAGES)[:-1], "promises"), (b"\0\0\x0d\x03", "not an IDX file"), (b"", "not an IDX file")],
)
def test_idx_that_is_none_is_told(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        idx_images(content, "file.idx")


LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 255])


def test_labels_are_read() -> None:
    found = idx_labels(LABELS, "l")
    assert found.dtype == np.int64
    assert found.tolist() == [7, 0, 255]


@pytest.mark.parametrize(
    ("content", "message"),
    [(LABELS[:-1], "2 bytes of values.*promises 3"), (idx(IMAGES), "not an IDX file of labels"), (b"", "not an IDX")],
)
def test_labels_that_are_none_are_told(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        idx_labels(content, "labels")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "file"),
        (npy(IMAGES.astype(np.float32)), "expected uint8"),
        (npy(np.array([None], dtype=object)), "expected booleans, integers or floats"),
        (npy(IMAGES.repeat(2, axis=3)), "1 or 3"),
    ],
)
def test_npy_that_is_none_is_told(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        npy_images(content, "file.npy")


def test_gzipped_files_are_read_and_broken_ones_told(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"content"))
    assert read_bytes(tmp_path / "a.gz") == b"content"
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"content" * 100)[:-12])
    for name in ("b.gz", "none"):
        with pytest.raises(DataError, match="cannot read"):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize("source", ["amat", "idx", "npy"])
def test_a_file_of_ones_own_is_divided_the_same_way_each_time(tmp_path: Path, source: str) -> None:
    content = {"amat": amat, "idx": idx, "npy": npy}[source](IMAGES)
    (tmp_path / "images").write_bytes(gzip.compress(content) if source == "idx" else content)
    config = DataConfig(source=source, root=tmp_path / "images", channels=1, test_fraction=0.25)
    one, two = load(config), load(config)
    assert len(one.train) + len(one.validation) + len(one.test) == 12
    assert len(one.test) == 3
    assert np.array_equal(one.train.fixed(), two.train.fixed())
    other = load(config.model_copy(update={"split_seed": 1}))
    assert not np.array_equal(one.train.fixed(), other.train.fixed())
    assert one.train.labels is None
    assert one.classes == ()
    with pytest.raises(DataError, match=r"1 channels, the recipe says data\.channels = 3; set it to 1"):
        load(config.model_copy(update={"channels": 3}))


def test_only_what_the_fit_learns_from_is_flipped(tmp_path: Path) -> None:
    (tmp_path / "images.npy").write_bytes(npy(IMAGES))
    found = load(DataConfig(source="npy", root=tmp_path / "images.npy", channels=1, flip=True))
    assert (found.train.flip, found.validation.flip, found.test.flip) == (True, False, False)


def test_parts_are_disjoint_and_whole() -> None:
    test, validation, train = draw(100, (0.2, 0.1), 0)
    assert (len(train), len(validation), len(test)) == (70, 10, 20)
    assert sorted(train + validation + test) == list(range(100))
    for count, fractions, message in ((2, (0.1, 0.1), "2 examples.*3 splits"), (1, (0.1,), "1 examples.*2 splits")):
        with pytest.raises(DataError, match=message):
            draw(count, fractions, 0)


def test_a_draw_stays_what_it_was() -> None:
    """Published figures are of the test split that was once drawn."""
    order = np.random.Generator(np.random.Philox(key=[7, 0])).permutation(50)
    test, validation, train = draw(50, (0.1, 0.2), 7)
    assert (test, validation, train) == (sorted(order[:5]), sorted(order[5:15]), sorted(order[15:]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "folder", "root": "."}, "needs size.*or crop"),
        ({"source": "zip", "root": ".", "size": 32, "crop": 32}, "takes size or crop, not both"),
        ({"source": "zip", "root": ".", "crop": 7}, "greater than or equal to 8"),
        ({"source": "zip", "root": ".", "crop": 32, "test_every": 1}, "greater than or equal to 2"),
        ({"source": "npy", "root": ".", "crop": 8}, "takes no crop"),
        ({"source": "mnist", "test_every": 10}, "takes no test_every"),
        ({"source": "npy"}, "needs root"),
        ({"source": "npy", "root": ".", "size": 8}, "takes no size"),
        ({"source": "mnist", "size": 32}, "takes no size"),
        ({"source": "imagenet"}, "source"),
    ],
)
def test_a_table_that_is_not_complete_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate(values)
