"""The running batch of a prior: who joins when, and that a grid does not depend on who is drawn beside it."""

import asyncio
import gc
import shutil
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from artifact.codes import ALL_CODES
from artifact.noise import CODES_STREAM, batch_uniform
from service import discrete
from service.engine.engine import Engine
from service.engine.lanes import Caller, Lane, as_caller
from service.engine.progress import Progress
from service.engine.slots import UNDRAWN
from service.engine.work import Arrays
from service.errors import DeadlineError, OverloadedError, UnavailableError
from service.settings import Settings
from tests.service.gate import Gate, until
from tests.service.serving import with_engine
from tests.toys.tokens import ToyTokens

NAME = "toy-tokens-prior"
SIDE, PLACES = 4, 16
SLOTS = 8
BULK = Caller(Lane.BULK)


@pytest.fixture
def toy(toy_tokens: dict[str, ToyTokens]) -> ToyTokens:
    return toy_tokens[NAME]


@pytest.fixture
def few(settings: Settings) -> Settings:
    """Settings for few slots, so that they are all taken soon."""
    return settings.model_copy(update={"slots": SLOTS})


def grids(
    n: int = 1,
    seed: int = 4,
    first_index: int = 0,
    condition: int = 3,
    temperature: float = 1.0,
    top_k: int = ALL_CODES,
    places: int = PLACES,
) -> Arrays:
    return {
        "uniform": batch_uniform(seed, first_index, n, places, stream=CODES_STREAM),
        "condition": np.full(n, condition),
        "temperature": np.full(n, temperature),
        "top_k": np.full(n, top_k),
    }


def expected(toy: ToyTokens, rows: Arrays) -> np.ndarray:
    """Draw one by one, by whole passes in plain NumPy."""
    each = zip(rows["uniform"], rows["condition"], rows["temperature"], rows["top_k"], strict=True)
    return np.concatenate(
        [
            toy.sample(noise[None], condition[None], float(temperature), int(top_k))
            for noise, condition, temperature, top_k in each
        ]
    )


def draw(engine: Engine, rows: Arrays, caller: Caller | None = None) -> "asyncio.Task[np.ndarray]":
    with as_caller(caller or Caller()):
        return asyncio.ensure_future(engine.draw(engine.model(NAME, "sample"), rows))


async def start(engine: Engine, rows: Arrays, caller: Caller | None = None) -> "asyncio.Task[np.ndarray]":
    """Draw, and go on once that has been asked for."""
    task = draw(engine, rows, caller)
    await asyncio.sleep(0)
    return task


def gated(settings: Settings, body: Callable[[Engine, Gate], Awaitable[None]]) -> Gate:
    async def main(engine: Engine) -> Gate:
        with Gate(engine.model(NAME, "sample")) as gate:
            async with asyncio.timeout(30):
                await body(engine, gate)
            return gate

    return with_engine(settings, main)


@pytest.mark.parametrize("runners", [1, 3])
def test_every_grid_has_its_own_seed_class_temperature_and_candidates(
    few: Settings, toy: ToyTokens, runners: int
) -> None:
    wishes = [
        grids(3, seed=1, condition=0, temperature=0.7),
        grids(1, seed=2, condition=1, top_k=2),
        grids(11, seed=3, condition=2, temperature=0.0),
        grids(2, seed=4, condition=3, temperature=2.5, top_k=4),
        grids(5, seed=5, first_index=7),
    ]

    async def body(engine: Engine) -> None:
        found = await asyncio.gather(*(draw(engine, rows) for rows in wishes))
        for codes, rows in zip(found, wishes, strict=True):
            assert np.array_equal(codes, expected(toy, rows))
        loads = engine.loads[f"{NAME}@1", "prior_pixel"], engine.loads[f"{NAME}@1", "prior_row"]
        assert [load.rows for load in loads] == [22 * PLACES, 22 * SIDE]
        assert all(load.buckets == {SLOTS: load.runs} for load in loads)
        assert all(load.rows + load.padding_rows == SLOTS * load.runs for load in loads)
        # 22 grids in 8 slots: three batches one after the other, and a few rows between, not 22 draws.
        assert loads[1].runs < 6 * SIDE
        assert loads[0].requests == 5
        assert engine.queue_rows == engine.batcher.queue_bytes == 0

    with_engine(few.model_copy(update={"runners": runners}), body)


