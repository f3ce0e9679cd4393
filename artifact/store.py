"""The store: artifacts in folders `<root>/<name>/<version>/`, published whole or not at all, verified when opened."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from artifact.errors import ChecksumError, MissingFileError, UnknownModelError
from artifact.manifest import MANIFEST_FILE, Manifest, Precision, read_manifest

_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,63})(@(?P<version>[1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class Artifact:
    """A verified artifact: its folder, its version and its manifest."""

    path: Path
    version: int
    manifest: Manifest

    @property
    def reference(self) -> str:
        """The artifact's full name, `name@version`."""
        return f"{self.manifest.name}@{self.version}"

    def file(self, graph: str, precision: Precision | None = None) -> Path:
        """Give the path of a graph's ONNX file, in full precision or of a variant (see `Manifest.graphs_in`)."""
        return self.path / (self.manifest.graphs_in(precision) | self.manifest.exact_graphs)[graph].file


class Store:
    """A folder of artifacts.

    Args:
        root: the folder; it need not exist until something is published.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """List the models that have at least one version, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(entry.name for entry in self.root.iterdir() if self.versions(entry.name))

    def versions(self, name: str) -> list[int]:
        """List a model's versions in rising order; empty where there is no such model."""
        folder = self.root / name
        if not _REFERENCE.fullmatch(name) or not folder.is_dir():
            return []
        found = (entry.parent.name for entry in folder.glob(f"*/{MANIFEST_FILE}"))
        return sorted(int(version) for version in found if re.fullmatch(r"[1-9][0-9]{0,8}", version))

    def open(self, reference: str) -> Artifact:
        """Find an artifact and verify every file of it.

        Args:
            reference: `name`, for the latest version, or `name@version`.

        Returns:
            The verified artifact.

        Raises:
            UnknownModelError: there is no such model or version.
            SchemaError: its manifest cannot be read.
            MissingFileError: a file is not there.
            ChecksumError: a file is not the one that was published.
        """
        match = _REFERENCE.fullmatch(reference)
        versions = self.versions(match["name"]) if match else []
        if not match or not versions:
            known = ", ".join(self.names()) or "none"
            raise UnknownModelError(f"no model {reference!r} in {self.root}; it holds: {known}")
        version = int(match["version"]) if match["version"] else versions[-1]
        if version not in versions:
            raise UnknownModelError(f"model {match['name']!r} has versions {versions}, not {version}")
        path = self.root / match["name"] / str(version)
        manifest = read_manifest(path / MANIFEST_FILE)
        if manifest.name != match["name"]:
            raise UnknownModelError(f"{path} holds the model {manifest.name!r}; its folder must bear the same name")
        _verify(path, manifest)
        return Artifact(path, version, manifest)

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """Give an empty folder to fill; on leaving without an error it becomes the next version, in one rename.

        The caller writes every file, the manifest last. What is staged is verified before it is published;
        on any error the folder is removed and the store is as before.

        Args:
            name: the model that gets a new version.

        Yields:
            The folder to fill.
        """
        home = self.root / name
        home.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".staging-", dir=home))
        try:
            yield stage
            _verify(stage, read_manifest(stage / MANIFEST_FILE))
            stage.chmod(0o755)
            _sync(stage)
            self._publish(name, stage)
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def _publish(self, name: str, stage: Path) -> None:
        """Rename a staged folder to the next free version, also when two publish at once."""
        while True:
            version = max(self.versions(name), default=0) + 1
            try:
                stage.rename(self.root / name / str(version))
                return
            except OSError:
                if not (self.root / name / str(version)).exists():
                    raise


def file_sha256(path: Path) -> str:
    """Hash a file's bytes; 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(path: Path, manifest: Manifest) -> None:
    """Check that every file that the manifest names is there and unchanged."""
    for name, expected in manifest.checksums().items():
        if not (path / name).is_file():
            raise MissingFileError(f"{path}: {name} is missing; restore it or publish the model again")
        found = file_sha256(path / name)
        if found != expected:
            raise ChecksumError(
                f"{path / name}: sha256 is {found}, the manifest says {expected}; "
                "the file was changed or damaged: restore it or publish the model again"
            )


def _sync(folder: Path) -> None:
    """Bring a folder's files to the disk before the rename that makes them visible."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
