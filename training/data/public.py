"""Public sets: official addresses, checksums, splits; read from local files instead where a root is given."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import requests

from training.data.formats import amat_images, idx_images, idx_labels, read_bytes
from training.data.splits import ImageArray, Images, Labels, Splits
from training.errors import DataError

_CACHE = Path("data")

Arrays = tuple[ImageArray, ImageArray, ImageArray]


@dataclass(frozen=True)
class Remote:
    """A file at its official address.

    Attributes:
        url: the address.
        checksum: `algorithm:hex`, of the file as it is served.
        unpacked_checksum: of the content of one that is served gzipped, where it is known.
    """

    url: str
    checksum: str
    unpacked_checksum: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[1]

    @property
    def content_checksum(self) -> str | None:
        """The checksum of what the file holds, however it is packed."""
        return self.unpacked_checksum if self.name.endswith(".gz") else self.checksum


@dataclass(frozen=True)
class PublicSet:
    """A set by name.

    Attributes:
        name: as recipes call it.
        files: what it is made of.
        read: from the files' contents, in that order and not gzipped, to train, validation and test.
        counts: of the examples in those.
        licence: of the data.
        classes: the names of the labels 0, 1, ...; empty where the set has no labels.
    """

    name: str
    files: tuple[Remote, ...]
    read: Callable[[list[bytes]], Arrays]
    counts: tuple[int, int, int]
    licence: str
    classes: tuple[str, ...] = ()

    def load(self, root: Path | None) -> Splits:
        """Read the set from a folder, or fetch it first.

        Args:
            root: the folder that holds the files under their official names, plain or gzipped; None to download
                them into `data/<name>/`.

        Returns:
            The splits.

        Raises:
            DataError: a file is missing, damaged or cannot be had.
        """
        contents = [_local(file, root) if root else _fetched(file, self.name) for file in self.files]
        train, validation, test = self.read(contents)
        found = len(train), len(validation), len(test)
        if found != self.counts:
            raise DataError(f"{self.name}: found {found} examples, expected {self.counts}; get the official files")
        source = self.files[0].url.rsplit("/", 1)[0]
        conditions = {"label": self.classes} if self.classes else {}
        return Splits(
            train, validation, test, name=self.name, source=source, licence=self.licence, conditions=conditions
        )


def _local(file: Remote, root: Path) -> bytes:
    """Find a file under its official name, gzipped or not, and compare its checksum."""
    plain = file.name.removesuffix(".gz")
    candidates = dict.fromkeys((root / file.name, root / plain, root / f"{plain}.gz"))
    for path in candidates:
        if path.is_file():
            content = read_bytes(path)
            if file.content_checksum:
                _verify(file.content_checksum, content, path)
            elif path.name == file.name:
                _verify(file.checksum, path.read_bytes(), path)
            return content
    looked = ", ".join(map(str, candidates))
    raise DataError(f"none of {looked} is there; --data.root names the folder that holds {file.name}")


def _verify(checksum: str, content: bytes, path: Path) -> None:
    """Compare a content with the set's checksum."""
    algorithm, expected = checksum.split(":")
    found = hashlib.new(algorithm, content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path}: {algorithm} of its content is {found}, expected {expected}; "
            "the file is damaged or of another set, get it again"
        )


def _fetched(file: Remote, name: str) -> bytes:
    """Download a file of a set once."""
    return read_bytes(download(file.url, name, file.checksum))


def download(url: str, name: str, checksum: str | None) -> Path:
    """Download a file once into `data/<name>/`; pooch checks it and keeps nothing that does not match.

    Args:
        url: its address.
        name: of the set.
        checksum: `algorithm:hex`; None for a file whose content alone can be checked, by the caller.

    Returns:
        Where it lies.

    Raises:
        DataError: it cannot be had, or is another one.
    """
    file = url.rsplit("/", 1)[1]
    try:
        path = pooch.retrieve(url, known_hash=checksum, fname=file, path=_CACHE / name, downloader=_downloader())
    except (requests.RequestException, OSError, ValueError) as error:
        raise DataError(
            f"cannot download {url}: {error}; get {file} yourself and give its folder as --data.root"
        ) from error
    return Path(path)


def _downloader() -> pooch.HTTPDownloader:
    """Show progress, and give up on a silent server."""
    return pooch.HTTPDownloader(progressbar=True, timeout=30)


def _read_amat(contents: list[bytes]) -> Arrays:
    """Read the three files of the fixed binarisation."""
    train, validation, test = (ImageArray(amat_images(content, "binarised MNIST")) for content in contents)
    return train, validation, test


