"""Chains in the making: what is shown of them, and how they are let in."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.engine.engine import Engine
from service.engine.lanes import Caller, as_caller
from service.engine.plan import Plan
from service.engine.progress import UNDRAWN
from service.errors import OverloadedError, TooLargeError
from service.levels import Codes
from service.sampling import decode_drawn, sample_codes
from service.settings import Settings
from tests.service.gate import Gate, until
from tests.service.serving import with_engine
from tests.toys import chains
from tests.toys.chains import ToyChain
from tests.toys.publish import publish

GREY = 128


@pytest.fixture
def tree() -> ToyChain:
    return chains.make(1, (4, 2), ((5,), (6,)))


@pytest.fixture
def stack() -> ToyChain:
    return chains.make(2, (2,), ((5, 5, 5),))


@pytest.fixture
def of_chains(tmp_path: Path, tree: ToyChain, stack: ToyChain) -> Settings:
    for name, toy in (("tree", tree), ("stack", stack)):
        publish(tmp_path, name, chains.toy(toy))
    return Settings(store=tmp_path, device="cpu", threads=1, buckets=(2,), slots=2, max_rows=4, max_queue_rows=4)


def test_what_is_not_drawn_yet_is_grey_coarse_or_left_out(of_chains: Settings, tree: ToyChain, stack: ToyChain) -> None:
    async def body(engine: Engine) -> None:
        top = tree.encode(tree.images(2))["codes_0"]
        top[:, 1] = UNDRAWN
        shown = await decode_drawn(engine, engine.named("tree")[0], [top])
        coarse = {"codes_0": np.maximum(top, 0), "codes_1": np.zeros((2, 4, 4), dtype=np.int32)}
        assert np.abs(shown[:, :4] - np.clip(tree.decode(coarse), 0, 255)[:, :4]).max() <= 0.51
        assert (shown[:, 4:] == GREY).all()
        codes = stack.encode(stack.images(2))["codes"]
        codes[:, 1, 2:] = UNDRAWN
        codes[:, 2] = UNDRAWN
        shown = await decode_drawn(engine, engine.named("stack")[0], [codes[:, 0], codes[:, 1]])
        assert np.abs(shown - np.clip(stack.decode({"codes": codes}), 0, 255)).max() <= 0.51

    with_engine(of_chains, body)


def test_a_chain_that_was_let_in_is_not_refused_at_a_later_link(of_chains: Settings, tree: ToyChain) -> None:
    async def body(engine: Engine) -> None:
        model = engine.named("tree")[0]
        nobody = {"condition": np.full(2, len(chains.CLASSES))}
        draws = [sample_codes(engine, model, n=2, seed=seed, first_index=0, conditions=nobody) for seed in range(6)]
        answers = await asyncio.gather(*draws, return_exceptions=True)
        refused = [isinstance(answer, OverloadedError) for answer in answers]
        assert any(refused)
        for seed, answer in enumerate(answers):
            if not isinstance(answer, BaseException):
                expected = tree.joined(tree.sample(2, seed, nobody["condition"]))
                assert all(np.array_equal(answer[name], codes) for name, codes in expected.items())
        assert all(refused[seed] or not isinstance(answer, BaseException) for seed, answer in enumerate(answers))
        assert refused.count(False) >= 2

    with_engine(of_chains, body)


def test_a_chain_is_let_in_by_the_time_of_all_its_links(of_chains: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: Engine) -> None:
        model = engine.named("tree")[0]
        for role, plan in list(model.plans.items()):
            seconds = 100.0 if role.startswith("prior_1") else 1e-9
            monkeypatch.setitem(model.plans, role, Plan(dict.fromkeys(plan.seconds, seconds)))
        nobody = {"condition": np.full(1, len(chains.CLASSES))}

        def draw(seed: int) -> Coroutine[Any, Any, Codes]:
            return sample_codes(engine, model, n=1, seed=seed, first_index=0, conditions=nobody)

        with Gate(model) as gate:
            tasks = [asyncio.create_task(draw(1))]
            await until(lambda: bool(gate.runs))
            # The first one has a slot; this one waits for a row to begin.
            tasks.append(asyncio.create_task(draw(2)))
            await until(lambda: engine.queue_rows == 1)
            late = as_caller(Caller(expires_s=time.monotonic() + 50))
            with late, pytest.raises(OverloadedError, match="past the deadline"):
                await draw(3)
            gate.open()
            await asyncio.gather(*tasks)

    with_engine(of_chains, body)


def test_what_later_links_depend_on_is_bounded(of_chains: Settings) -> None:
    async def body(engine: Engine) -> None:
        model = engine.named("tree")[0]
        nobody = {"condition": np.full(2, len(chains.CLASSES))}
        with pytest.raises(TooLargeError, match="go on with first_index"):
            await sample_codes(engine, model, n=2, seed=1, first_index=0, conditions=nobody)
        one = {"condition": nobody["condition"][:1]}
        assert await sample_codes(engine, model, n=1, seed=1, first_index=0, conditions=one)

    # 6 numbers of 4 bytes at each of 16 places.
    with_engine(of_chains.model_copy(update={"max_queue_bytes": 6 * 4 * 16}), body)