def test_a_newcomer_joins_where_a_row_begins_and_leaves_when_it_is_complete(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        first = await start(engine, grids(2))
        await gate.step(3)  # one row and two of its places
        second = await start(engine, grids(1, seed=9))
        await gate.step(2)
        assert [role for role, _ in gate.runs] == ["prior_row"] + ["prior_pixel"] * 4 + ["prior_row"]
        assert gate.rows == [1, 1, 0, 0, 0, 0, 0, 0]
        gate.open()
        assert np.array_equal(await first, expected(toy, grids(2)))
        assert np.array_equal(await second, expected(toy, grids(1, seed=9)))

    gate = gated(few, body)
    assert len(gate.runs) == (SIDE + 1) * (SIDE + 1)
    assert gate.rows == [0, 0, 3, 0, 0, 0, 0, 0], "free slots are at row 0"


def test_more_grids_than_slots_take_them_as_they_become_free(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        head = await start(engine, grids(3, seed=1))
        await gate.step(1)
        large = await start(engine, grids(21, seed=2))
        gate.open()
        assert np.array_equal(await head, expected(toy, grids(3, seed=1)))
        assert np.array_equal(await large, expected(toy, grids(21, seed=2)))

    gate = gated(few, body)
    assert len(gate.runs) <= (3 * SIDE + 1 + 1) * (SIDE + 1)


def test_urgent_grids_take_the_slots_of_bulk_ones_which_go_on_later(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        bulk = await start(engine, grids(12, seed=1), BULK)
        await gate.step(2 * (SIDE + 1))
        assert gate.rows == [2] * SLOTS
        urgent = await start(engine, grids(SLOTS, seed=2, condition=1))
        await gate.step(SIDE + 1)
        # One slot stays with the bulk lane, lest it starve.
        assert gate.rows == [0] * (SLOTS - 1) + [3]
        # The urgent grid that found no slot has one after a whole grid, as it would without the bulk lane.
        assert await gate.runs_until(urgent) <= 2 * SIDE * (SIDE + 1)
        assert np.array_equal(await urgent, expected(toy, grids(SLOTS, seed=2, condition=1)))
        assert not bulk.done()
        gate.open()
        assert np.array_equal(await bulk, expected(toy, grids(12, seed=1)))

    gated(few, body)


def test_a_small_request_does_not_wait_for_all_grids_of_a_large_one(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        large = await start(engine, grids(100, seed=1))
        await gate.step(1)
        small = await start(engine, grids(1, seed=2))
        assert engine.queue_rows == 100 - SLOTS + 1
        # It waits for the first batch of the large request, then has a slot before the other grids.
        assert await gate.runs_until(small) <= 2 * SIDE * (SIDE + 1)
        assert np.array_equal(await small, expected(toy, grids(1, seed=2)))
        gate.open()
        assert np.array_equal(await large, expected(toy, grids(100, seed=1)))

    gated(few, body)


def test_a_request_that_nobody_waits_for_leaves_its_slots_between_two_steps(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        gone, kept = await start(engine, grids(20, seed=1)), draw(engine, grids(1, seed=2))
        await gate.step(2)
        gone.cancel()
        await gate.step(1)
        load = engine.loads[f"{NAME}@1", "prior_pixel"]
        rows = load.rows
        await gate.step(1)
        assert load.rows == rows, "the slots are free at once, in the middle of a row"
        gate.open()
        assert np.array_equal(await kept, expected(toy, grids(1, seed=2)))
        assert engine.queue_rows == engine.batcher.queue_bytes == 0
        runs = len(gate.runs)
        await asyncio.sleep(0.05)
        assert len(gate.runs) == runs, "an empty batch is not run"

    gated(few, body)


def test_past_its_deadline_a_request_is_told_and_leaves(few: Settings) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        late = await start(engine, grids(20), Caller(expires_s=time.monotonic() + 0.1))
        await gate.step(1)
        await asyncio.sleep(0.11)
        gate.open()
        with pytest.raises(DeadlineError, match="deadline passed"):
            await late
        await until(lambda: engine.queue_rows == 0)
        assert len(gate.runs) <= 3

    gated(few, body)


def test_a_failing_run_fails_its_batch_and_not_those_who_wait(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        batch = await start(engine, grids(SLOTS - 1)), await start(engine, grids(1))
        await gate.step(SIDE + 3)  # both have joined by the second row
        waiting = await start(engine, grids(2, seed=5))
        gate.error = ValueError("no such place")
        gate.open()
        for failed in batch:
            with pytest.raises(ValueError, match="no such place"):
                await failed
        assert np.array_equal(await waiting, expected(toy, grids(2, seed=5)))
        assert engine.batcher.deaths == 0

    gated(few, body)


def test_the_death_of_a_runner_fails_the_batch_and_the_next_one_draws_on(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        batch = await start(engine, grids(SLOTS))
        await gate.step(6)
        waiting = await start(engine, grids(1, seed=5))
        gate.error = SystemExit("killed")
        gate.open()
        with pytest.raises(UnavailableError, match="runner of this request died"):
            await batch
        assert np.array_equal(await waiting, expected(toy, grids(1, seed=5)))
        assert engine.batcher.deaths == 1

    gated(few, body)


def test_what_is_drawn_and_what_waits_is_refused_at_the_end(few: Settings) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        tasks = [draw(engine, grids(SLOTS)), draw(engine, grids(3), BULK)]
        await gate.step(2)
        stopping = asyncio.ensure_future(engine.stop())
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, UnavailableError) for answer in answers), answers
        gate.open()
        await stopping
        with pytest.raises(UnavailableError, match="shutting down"):
            await draw(engine, grids())

    gated(few, body)


def test_the_queue_is_bounded_in_rows_and_in_time(few: Settings) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        tasks = [draw(engine, grids(SLOTS))]
        await gate.step(1)
        tasks.append(draw(engine, grids(15)))
        with pytest.raises(OverloadedError, match="15 rows wait already and 6 more would exceed 20") as caught:
            await draw(engine, grids(6))
        assert caught.value.retry_after_s >= 1
        assert engine.batcher.backlog_s > 0
        assert engine.batcher.age_s > 0
        with pytest.raises(OverloadedError, match="past the deadline"):
            await draw(engine, grids(1), Caller(expires_s=time.monotonic() + 1e-9))
        gate.open()
        await asyncio.gather(*tasks)
        assert engine.batcher.backlog_s == engine.batcher.age_s == 0

    gated(few.model_copy(update={"max_rows": 20, "max_queue_rows": 20}), body)


def test_rows_of_other_graphs_have_their_turn_between_two_steps(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        model = engine.model(NAME, "encode")
        drawing = await start(engine, grids(SLOTS))
        await gate.step(1)
        images = toy.images(1)
        encoding = asyncio.ensure_future(discrete.encode(engine, model, images))
        await until(lambda: engine.queue_rows == 1)
        await gate.step(1)
        assert np.array_equal((await encoding)["codes"], toy.encode(images))
        gate.open()
        await drawing

    gated(few, body)


def test_no_two_steps_of_a_sampler_run_at_a_time(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        tasks = [draw(engine, grids(2, seed=seed)) for seed in range(9)]
        for _ in range(6):
            await gate.step(1)
            await asyncio.sleep(0.002)
            assert len(gate.runs) == 1 + (_ + 1), "a step waits at the gate, and no other one comes"
        gate.open()
        for seed, codes in enumerate(await asyncio.gather(*tasks)):
            assert np.array_equal(codes, expected(toy, grids(2, seed=seed)))

    gated(few.model_copy(update={"runners": 4}), body)


def test_progress_tells_the_codes_that_are_drawn(few: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        progress = Progress()
        assert progress.fraction is None
        drawing = await start(engine, grids(2), Caller(progress=progress))
        await gate.step(2 * (SIDE + 1))
        await progress.change()
        assert (progress.done, progress.of, progress.fraction) == (16, 32, 0.5)
        (codes,) = progress.codes
        whole = expected(toy, grids(2))
        assert np.array_equal(codes[:, :2], whole[:, :2])
        assert (codes[:, 2:] == UNDRAWN).all()
        gate.open()
        await drawing
        assert progress.fraction == 1.0

    gated(few, body)


def test_a_sampler_ends_with_its_model(few: Settings) -> None:
    async def body(engine: Engine) -> None:
        model = engine.model(NAME, "sample")
        await engine.draw(model, grids())
        sampler = weakref.ref(engine._samplers[model][0])
        session = weakref.ref(model.sessions["prior_pixel"])
        ending = replace(model)
        await engine.draw(ending, grids())
        other = weakref.ref(engine._samplers[ending][0])
        gc.disable()  # no cycle may keep a model and its memory until the collector comes by
        try:
            del ending
            await until(lambda: other() is None)
        finally:
            gc.enable()
        assert sampler() is not None
        assert session() is not None

    with_engine(few, body)


def test_slots_are_fewer_where_grids_are_large(settings: Settings, toy: ToyTokens) -> None:
    async def body(engine: Engine) -> None:
        found = await draw(engine, grids(7))
        assert np.array_equal(found, expected(toy, grids(7)))
        assert engine.loads[f"{NAME}@1", "prior_row"].buckets.keys() == {3}

    # The context of a row, 4 places of 6 numbers, is the largest tensor of a step.
    with_engine(settings.model_copy(update={"max_run_values": 3 * 4 * 6}), body)


def test_a_change_of_slots_is_warmed_and_measured_anew(settings: Settings, tmp_path: Path) -> None:
    async def sizes(engine: Engine) -> tuple[int, ...]:
        return engine.model(NAME, "sample").plans["prior_pixel"].buckets

    store = shutil.copytree(settings.store, tmp_path / "store")
    for slots in (4, 4, 6):
        assert with_engine(settings.model_copy(update={"slots": slots, "store": store}), sizes) == (slots,)
