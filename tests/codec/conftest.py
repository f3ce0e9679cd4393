import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


@pytest.fixture(scope="session")
def block() -> Callable[[str], str]:
    """Take the one fenced block with an info string out of the format's specification."""

    def find(info: str) -> str:
        (found,) = re.findall(rf"^```{info}\n(.*?)^```$", FORMAT.read_text(), re.DOTALL | re.MULTILINE)
        return found

    return find


@pytest.fixture(scope="session")
def specified(block: Callable[[str], str]) -> dict[str, Callable[..., Any]]:
    """The specification's own decoders, which share no line with the package."""
    names: dict[str, Callable[..., Any]] = {}
    for info in ("python", "python coded"):
        exec(block(info), names)  # noqa: S102
    return names


@pytest.fixture(scope="session")
def decode(specified: dict[str, Callable[..., Any]]) -> Callable[[bytes, list[int]], tuple[list[int], list[list[int]]]]:
    """The decoder of version 1."""
    return specified["decode"]
