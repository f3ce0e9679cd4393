"""What docs/theory.md refers to is there."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "theory.md").read_text("utf-8")
NAMES = sorted(set(re.findall(r"`((?:artifact|models|training)\.[\w.]+)`", TEXT)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
BENCHES = sorted(set(re.findall(r"`python -m (bench\.\w+)`", TEXT)))


def test_it_refers_to_code_and_tests() -> None:
    assert len(NAMES) > 20
    assert len(TESTS) > 20


@pytest.mark.parametrize("name", NAMES)
def test_code_is_where_it_says(name: str) -> None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return
    pytest.fail(f"there is no {name}")


@pytest.mark.parametrize(("file", "test"), TESTS)
def test_tests_are_where_it_says(file: str, test: str) -> None:
    assert f"def {test}(" in (ROOT / file).read_text("utf-8")


@pytest.mark.parametrize("module", BENCHES)
def test_benchmarks_are_where_it_says(module: str) -> None:
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()
