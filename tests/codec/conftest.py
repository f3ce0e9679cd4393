import re
from collections.abc import Callable
from pathlib import Path

import pytest

FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


@pytest.fixture(scope="session")
def block() -> Callable[[str], str]:
    """Take the one fenced block of a language out of the format's specification."""

    def find(language: str) -> str:
        (found,) = re.findall(rf"^```{language}\n(.*?)^```$", FORMAT.read_text(), re.DOTALL | re.MULTILINE)
        return found

    return find


@pytest.fixture(scope="session")
def decode(block: Callable[[str], str]) -> Callable[[bytes, list[int]], tuple[list[int], list[list[int]]]]:
    """The specification's own decoder, which shares no line with the package."""
    names: dict[str, Callable[..., object]] = {}
    exec(block("python"), names)  # noqa: S102
    return names["decode"]
