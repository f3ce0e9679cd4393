"""Which models are served, as the store and the callers have it."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.manifest import GOLDEN_FILE, MANIFEST_FILE
from artifact.store import Store
from service.engine.engine import Engine
from service.engine.wishes import ALL, Wishes
from service.errors import LoadError, UnknownModelError
from service.metrics import Metrics
from tests.service.stores import NAME, OTHER, add, damage, filled, is_answering, move, serve, served


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return filled(tmp_path)


def test_a_new_version_takes_over_where_the_latest_is_asked_for(store: Path) -> None:
    async def body(engine: Engine) -> None:
        assert served(engine) == [f"{NAME}@1", f"{OTHER}@1"]
        await is_answering(engine, NAME, 1)
        add(store, NAME, 3)
        assert served(engine) == [f"{NAME}@1", f"{OTHER}@1"]
        changes = await engine.lifecycle.reload()
        assert (changes.loaded, changes.unloaded, changes.failed) == ((f"{NAME}@2",), (f"{NAME}@1",), {})
        assert served(engine) == [f"{NAME}@2", f"{OTHER}@1"]
        await is_answering(engine, NAME, 3)
        await is_answering(engine, OTHER, 2)
        changes = await engine.lifecycle.reload()
        assert (changes.loaded, changes.unloaded, changes.failed) == ((), (), {})

    serve(store, body)
    serve_named = serve(store, lambda engine: asyncio.sleep(0, served(engine)), NAME)
    assert serve_named == [f"{NAME}@2"]


def test_versions_that_are_named_are_served_side_by_side_and_stay(store: Path) -> None:
    add(store, NAME, 3)

    async def body(engine: Engine) -> None:
        add(store, NAME, 4)
        await engine.lifecycle.reload()
        assert served(engine) == [f"{NAME}@2", f"{NAME}@1"]
        assert engine.model(None, "encode").reference == f"{NAME}@2"
        await is_answering(engine, f"{NAME}@1", 1)
        await is_answering(engine, f"{NAME}@2", 3)
        await is_answering(engine, NAME, 3)

    serve(store, body, f"{NAME}@2", f"{NAME}@1")


def test_another_artifact_under_the_same_version_is_taken(store: Path, tmp_path: Path) -> None:
    add(tmp_path / "aside", NAME, 5)

    async def body(engine: Engine) -> None:
        shutil.rmtree(store / NAME / "1")
        move(tmp_path / "aside" / NAME / "1", store / NAME / "1")
        changes = await engine.lifecycle.reload()
        assert (changes.loaded, changes.unloaded) == ((f"{NAME}@1",), (f"{NAME}@1",))
        await is_answering(engine, NAME, 5)

    serve(store, body)


def test_a_bad_artifact_leaves_the_old_one_serving_and_says_why(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def body(engine: Engine) -> None:
        metrics = Metrics(engine)
        add(store, NAME, 3)
        damage(store, NAME, 2)
        changes = await engine.lifecycle.reload()
        assert (changes.loaded, changes.unloaded) == ((), ())
        assert "weights.data: sha256 is" in changes.failed[f"{NAME}@2"]
        assert engine.catalog.problems == changes.failed
        assert engine.state == "ready"
        await is_answering(engine, NAME, 1)
        with pytest.raises(UnknownModelError, match="the file was changed or damaged"):
            engine.named(f"{NAME}@2")
        assert "what was served is served still" in caplog.text
        text = metrics.render().decode()
        assert f'latentd_model_load_failures_total{{model="{NAME}"}} 1.0' in text
        assert f'latentd_model_info{{family="toy",model="{NAME}@1"}} 1.0' in text

        damage(store, NAME, 2)
        await engine.lifecycle.reload()
        assert engine.catalog.problems == {}
        await is_answering(engine, NAME, 3)
        text = metrics.render().decode()
        assert f'latentd_model_info{{family="toy",model="{NAME}@2"}} 1.0' in text
        assert f'latentd_model_info{{family="toy",model="{NAME}@1"}}' not in text

    serve(store, body)


def test_whoever_writes_over_the_files_of_a_served_model_harms_nobody(store: Path) -> None:
    async def body(engine: Engine) -> None:
        for file in (store / NAME / "1").iterdir():
            file.write_bytes(b"")
        await is_answering(engine, NAME, 1)
        changes = await engine.lifecycle.reload()
        assert "not a manifest" in changes.failed[f"{NAME}@1"]
        await is_answering(engine, NAME, 1)

    serve(store, body)


def change_golden(store: Path, name: str, change: Callable[[Path], None] | None) -> None:
    """Change the file of golden outputs of a model's first version, or leave it out of the artifact."""
    folder = store / name / "1"
    content = json.loads((folder / MANIFEST_FILE).read_text())
    if change is None:
        del content["files"][GOLDEN_FILE]
    else:
        change(folder / GOLDEN_FILE)
        content["files"][GOLDEN_FILE] = hashlib.sha256((folder / GOLDEN_FILE).read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(content))


