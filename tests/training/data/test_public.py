"""Public sets: local files, downloads from a loopback server, checksums, and what is told when they fail."""

import dataclasses
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

from training.data import DataConfig, load, public
from training.data.public import PUBLIC, PublicSet, Remote
from training.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 2, (9, 4, 4, 1), dtype=np.uint8) * np.uint8(255)
TEXT = "\n".join(" ".join(map(str, row)) for row in IMAGES.reshape(9, -1) // 255).encode()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def amat_set(base: str, *, good: bool = True) -> PublicSet:
    checksum = f"sha256:{hashlib.sha256(TEXT).hexdigest() if good else '0' * 64}"
    files = tuple(Remote(f"{base}/{name}.amat", checksum) for name in ("train", "valid", "test"))
    return PublicSet("toy", files, public._read_amat, (9, 9, 9), "CC0-1.0")


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

        def do_GET(self) -> None:
            """Break off in the middle of one file, as a server does that dies."""
            if self.path != "/broken.amat":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", str(len(TEXT)))
            self.end_headers()
            self.wfile.write(TEXT[: len(TEXT) // 2])
            return None

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()


@pytest.mark.parametrize("packed", [False, True])
def test_local_files_are_found_plain_or_gzipped(tmp_path: Path, packed: bool) -> None:
    for name in ("train", "valid", "test"):
        path = tmp_path / f"{name}.amat{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(TEXT) if packed else TEXT)
    found = amat_set("http://127.0.0.1:1").load(tmp_path)
    assert np.array_equal(found.test.fixed(), IMAGES)
    assert (found.name, found.licence) == ("toy", "CC0-1.0")
    with pytest.raises(DataError, match="the file is damaged"):
        amat_set("http://127.0.0.1:1", good=False).load(tmp_path)


def idx(count: int, value: int = 0) -> bytes:
    return bytes([0, 0, 8, 3]) + np.array([count, 2, 2], dtype=">i4").tobytes() + bytes([value]) * (4 * count)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_what_is_served_gzipped_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    served, content = gzip.compress(idx(3), mtime=1), idx(3)
    file = Remote("http://127.0.0.1:1/images.gz", md5(served), md5(content))
    # Packed anew, with another date in its header: other bytes, the same content.
    (tmp_path / name).write_bytes(gzip.compress(content, mtime=2) if name.endswith(".gz") else content)
    assert public._local(file, tmp_path) == content
    (tmp_path / name).write_bytes(idx(3, value=1))
    with pytest.raises(DataError, match="damaged or of another set"):
        public._local(file, tmp_path)


def test_a_packed_file_of_unknown_content_is_compared_as_it_is(tmp_path: Path) -> None:
    packed = gzip.compress(b"content")
    file = Remote("http://127.0.0.1:1/set.tar.gz", md5(packed))
    (tmp_path / "set.tar").write_bytes(b"unpacked by a browser")
    assert public._local(file, tmp_path) == b"unpacked by a browser"
    (tmp_path / "set.tar.gz").write_bytes(packed)
    assert public._local(file, tmp_path) == b"content"
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match="damaged or of another set"):
        public._local(file, tmp_path)


def test_a_set_of_another_size_is_refused(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.amat").write_bytes(TEXT)
    short = dataclasses.replace(amat_set("http://127.0.0.1:1"), counts=(10, 9, 9))
    with pytest.raises(DataError, match=r"found \(9, 9, 9\) examples, expected \(10, 9, 9\)"):
        short.load(tmp_path)


def test_a_missing_local_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.amat\.gz is there; --data\.root"):
        amat_set("http://127.0.0.1:1").load(tmp_path)


def test_files_are_fetched_once_and_checked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    assert np.array_equal(amat_set(server).load(None).train.fixed(), IMAGES)
    assert sorted(path.name for path in (tmp_path / "cache" / "toy").iterdir()) == [
        "test.amat",
        "train.amat",
        "valid.amat",
    ]
    assert np.array_equal(amat_set("http://127.0.0.1:1").load(None).train.fixed(), IMAGES)


def test_a_wrong_checksum_leaves_nothing_behind(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=r"cannot download.*--data\.root"):
        amat_set(server, good=False).load(None)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_download_that_breaks_off_leaves_nothing_behind(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=r"cannot download.*broken\.amat yourself"):
        public._fetched(Remote(f"{server}/broken.amat", md5(TEXT)), tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    with pytest.raises(DataError, match="404"):
        public._fetched(Remote(f"{server}/absent.amat", md5(TEXT)), tmp_path / "cache")


def test_a_gzipped_download_is_unpacked(server: str, tmp_path: Path) -> None:
    packed = gzip.compress(TEXT, mtime=0)
    (tmp_path / "served" / "text.gz").write_bytes(packed)
    assert public._fetched(Remote(f"{server}/text.gz", md5(packed)), tmp_path / "cache") == TEXT


def test_a_set_is_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.amat").write_bytes(TEXT)
    monkeypatch.setitem(PUBLIC, "binarized-mnist", amat_set("http://127.0.0.1:1"))
    assert np.array_equal(load(DataConfig(source="binarized-mnist", root=tmp_path, channels=1)).train.fixed(), IMAGES)


def test_without_a_network_the_cure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "_CACHE", tmp_path / "cache")
    with pytest.raises(DataError, match=r"get train\.amat yourself and give its folder as --data\.root"):
        amat_set("http://127.0.0.1:1").load(None)


def idx_labels(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, 1]) + np.array([len(values)], dtype=">i4").tobytes() + values.astype(np.uint8).tobytes()


def test_idx_sets_hold_ten_thousand_back() -> None:
    labels = np.arange(10_005) % 10
    train, validation, test = public._read_idx([idx(10_005), idx_labels(labels), idx(7), idx_labels(labels[:7])])
    assert [len(part) for part in (train, validation, test)] == [5, 10_000, 7]
    assert [part.labels.tolist() for part in (train, validation, test)] == [
        [0, 1, 2, 3, 4],
        labels[5:].tolist(),
        [0, 1, 2, 3, 4, 5, 6],
    ]


def test_labels_of_another_set_are_refused() -> None:
    labels = np.zeros(10_005)
    with pytest.raises(DataError, match="found 7 examples and 6 labels"):
        public._read_idx([idx(10_005), idx_labels(labels), idx(7), idx_labels(labels[:6])])


def test_cifar_records_become_pictures() -> None:
    planes = np.repeat([10, 20, 30], 1024).astype(np.uint8).tobytes()

    def archive(names: list[str]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as file:
            for label, name in enumerate(names):
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
                content = (bytes([label]) + planes) * 1001
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    train, validation, test = public._read_cifar([archive(names)])
    assert [len(part) for part in (train, validation, test)] == [5, 5000, 1001]
    assert test[0, 5, 7].tolist() == [10, 20, 30]
    assert train.labels.tolist() == [0] * 5
    assert validation.labels.tolist() == np.repeat([0, 1, 2, 3, 4], [996, 1001, 1001, 1001, 1001]).tolist()
    assert set(test.labels.tolist()) == {5}
    assert np.array_equal(public._read_cifar([gzip.decompress(archive(names))])[2].fixed(), test.fixed())
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
        assert len(entry.classes) == (0 if entry.name == "binarized-mnist" else 10)


@pytest.mark.data
def test_the_fixed_binarisation_is_the_official_one(data_root: Path) -> None:
    found = PUBLIC["binarized-mnist"].load(data_root / "binarized-mnist")
    assert [len(part) for part in (found.train, found.validation, found.test)] == [50_000, 10_000, 10_000]
    assert found.train.fixed().mean() / 255 == pytest.approx(0.13, abs=0.01)
