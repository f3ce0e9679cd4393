"""The running batch of a sequence: grids join at any step, and each link of a chain has a batch of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from artifact.noise import CODES_STREAM, batch_uniform
from service.engine.engine import Engine
from service.engine.lanes import Caller, Lane, as_caller
from service.engine.progress import UNDRAWN, Progress
from service.engine.work import Arrays
from service.settings import Settings
from tests.service.gate import Gate
from tests.service.serving import with_engine
from tests.service.test_sampler import expected as expected_raster
from tests.service.test_sampler import grids
from tests.toys import lines
from tests.toys.lines import ToyLine
from tests.toys.publish import publish
from tests.toys.tokens import ToyTokens

NAME, SLOTS, PLACES, SIDE = "toy-line", 4, 16, 4
STEP = "prior_1_step"
BULK = Caller(Lane.BULK)


@pytest.fixture(scope="module")
def toy(toy_tokens: dict[str, ToyTokens]) -> ToyLine:
    return lines.with_line(toy_tokens["toy-tokens-prior"], 8)


@pytest.fixture(scope="module")
def few(toy: ToyLine, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root: Path = tmp_path_factory.mktemp("lines")
    publish(root, NAME, lines.toy(toy))
    return Settings(store=root, models=(NAME,), device="cpu", threads=1, slots=SLOTS)


def wishes(n: int = 1, seed: int = 4, **options: float) -> Arrays:
    """Ask for grids that all have features of their own."""
    generator = np.random.default_rng(seed)
    return {
        "uniform": batch_uniform(seed, 0, n, PLACES, stream=CODES_STREAM),
        "condition": generator.integers(0, 4, n),
        "given": generator.normal(size=(n, SIDE, SIDE, 6)).astype(np.float32),
        **{name: np.full(n, value) for name, value in options.items()},
    }


def expected(toy: ToyLine, rows: Arrays) -> np.ndarray:
    each = ({name: array[row] for name, array in rows.items()} for row in range(len(rows["uniform"])))
    return np.stack([toy.sample(row) for row in each])


async def start(engine: Engine, rows: Arrays, caller: Caller | None = None) -> "asyncio.Task[np.ndarray]":
    with as_caller(caller or Caller()):
        task = asyncio.ensure_future(engine.draw(engine.model(NAME, "sample"), rows, link=1))
    await asyncio.sleep(0)
    return task


def gated(settings: Settings, body: Callable[[Engine, Gate], Awaitable[None]]) -> Gate:
    async def main(engine: Engine) -> Gate:
        with Gate(engine.model(NAME, "sample")) as gate:
            async with asyncio.timeout(30):
                await body(engine, gate)
            return gate

    found: Gate = with_engine(settings, main)
    return found


def positions(gate: Gate) -> list[int]:
    """The place of each slot in the last run."""
    place: list[int] = gate.runs[-1][1]["position"].tolist()
    return place


@pytest.mark.parametrize("runners", [1, 3])
def test_every_sequence_has_wishes_of_its_own(few: Settings, toy: ToyLine, runners: int) -> None:
    known = np.where(np.random.default_rng(1).random((3, SIDE, SIDE)) < 0.5, 2, -1).astype(np.int32)
    asked = [
        wishes(3, 1, temperature=0.7),
        wishes(1, 2, top_k=2),
        wishes(5, 3, top_p=0.5, temperature=1.5),
        wishes(3, 4) | {"known": known},
        wishes(2, 5, temperature=0.0),
    ]

    async def body(engine: Engine) -> None:
        found = await asyncio.gather(*[await start(engine, rows) for rows in asked])
        for codes, rows in zip(found, asked, strict=True):
            assert np.array_equal(codes, expected(toy, rows))
        assert (found[3][known >= 0] == 2).all()
        load = engine.loads[f"{NAME}@1", STEP]
        assert load.rows == 14 * PLACES
        assert load.buckets == {SLOTS: load.runs}
        # 14 sequences in 4 slots without a pause: as many runs as three and a half of them take.
        assert load.runs <= 4 * PLACES + len(asked)
        assert engine.queue_rows == engine.batcher.queue_bytes == 0

    with_engine(few.model_copy(update={"runners": runners}), body)


def test_a_newcomer_joins_at_the_next_step(few: Settings, toy: ToyLine) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        first = await start(engine, wishes(1, 1))
        await gate.step(5)
        second = await start(engine, wishes(2, 2))
        await gate.step(2)
        assert positions(gate) == [7, 1, 1, 0]
        gate.open()
        assert np.array_equal(await first, expected(toy, wishes(1, 1)))
        assert np.array_equal(await second, expected(toy, wishes(2, 2)))

    gate = gated(few, body)
    assert len(gate.runs) == 6 + PLACES


def test_urgent_sequences_pause_bulk_ones_wherever_they_are(few: Settings, toy: ToyLine) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        bulk = await start(engine, wishes(6, 1), BULK)
        await gate.step(6)
        assert positions(gate) == [6] * SLOTS
        urgent = await start(engine, wishes(3, 2))
        await gate.step(1)
        assert sorted(positions(gate)) == [0, 0, 0, 7], "one slot stays with the bulk lane"
        await gate.runs_until(urgent)
        assert np.array_equal(await urgent, expected(toy, wishes(3, 2)))
        assert not bulk.done()
        gate.open()
        assert np.array_equal(await bulk, expected(toy, wishes(6, 1)))

    gated(few, body)


def test_progress_tells_every_code(few: Settings, toy: ToyLine) -> None:
    async def body(engine: Engine, gate: Gate) -> None:
        progress = Progress()
        drawing = await start(engine, wishes(2, 1), Caller(progress=progress))
        await gate.step(5)
        await progress.change()
        assert (progress.done, progress.of) == (10, 32)
        flat, whole = progress.codes[0].reshape(2, PLACES), expected(toy, wishes(2, 1)).reshape(2, PLACES)
        assert np.array_equal(flat[:, :5], whole[:, :5])
        assert (flat[:, 5:] == UNDRAWN).all()
        gate.open()
        await drawing
        assert progress.fraction == 1.0

    gated(few, body)


def test_the_links_of_a_chain_draw_side_by_side(few: Settings, toy: ToyLine) -> None:
    async def body(engine: Engine) -> None:
        model = engine.model(NAME, "sample")
        rasters = [engine.draw(model, grids(2, seed=seed)) for seed in range(3)]
        sequences = [engine.draw(model, wishes(2, seed), link=1) for seed in range(3)]
        found = await asyncio.gather(*rasters, *sequences)
        for seed in range(3):
            assert np.array_equal(found[seed], expected_raster(toy.tokens, grids(2, seed=seed)))
            assert np.array_equal(found[3 + seed], expected(toy, wishes(2, seed)))
        assert set(engine._samplers[model]) == {0, 1}

    with_engine(few, body)


def test_a_sequence_is_the_same_to_the_bit_whoever_is_drawn_beside_it(few: Settings) -> None:
    """Its logits as well: the toy's are compared, which differ in the last bits where the order of a sum does."""
    mine = wishes(1, 9)

    def logits(gate: Gate, position: int) -> bytes:
        runs = [feeds for role, feeds in gate.runs if role == STEP]
        row = next(
            (feeds, slot)
            for feeds in runs
            for slot in range(SLOTS)
            if feeds["position"][slot] == position
            and np.array_equal(feeds["given"][slot], mine["given"].reshape(16, 6)[position])
        )
        return b"".join(row[0][name][row[1]].tobytes() for name in sorted(row[0]))

    def drawn(others: int) -> list[bytes]:
        async def body(engine: Engine, gate: Gate) -> None:
            tasks = [await start(engine, wishes(1, seed)) for seed in range(others)]
            if others:
                await gate.step(others)
            tasks.append(await start(engine, mine))
            gate.open()
            await asyncio.gather(*tasks)

        gate = gated(few, body)
        return [logits(gate, position) for position in range(PLACES)]

    alone = drawn(0)
    for others in (1, 2, 3, 5):
        assert drawn(others) == alone
