"""Who asks, and what a long bound leaves to others."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from service import continuous
from service.engine.engine import Engine
from service.engine.lanes import Caller, Lane, as_caller, current_caller, in_lane
from service.engine.opening import SAMPLE_SLICE
from service.engine.runtime import Session
from service.settings import Settings
from tests.service.gate import until
from tests.service.serving import with_engine


def test_a_lane_for_a_while_and_the_times_stay_with_the_caller() -> None:
    assert current_caller() == Caller()
    with as_caller(Caller(expires_s=7.0, queue_s=1.0)) as caller:
        with in_lane(Lane.BULK):
            inner = current_caller()
            assert (inner.lane, inner.expires_s) == (Lane.BULK, 7.0)
            inner.queue_s += 2.0
            inner.compute_s += 3.0
        assert current_caller() is caller
        assert caller == Caller(expires_s=7.0, queue_s=3.0, compute_s=3.0)


def test_the_later_slices_of_a_long_bound_let_everybody_else_go_first(
    settings: Settings, toy_references: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound of four pictures, run one by one: an encode that comes meanwhile is the very next run."""
    images = toy_references["toy-binary"].images(4)
    run, slices = Session.run, 6
    order: list[str] = []
    is_reached, is_waiting = threading.Event(), threading.Event()

    def watched(session: Session, feeds: Any, **options: Any) -> Any:
        order.append("slice" if "noise" in feeds else "encode")
        if order.count("slice") == 9 and not is_reached.is_set():  # the first picture of the third slice
            is_reached.set()
            assert is_waiting.wait(10)
        return run(session, feeds, **options)

    async def body(engine: Engine) -> None:
        model = engine.model("toy-binary", "likelihood")
        expected = await likelihood(engine, 4)
        monkeypatch.setattr(Session, "run", watched)
        bounding = asyncio.ensure_future(likelihood(engine, 4))
        await until(is_reached.is_set)
        encoding = asyncio.ensure_future(continuous.encode(engine, model, images[:1]))
        await until(lambda: engine.queue_rows == 4)  # behind the other three pictures
        is_waiting.set()
        await encoding
        found = await bounding
        assert np.array_equal(found.iwae_nats, expected.iwae_nats)

    async def likelihood(engine: Engine, count: int) -> Any:
        model = engine.model("toy-binary", "likelihood")
        return await continuous.likelihood(
            engine, model, images[:count], samples=slices * SAMPLE_SLICE, seed=1, first_index=0
        )

    with_engine(settings.model_copy(update={"buckets": (1,)}), body)
    assert order == ["encode"] * 4 + ["slice"] * 9 + ["encode"] + ["slice"] * (slices * 4 - 9)
