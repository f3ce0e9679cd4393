"""Public sets: local files, downloads from a loopback server, checksums, and what is told when they fail."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from training.data import public
from training.data.public import PUBLIC, PublicSet, Remote
from training.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 2, (9, 4, 4, 1), dtype=np.uint8) * np.uint8(255)
TEXT = "\n".join(" ".join(map(str, row)) for row in IMAGES.reshape(9, -1) // 255).encode()


def amat_set(base: str, *, good: bool = True) -> PublicSet:
    checksum = f"sha256:{hashlib.sha256(TEXT).hexdigest() if good else '0' * 64}"
    files = tuple(Remote(f"{base}/{name}.amat", checksum) for name in ("train", "valid", "test"))
    return PublicSet("toy", files, public._read_amat, "CC0-1.0")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve three files on the loopback interface."""
    root = tmp_path / "served"
    root.mkdir()
    for name in ("train", "valid", "test"):
        (root / f"{name}.amat").write_bytes(TEXT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(root))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()


@pytest.mark.parametrize("packed", [False, True])
def test_local_files_are_found_plain_or_gzipped(tmp_path: Path, packed: bool) -> None:
    for name in ("train", "valid", "test"):
        path = tmp_path / f"{name}.amat{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(TEXT) if packed else TEXT)
    found = amat_set("http://127.0.0.1:1").load(tmp_path)
    assert np.array_equal(found.test, IMAGES)
    assert (found.name, found.licence) == ("toy", "CC0-1.0")
    with pytest.raises(DataError, match="the file is damaged"):
        amat_set("http://127.0.0.1:1", good=False).load(tmp_path)


def test_a_missing_local_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.amat\.gz is there; --data\.root"):
        amat_set("http://127.0.0.1:1").load(tmp_path)


def test_files_are_fetched_once_and_checked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    assert np.array_equal(amat_set(server).load(None).train, IMAGES)
    assert sorted(path.name for path in (tmp_path / "cache" / "toy").iterdir()) == [
        "test.amat",
        "train.amat",
        "valid.amat",
    ]
    assert np.array_equal(amat_set("http://127.0.0.1:1").load(None).train, IMAGES)


def test_a_wrong_checksum_leaves_nothing_behind(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=r"cannot download.*--data\.root"):
        amat_set(server, good=False).load(None)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_without_a_network_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=r"get train\.amat yourself and give its folder as --data\.root"):
        amat_set("http://127.0.0.1:1").load(None)


def test_idx_sets_hold_ten_thousand_back(tmp_path: Path) -> None:
    def idx(count: int) -> bytes:
        return bytes([0, 0, 8, 3]) + np.array([count, 2, 2], dtype=">i4").tobytes() + bytes(4 * count)

    train, validation, test = public._read_idx([idx(10_005), idx(7)])
    assert [len(part) for part in (train, validation, test)] == [5, 10_000, 7]


def test_cifar_records_become_pictures() -> None:
    record = np.concatenate([[3], np.full(1024, 10), np.full(1024, 20), np.full(1024, 30)]).astype(np.uint8).tobytes()

    def archive(names: list[str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as file:
            for name in names:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
                content = record * 1001
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    train, validation, test = public._read_cifar([archive(names)])
    assert [len(part) for part in (train, validation, test)] == [5, 5000, 1001]
    assert test[0, 5, 7].tolist() == [10, 20, 30]
    with pytest.raises(DataError, match="cannot be read"):
        public._read_cifar([archive(names[:3])])
    with pytest.raises(DataError, match="cannot be read"):
        public._read_cifar([b"junk"])


def test_every_set_names_its_address_and_checksum() -> None:
    for entry in PUBLIC.values():
        for file in entry.files:
            algorithm, digest = file.checksum.split(":")
            assert len(digest) == hashlib.new(algorithm).digest_size * 2
            assert file.url.startswith("http")


@pytest.mark.data
def test_the_fixed_binarisation_is_the_official_one(data_root: Path) -> None:
    found = PUBLIC["binarized-mnist"].load(data_root / "binarized-mnist")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [50_000, 10_000, 10_000]
    assert found.train.mean() / 255 == pytest.approx(0.13, abs=0.01)
