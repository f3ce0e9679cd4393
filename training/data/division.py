"""Which split and which class a picture belongs to, by its name."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from training.data.config import DataConfig
from training.data.draw import draw
from training.errors import DataError

SPLIT_WORDS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Division:
    """Pictures by split and class.

    Attributes:
        train: names.
        validation: likewise.
        test: likewise.
        class_of: the class of each name of every split; empty where not all pictures lie in class folders.
    """

    train: list[str]
    validation: list[str]
    test: list[str]
    class_of: dict[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted(set(self.class_of.values())))


def divide(names: list[str], config: DataConfig, root: Path) -> Division:
    """Divide pictures by their first folder where that names a split, else as the recipe says.

    Folders around all of them do not count. A picture that lies in one folder, below that of its split where there is
    one, is of the class of that name.

    Args:
        names: sorted paths, between slashes.
        config: how to hold pictures back.
        root: for messages.

    Returns:
        The splits and classes.

    Raises:
        DataError: the folders leave open which split a picture belongs to, or there are too few pictures.
    """
    depth = _wrappers(names)
    homes = {name: SPLIT_WORDS.get(PurePosixPath(name).parts[depth].lower()) for name in names}
    outside = [name for name, home in homes.items() if home is None]
    # One such folder alone may be a class of that name; two are splits, which a random draw would mix.
    if outside and len(set(homes.values()) - {None}) > 1:
        raise DataError(f"{root} has split folders, but {outside[0]} lies outside them; move it into one or remove it")
    if outside:
        train, validation, test = _held_back(names, config)
        return Division(train, validation, test, _class_of(names, depth))
    if config.test_every is not None:
        raise DataError(f"{root} has splits of its own, which data.test_every would mix; leave test_every out")
    train, validation, test = (
        [name for name, home in homes.items() if home == split] for split in ("train", "validation", "test")
    )
    missing = [split for split, members in (("train", train), ("test", test)) if not members]
    if missing:
        raise DataError(f"{root} has splits of its own but none for {' and '.join(missing)}; add it or name no splits")
    if not validation:
        train, validation = _watched(train, config)
    return Division(train, validation, test, _class_of(names, depth + 1))


def _wrappers(names: list[str]) -> int:
    """Count the leading folders that hold all pictures alike, and so tell neither splits nor classes."""
    parts = [PurePosixPath(name).parts for name in names]
    depth = 0
    while all(len(p) > depth + 1 for p in parts) and len({p[depth] for p in parts}) == 1:
        if parts[0][depth].lower() in SPLIT_WORDS:
            break
        depth += 1
    return depth


def _held_back(names: list[str], config: DataConfig) -> tuple[list[str], list[str], list[str]]:
    """Hold a test and a validation split back; give train, validation and test."""
    if config.test_every is not None:
        test = names[:: config.test_every]
        train, validation = _watched(sorted(set(names) - set(test)), config)
        return train, validation, test
    drawn = draw(len(names), (config.test_fraction, config.validation_fraction), config.split_seed)
    test, validation, train = ([names[index] for index in indices] for indices in drawn)
    return train, validation, test


def _watched(names: list[str], config: DataConfig) -> tuple[list[str], list[str]]:
    """Hold a validation split back; give train and validation."""
    watched, learned = draw(len(names), (config.validation_fraction,), config.split_seed)
    return [names[index] for index in learned], [names[index] for index in watched]


def _class_of(names: list[str], depth: int) -> dict[str, str]:
    """Give each picture the class of the folder that it lies in, `depth` folders down, if all lie in one."""
    folders = {name: PurePosixPath(name).parts[depth:-1] for name in names}
    return {name: parts[0] for name, parts in folders.items()} if all(len(p) == 1 for p in folders.values()) else {}
