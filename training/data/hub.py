"""Data sets of the Hugging Face hub, by name or in a local folder: their columns, looked at as a gallery of files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.data.config import DataConfig
from training.data.division import SPLIT_WORDS
from training.data.gallery import Gallery
from training.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_CACHE = Path("data") / "hub"


def hub_gallery(config: DataConfig) -> Gallery:
    """Look for the files in a column of a data set; nothing of it is executed, and none is decoded.

    Args:
        config: which data set, subset, split and columns.

    Returns:
        A gallery. The first folder of a name is the split, if more than one is taken; the next one the class, if a
        column of labels is named.

    Raises:
        DataError: the library is not installed, the data set cannot be had, or it has no such split or column.
    """
    splits = {split: _files(part, split, config) for split, part in _splits(config).items()}
    places: dict[str, tuple[Any, int]] = {}
    for split, part in splits.items():
        classes = _classes(part, config)
        folder = f"{split}/" if len(splits) > 1 else ""
        for index in range(len(part)):
            kind = f"{classes[index]}/" if classes else ""
            places[f"{folder}{kind}{index:09d}"] = part, index

    def read(name: str) -> bytes:
        part, index = places[name]
        file = part[index][config.column]
        content: bytes = file["bytes"] if file["bytes"] is not None else Path(file["path"]).read_bytes()
        return content

    return Gallery(sorted(places), read)


def _splits(config: DataConfig) -> "dict[str, Dataset]":
    """Give the parts that count: the split that is named, else those that are called like one."""
    found = _loaded(config)
    if config.split is not None:
        if config.split not in found:
            raise DataError(f"{config.dataset} has no split {config.split!r}, only {', '.join(found)}; set data.split")
        return {config.split: found[config.split]}
    known = {name: part for name, part in found.items() if name.lower() in SPLIT_WORDS}
    if not known:
        raise DataError(f"{config.dataset} has the splits {', '.join(found)}; name one of them as data.split")
    return known


def _loaded(config: DataConfig) -> "DatasetDict":
    """Get the data set from the hub, a local folder, or what was fetched before."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "source 'hub' needs the library datasets: install the dependency group hub (pip install --group hub)"
        ) from error
    try:
        return datasets.load_dataset(str(config.dataset), config.subset, cache_dir=str(_CACHE))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        first = str(error).strip().splitlines()[:1]
        raise DataError(
            f"cannot get the data set {config.dataset!r}: {first[0] if first else type(error).__name__}; check "
            "data.dataset and data.subset and the network, or give the path of a local copy as data.dataset"
        ) from error


def _files(part: "Dataset", split: str, config: DataConfig) -> "Dataset":
    """Make the column of files give bytes as they are stored."""
    import datasets

    for name in filter(None, (config.column, config.label_column)):
        if name not in part.column_names:
            raise DataError(
                f"split {split!r} of {config.dataset} has no column {name!r}, only {', '.join(part.column_names)}; "
                "set data.column, and data.label_column where classes count"
            )
    kind = part.features[config.column]
    for feature in (datasets.Image, datasets.Audio):
        if isinstance(kind, feature):
            return part.cast_column(config.column, feature(decode=False))
    raise DataError(
        f"column {config.column!r} of {config.dataset} holds {type(kind).__name__}, expected images or sounds; "
        "set data.column"
    )


def _classes(part: "Dataset", config: DataConfig) -> list[str]:
    """Give the name of each example's class; empty where no column of labels is named."""
    if config.label_column is None:
        return []
    names = getattr(part.features[config.label_column], "names", None)
    values = part[config.label_column]
    return [str(names[value] if names else value).replace("/", "-") for value in values]
