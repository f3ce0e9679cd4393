"""Types of command-line arguments, with messages that say what was expected."""

import argparse
import math
from collections.abc import Callable, Sequence


def count(text: str) -> int:
    """Read a whole number of 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 or more")
    return int(text)


def positive(text: str) -> float:
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def shape(text: str) -> tuple[int, ...]:
    """Read the shape of an array: `1,64,64,3` or `1x64x64x3`."""
    return tuple(count(part) for part in text.replace("x", ",").split(","))


def header(text: str) -> tuple[str, str]:
    """Read `NAME:VALUE`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no header, expected NAME:VALUE")
    return name.strip(), value.strip()


def some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Make a type for words separated by commas, all of them known ones.

    Args:
        known: words.

    Returns:
        The type.
    """

    def read(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(","))
        if strange := [word for word in words if word not in known]:
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(known)}")
        return words

    return read