def _read_idx(contents: list[bytes]) -> Arrays:
    """Read MNIST-like files, images before labels; the last 10,000 of train are the validation split."""
    images, test_images = (idx_images(content, "images") for content in contents[::2])
    labels, test_labels = (idx_labels(content, "labels") for content in contents[1::2])
    return *_held_back(images, labels, 10_000), ImageArray(test_images, conditions={"label": test_labels})


_CIFAR_RECORD = 1 + 3 * 32 * 32


def _read_cifar(contents: list[bytes]) -> Arrays:
    """Read the binary version's records, label then planes; the last 5,000 of train are the validation split."""

    def batch(archive: tarfile.TarFile, name: str) -> tuple[Images, Labels]:
        member = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
        if member is None:
            raise DataError(f"the CIFAR-10 archive has no {name}.bin; get it again")
        records = np.frombuffer(member.read(), dtype=np.uint8).reshape(-1, _CIFAR_RECORD)
        images = np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        return images, records[:, 0].astype(np.int64)

    try:
        with tarfile.open(fileobj=io.BytesIO(contents[0])) as archive:
            batches = [batch(archive, f"data_batch_{number}") for number in range(1, 6)]
            test_images, test_labels = batch(archive, "test_batch")
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise DataError(f"the CIFAR-10 archive cannot be read: {error}; get it again") from error
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return *_held_back(images, labels, 5_000), ImageArray(test_images, conditions={"label": test_labels})


def _held_back(images: Images, labels: Labels, count: int) -> tuple[ImageArray, ImageArray]:
    """Hold the last examples back for validation."""
    learned, watched = (slice(None, -count), slice(-count, None))
    first, second = (ImageArray(images[part], conditions={"label": labels[part]}) for part in (learned, watched))
    return first, second


_LAROCHELLE = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

_GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

PUBLIC = {
    entry.name: entry
    for entry in (
        PublicSet(
            "binarized-mnist",
            (
                Remote(
                    f"{_LAROCHELLE}/binarized_mnist_train.amat",
                    "sha256:ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
                ),
                Remote(
                    f"{_LAROCHELLE}/binarized_mnist_valid.amat",
                    "sha256:1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
                ),
                Remote(
                    f"{_LAROCHELLE}/binarized_mnist_test.amat",
                    "sha256:e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
                ),
            ),
            _read_amat,
            (50_000, 10_000, 10_000),
            "CC BY-SA 3.0 (MNIST)",
        ),
        PublicSet(
            "mnist",
            (
                Remote(
                    f"{_MNIST}/train-images-idx3-ubyte.gz",
                    "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
                    "md5:6bbc9ace898e44ae57da46a324031adb",
                ),
                Remote(
                    f"{_MNIST}/train-labels-idx1-ubyte.gz",
                    "md5:d53e105ee54ea40749a09fcbcd1e9432",
                    "md5:a25bea736e30d166cdddb491f175f624",
                ),
                Remote(
                    f"{_MNIST}/t10k-images-idx3-ubyte.gz",
                    "md5:9fb629c4189551a2d022fa330f9573f3",
                    "md5:2646ac647ad5339dbf082846283269ea",
                ),
                Remote(
                    f"{_MNIST}/t10k-labels-idx1-ubyte.gz",
                    "md5:ec29112dd5afa0611ce80d1b7f02629c",
                    "md5:27ae3e4e09519cfbb04c329615203637",
                ),
            ),
            _read_idx,
            (50_000, 10_000, 10_000),
            "CC BY-SA 3.0",
            tuple("0123456789"),
        ),
        PublicSet(
            "fashion-mnist",
            (
                Remote(
                    f"{_FASHION}/train-images-idx3-ubyte.gz",
                    "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                    "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
                ),
                Remote(
                    f"{_FASHION}/train-labels-idx1-ubyte.gz",
                    "md5:25c81989df183df01b3e8a0aad5dffbe",
                    "md5:9018921c3c673c538a1fc5bad174d6f9",
                ),
                Remote(
                    f"{_FASHION}/t10k-images-idx3-ubyte.gz",
                    "md5:bef4ecab320f06d8554ea6380940ec79",
                    "md5:8181f5470baa50b63fa0f6fddb340f0a",
                ),
                Remote(
                    f"{_FASHION}/t10k-labels-idx1-ubyte.gz",
                    "md5:bb300cfdad3c16e7a12a480ee83cd310",
                    "md5:15d484375f8d13e6eb1aabb0c3f46965",
                ),
            ),
            _read_idx,
            (50_000, 10_000, 10_000),
            "MIT",
            _GARMENTS,
        ),
        PublicSet(
            "cifar10",
            (
                Remote(
                    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530"
                ),
            ),
            _read_cifar,
            (45_000, 5_000, 10_000),
            "unspecified (Krizhevsky 2009)",
            _CIFAR_CLASSES,
        ),
    )
}
