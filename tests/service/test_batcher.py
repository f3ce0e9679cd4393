"""The batcher: joining, padding, splitting, and every waiter answered whatever happens."""

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from service.engine.batcher import Batcher, Key, Limits
from service.engine.lanes import CALLER, Caller, Lane
from service.engine.plan import Plan
from service.engine.queues import Kernel, Load
from service.engine.staging import Staging
from service.engine.work import Arrays
from service.errors import DeadlineError, OverloadedError, UnavailableError


class Recorder:
    """A graph that doubles x, and remembers what it was run on."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException = ValueError("negative")

    def __call__(self, key: Key[str], rows: Arrays) -> Arrays:
        self.gate.wait(10)
        self.batches.append((key.operation, len(rows["x"])))
        if (rows["x"] < 0).any():
            raise self.error
        return {"y": rows["x"] * 2}


def rows(*values: float) -> Arrays:
    return {"x": np.array(values, dtype=np.float32)[:, None]}


def submit(batcher: Batcher[str], values: Arrays, operation: str = "double") -> "asyncio.Task[Arrays]":
    return asyncio.ensure_future(batcher.submit(Key.of("model@1", operation, values), values))


def scenario(
    body: Callable[[Batcher[str], Recorder], object],
    buckets: tuple[int, ...] = (1, 2, 4),
    max_queue_rows: int = 100,
    max_queue_bytes: int = 10_000,
    runners: int = 1,
) -> Recorder:
    """Run a coroutine function with a fresh batcher, whose operation `large` is run row by row, each of 10 bytes."""
    recorder = Recorder()

    def kernel(key: Key[str]) -> Kernel:
        large = key.operation == "large"
        plan = Plan(dict.fromkeys((1,) if large else buckets, 1e-3))
        return Kernel(lambda feeds: recorder(key, feeds), plan, Staging(np.empty), 10 if large else 1, Load())

    async def main() -> None:
        batcher = Batcher(kernel, limits=Limits(max_queue_rows, max_queue_bytes), runners=runners)
        batcher.start()
        try:
            await asyncio.wait_for(body(batcher, recorder), 20)
        finally:
            recorder.gate.set()
            await batcher.stop()

    asyncio.run(main())
    return recorder


def test_an_answer_has_the_rows_of_its_request() -> None:
    async def body(batcher: Batcher[str], _: Recorder) -> None:
        answers = await asyncio.gather(*(submit(batcher, rows(*range(n, 2 * n))) for n in range(1, 12)))
        for n, answer in zip(range(1, 12), answers, strict=True):
            assert answer["y"][:, 0].tolist() == [2.0 * value for value in range(n, 2 * n)]

    recorder = scenario(body)
    assert {size for _, size in recorder.batches} <= {1, 2, 4}


def test_rows_accumulate_while_the_worker_is_busy_and_not_before() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        others = [submit(batcher, rows(value)) for value in (2, 3, 4)]
        await asyncio.sleep(0.01)
        assert batcher.queue_rows == 3
        recorder.gate.set()
        assert (await first)["y"].tolist() == [[2.0]]
        await asyncio.gather(*others)

    assert scenario(body).batches == [("double", 1), ("double", 4)]


def test_keys_do_not_mix() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        tasks = [submit(batcher, rows(1), name) for name in ("a", "a", "b", "a", "b")]
        await asyncio.sleep(0.01)
        recorder.gate.set()
        await asyncio.gather(*tasks)

    names = [name for name, _ in scenario(body, buckets=(1,)).batches]
    assert names == ["a", "a", "b", "a", "b"]


def test_a_bad_request_fails_alone() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        tasks = [submit(batcher, rows(value)) for value in (0, 1, -1, 3)]
        await asyncio.sleep(0.01)
        recorder.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[2], ValueError)
        assert [result["y"].item() for index, result in enumerate(results) if index != 2] == [0.0, 2.0, 6.0]

    scenario(body)


def test_what_nobody_waits_for_is_not_run() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        dropped = submit(batcher, rows(2, 3))
        kept = submit(batcher, rows(4))
        await asyncio.sleep(0.01)
        dropped.cancel()
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.gather(first, kept)
        assert batcher.queue_rows == 0

    assert scenario(body).batches == [("double", 1), ("double", 1)]


def test_beyond_its_limit_the_queue_refuses_with_a_time_to_come_again() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        waiting = submit(batcher, rows(*range(5)))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="come again") as caught:
            await submit(batcher, rows(1))
        assert caught.value.retry_after_s >= 1
        recorder.gate.set()
        await asyncio.gather(first, waiting)
        assert (await submit(batcher, rows(1)))["y"].item() == 2.0

    scenario(body, max_queue_rows=5)


def test_stopping_refuses_the_waiting_and_finishes_the_running() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        running = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        waiting = submit(batcher, rows(2))
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(batcher.stop())
        await asyncio.sleep(0)
        recorder.gate.set()
        await stopping
        assert (await running)["y"].item() == 2.0
        with pytest.raises(UnavailableError, match="shutting down"):
            await waiting
        with pytest.raises(UnavailableError, match="shutting down"):
            await submit(batcher, rows(3))

    scenario(body)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_runner_that_dies_fails_its_own_requests_shows_and_is_replaced(error: BaseException) -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.error = error
        recorder.gate.clear()
        first = submit(batcher, rows(-1))
        await asyncio.sleep(0.01)
        waiting = submit(batcher, rows(1), "other")
        await asyncio.sleep(0.01)
        recorder.gate.set()
        with pytest.raises(UnavailableError, match="died"):
            await first
        assert batcher.fault is not None
        assert type(error).__name__ in batcher.fault
        assert (await waiting)["y"].item() == 2.0
        assert batcher.fault is None
        assert batcher.deaths == 1

    scenario(body)


def test_what_a_graph_raises_ends_its_request_and_nothing_else() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.error = StopIteration()
        with pytest.raises(RuntimeError, match="StopIteration"):
            await submit(batcher, rows(-1))
        assert (await submit(batcher, rows(1)))["y"].item() == 2.0
        assert batcher.deaths == 0

    scenario(body)


def as_caller(lane: Lane, expires_s: float | None = None) -> None:
    """Let what the current task asks for from now on be of a lane."""
    CALLER.set(Caller(lane, expires_s))


def test_interactive_rows_go_before_bulk_and_bulk_does_not_starve() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(0))
        await asyncio.sleep(0.01)
        as_caller(Lane.BULK)
        bulk = [submit(batcher, rows(1), "bulk") for _ in range(3)]
        await asyncio.sleep(0)
        as_caller(Lane.INTERACTIVE)
        urgent = [submit(batcher, rows(1), "urgent") for _ in range(20)]
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.gather(first, *bulk, *urgent)

    names = [name for name, _ in scenario(body, buckets=(1,)).batches][1:]
    assert names[:5] == ["urgent"] * 5
    assert names.index("bulk") <= 8
    assert names.count("bulk") == 3


def test_within_a_lane_the_oldest_goes_first_whatever_its_graph() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        tasks = [submit(batcher, rows(0), "first")]
        await asyncio.sleep(0.01)
        tasks += [submit(batcher, rows(1), name) for name in ("a", "b", "c", "a", "b")]
        await asyncio.sleep(0)
        recorder.gate.set()
        await asyncio.gather(*tasks)

    assert [name for name, _ in scenario(body).batches] == ["first", "a", "b", "c"]


def test_a_request_whose_deadline_has_passed_is_not_run() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        as_caller(Lane.INTERACTIVE, time.monotonic() + 0.05)
        late = submit(batcher, rows(2))
        await asyncio.sleep(0.1)
        recorder.gate.set()
        await first
        with pytest.raises(DeadlineError, match="deadline passed"):
            await late
        assert batcher.queue_rows == 0

    assert scenario(body).batches == [("double", 1)]


def test_a_request_that_would_be_late_is_refused_at_once() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        waiting = [submit(batcher, rows(1), "large") for _ in range(100)]  # a millisecond each, as the plan says
        await asyncio.sleep(0)
        as_caller(Lane.INTERACTIVE, time.monotonic() + 0.05)
        with pytest.raises(OverloadedError, match="past the deadline"):
            await submit(batcher, rows(1))
        recorder.gate.set()
        await asyncio.gather(first, *waiting)

    scenario(body, max_queue_rows=1000)


def test_what_follows_a_first_run_counts_and_goes_before_those_who_came_later() -> None:
    async def request(batcher: Batcher[str]) -> None:
        CALLER.set(Caller(Lane.INTERACTIVE, time.monotonic() + 10))
        await batcher.submit(Key.of("model@1", "first", rows(1)), rows(1))
        await batcher.submit(Key.of("model@1", "second", rows(1)), rows(1), admit=0)

    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        for _ in range(50):
            await asyncio.ensure_future(request(batcher))
        recorder.batches.clear()
        recorder.gate.clear()
        tasks = [asyncio.ensure_future(request(batcher)) for _ in range(4)]
        await asyncio.sleep(0.01)
        first = batcher._queues[Key.of("model@1", "first", rows(1))]
        assert first.later_s > 0.0
        assert batcher.backlog_s == pytest.approx(3 * (first.row_s + first.later_s))
        gate, recorder.gate.wait = recorder.gate, lambda _: time.sleep(0.02)  # type: ignore[method-assign,assignment]
        gate.set()
        await asyncio.gather(*tasks)

    names = [name for name, _ in scenario(body, buckets=(1,)).batches]
    assert names.count("first") == names.count("second") == 4
    assert names.index("second") < 3, "whoever came first is finished before the last has begun"


def test_several_runners_take_turns_at_the_same_time() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        barrier = threading.Barrier(3)
        recorder.gate.wait = lambda _: barrier.wait(10)  # type: ignore[method-assign,assignment]
        await asyncio.gather(*(submit(batcher, rows(value)) for value in (1, 2, 3)))

    scenario(body, buckets=(1,), runners=3)


def test_rows_fill_buckets_across_requests() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        tasks = [submit(batcher, rows(0))]
        await asyncio.sleep(0.01)
        tasks += [submit(batcher, rows(*range(size))) for size in (3, 3, 2)]
        await asyncio.sleep(0)
        recorder.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [answer["y"][:, 0].tolist() for answer in answers[1:]] == [[0, 2, 4], [0, 2, 4], [0, 2]]

    assert [size for _, size in scenario(body).batches] == [1, 4, 4]


def test_large_rows_run_in_buckets_of_their_own() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        tasks = [submit(batcher, rows(*range(3)), name) for name in ("large", "small")]
        await asyncio.sleep(0.01)
        recorder.gate.set()
        answers = await asyncio.gather(*tasks)
        assert all(answer["y"][:, 0].tolist() == [0.0, 2.0, 4.0] for answer in answers)

    batches = scenario(body).batches
    assert sorted(batches) == [("large", 1), ("large", 1), ("large", 1), ("small", 4)]


def test_a_full_queue_does_not_refuse_a_request_half_done() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        waiting = submit(batcher, rows(*range(5)))
        await asyncio.sleep(0)
        values = rows(7)
        going_on = asyncio.ensure_future(batcher.submit(Key.of("model@1", "double", values), values, admit=0))
        with pytest.raises(OverloadedError):
            await submit(batcher, rows(1))
        recorder.gate.set()
        await asyncio.gather(first, waiting)
        assert (await going_on)["y"].item() == 14.0

    scenario(body, max_queue_rows=5)


def test_a_request_is_counted_with_all_its_rows_when_it_is_let_in() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        waiting = submit(batcher, rows(2))
        await asyncio.sleep(0)
        values = rows(7)
        with pytest.raises(OverloadedError, match="1 rows wait already and 5 more would exceed 5"):
            await batcher.submit(Key.of("model@1", "double", values), values, admit=5)
        recorder.gate.set()
        await asyncio.gather(first, waiting)

    scenario(body, max_queue_rows=5)


def test_the_queue_counts_bytes_and_lets_one_request_in_whatever_its_size() -> None:
    async def body(batcher: Batcher[str], recorder: Recorder) -> None:
        recorder.gate.clear()
        first = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        largest = submit(batcher, rows(*range(6)), "large")
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="1 more of 10 bytes each would exceed 50 bytes"):
            await submit(batcher, rows(1), "large")
        recorder.gate.set()
        await asyncio.gather(first, largest)
        recorder.gate.clear()
        running = submit(batcher, rows(1))
        await asyncio.sleep(0.01)
        some = [submit(batcher, rows(1), "large") for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="5 rows wait already"):
            await submit(batcher, rows(1))
        recorder.gate.set()
        await asyncio.gather(running, *some)

    scenario(body, max_queue_bytes=50)