def shift_mean(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    arrays["encode/outputs/mean"] = arrays["encode/outputs/mean"] + np.float32(0.01)
    np.savez(path, allow_pickle=False, **arrays)


def test_a_model_that_gives_something_else_than_when_it_was_exported_is_refused(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(engine: Engine) -> None:
        assert "golden outputs of 3 graphs agree" in caplog.text
        change_golden(store, NAME, None)
        change_golden(store, OTHER, shift_mean)
        changes = await engine.lifecycle.reload()
        assert changes.loaded == (f"{NAME}@1",)
        assert "toy-a@1 was exported without golden.npz" in caplog.text
        assert "graph 'encode', output 'mean': off by" in changes.failed[f"{OTHER}@1"]
        await is_answering(engine, OTHER, 2)

    caplog.set_level("INFO")
    serve(store, body)


def test_an_empty_store_changes_nothing(store: Path) -> None:
    async def body(engine: Engine) -> None:
        move(store, store.with_name("gone"))
        with pytest.raises(LoadError, match="holds no models"):
            await engine.lifecycle.reload()
        await engine.lifecycle.refresh()
        await is_answering(engine, NAME, 1)

    serve(store, body)


def test_a_version_that_is_taken_away_goes_and_the_one_before_returns(store: Path) -> None:
    add(store, NAME, 3)

    async def body(engine: Engine) -> None:
        shutil.rmtree(store / NAME / "2")
        shutil.rmtree(store / OTHER)
        changes = await engine.lifecycle.reload()
        assert (changes.loaded, set(changes.unloaded)) == ((f"{NAME}@1",), {f"{NAME}@2", f"{OTHER}@1"})
        await is_answering(engine, NAME, 1)

    serve(store, body)


def test_a_named_model_that_is_not_there_any_more_is_served_still(store: Path) -> None:
    async def body(engine: Engine) -> None:
        shutil.rmtree(store / NAME)
        changes = await engine.lifecycle.reload()
        assert "it holds: toy-b" in changes.failed[NAME]
        await is_answering(engine, NAME, 1)

    serve(store, body, NAME, OTHER)


def test_what_is_unloaded_stays_so_until_it_is_loaded(store: Path) -> None:
    async def body(engine: Engine) -> None:
        add(store, NAME, 3)
        await engine.lifecycle.unload(NAME)
        assert served(engine) == [f"{OTHER}@1"]
        with pytest.raises(UnknownModelError):
            await engine.lifecycle.unload(NAME)
        assert await engine.lifecycle.reload() == await engine.lifecycle.reload()
        assert served(engine) == [f"{OTHER}@1"]

        await engine.lifecycle.load(NAME, 1)
        assert served(engine) == [f"{NAME}@1", f"{OTHER}@1"]
        await engine.lifecycle.reload()
        assert served(engine) == [f"{NAME}@1", f"{OTHER}@1"]

        await engine.lifecycle.load(NAME)
        assert served(engine) == [f"{NAME}@2", f"{NAME}@1", f"{OTHER}@1"]
        await is_answering(engine, f"{NAME}@1", 1)
        await is_answering(engine, NAME, 3)

        await engine.lifecycle.unload(NAME, 2)
        await engine.lifecycle.reload()
        assert served(engine) == [f"{NAME}@1", f"{OTHER}@1"]
        add(store, NAME, 4)
        await engine.lifecycle.reload()
        assert served(engine) == [f"{NAME}@3", f"{NAME}@1", f"{OTHER}@1"]

    serve(store, body)


def test_a_model_that_cannot_be_loaded_is_not_tried_again_unasked(store: Path) -> None:
    async def body(engine: Engine) -> None:
        add(store, OTHER, 3)
        damage(store, OTHER, 2)
        with pytest.raises(LoadError, match=r"toy-b@2 could not be loaded: .*sha256"):
            await engine.lifecycle.load(OTHER)
        assert "sha256" in engine.catalog.problems[f"{OTHER}@2"]
        with pytest.raises(UnknownModelError, match="has versions"):
            await engine.lifecycle.load(OTHER, 9)
        with pytest.raises(UnknownModelError, match="it holds: toy-a, toy-b"):
            await engine.lifecycle.load("../toy-a")
        assert (await engine.lifecycle.reload()).failed == {}
        await engine.lifecycle.load(OTHER, 1)
        assert served(engine) == [f"{NAME}@1", f"{OTHER}@1"]

    serve(store, body, NAME)


def test_the_start_is_refused_where_an_artifact_is_bad(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: Engine) -> None:
        raise AssertionError("it has started")

    damage(store, OTHER, 1)
    with pytest.raises(Exception, match="the file was changed or damaged"):
        serve(store, body)
    damage(store, OTHER, 1)

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of a kind that nobody foresaw")

    monkeypatch.setattr("service.engine.loading.open_model", fail)
    with pytest.raises(LoadError, match="ZeroDivisionError"):
        serve(store, body)


def test_wishes(store: Path) -> None:
    shelf = Store(store)
    add(store, NAME, 3)
    everything = Wishes.of(())
    assert everything.targets(shelf) == [f"{NAME}@2", f"{OTHER}@1"]
    assert Wishes.of((f"{NAME}@2", NAME, "nothing", OTHER)).targets(shelf) == [f"{NAME}@2", "nothing", f"{OTHER}@1"]
    without = everything.unloading(NAME, None)
    assert without.targets(shelf) == [f"{OTHER}@1"]
    assert without.loading(NAME, None).targets(shelf) == [f"{NAME}@2", f"{OTHER}@1"]
    assert without.loading(NAME, None).rank(NAME, 2) == 0
    assert everything.unloading(NAME, 2).targets(shelf) == [f"{OTHER}@1"]
    assert everything.unloading(NAME, 2).loading(NAME, 2).targets(shelf) == [f"{NAME}@2", f"{OTHER}@1"]
    assert everything.unloading(NAME, 2).unloading(NAME, None).loading(NAME, None).unwanted == frozenset()
    assert Wishes.of((f"{NAME}@1",)).unloading(NAME, 1).targets(shelf) == []
    pinned = Wishes.of((OTHER, f"{NAME}@1"))
    assert [pinned.rank(OTHER, 7), pinned.rank(NAME, 1), pinned.rank(NAME, 2)] == [0, 1, 2]
    assert ALL in everything.wanted
