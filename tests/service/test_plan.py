"""At which batch sizes a graph is run: chosen by what they cost, measured, and kept for the next start."""

import itertools
from pathlib import Path

import pytest

from service.engine.devices import DeviceReport
from service.engine.plan import Plan
from service.engine.profile import FOLDER, ProfileCache, environment, measure
from service.settings import Settings


def cheapest(plan: Plan, rows: int) -> float:
    """The least time in which rows can be run, by trying all multisets of buckets that hold them."""
    most = -(-rows // plan.buckets[0])
    combinations = itertools.chain.from_iterable(
        itertools.combinations_with_replacement(plan.buckets, count) for count in range(1, most + 1)
    )
    return min(sum(plan.seconds[size] for size in sizes) for sizes in combinations if sum(sizes) >= rows)


@pytest.mark.parametrize(
    "seconds",
    [
        {1: 1.0, 2: 1.9, 4: 3.6, 8: 7.0},  # grows with the batch, as on a CPU
        {1: 1.0, 2: 1.0, 4: 1.1, 8: 1.2},  # does not, as on a GPU
        {1: 2.0, 4: 2.5, 8: 9.0},
        {2: 1.0, 8: 3.0},
    ],
)
def test_runs_are_chosen_so_that_what_waits_is_done_soonest(seconds: dict[int, float]) -> None:
    plan = Plan(seconds)
    for waiting in range(1, plan.largest + 1):
        left, time_s = waiting, 0.0
        while left > 0:
            bucket = plan.bucket(left)
            left, time_s = left - bucket, time_s + seconds[bucket]
        assert time_s == pytest.approx(cheapest(plan, waiting))
    assert plan.bucket(1000) == plan.bucket(plan.largest)


def test_a_larger_batch_is_kept_only_where_it_is_faster_a_row() -> None:
    slow_rows = {size: 10e-3 * size for size in (1, 2, 4, 8)}
    assert Plan.of(slow_rows).buckets == (1,)
    quick_rows = {size: 50e-6 * size for size in (1, 2, 4, 8)}
    assert Plan.of(quick_rows).largest == 8, "what a run costs beside the graph is shared by its rows"
    worse = {1: 1e-3, 2: 1.2e-3, 4: 8e-3}
    assert Plan.of(worse).buckets == (1, 2)


def test_a_budget_caps_the_sizes_and_always_leaves_one_row() -> None:
    plan = Plan({2: 1.0, 8: 2.0})
    assert plan.capped(7).buckets == (2,)
    assert dict(plan.capped(1).seconds) == {1: 0.5}


def test_the_fastest_of_several_runs_counts_and_hopeless_sizes_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes, slow = 0.0, [], iter([5.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0, 1.0] + [1.0] * 100)

    def run(size: int) -> None:
        nonlocal clock
        sizes.append(size)
        clock += {1: 1e-3, 2: 1.5e-3, 4: 20e-3, 8: 1e-3}[size] * next(slow)

    monkeypatch.setattr("time.perf_counter", lambda: clock)
    measured = measure(run, (1, 2, 4, 8))
    assert measured == pytest.approx({1: 1e-3, 2: 1.5e-3, 4: 20e-3})
    assert 8 not in sizes


def test_a_profile_is_kept_for_the_same_model_and_surroundings_alone(tmp_path: Path) -> None:
    device = DeviceReport("cpu", "cpu", "")
    here = environment(device, Settings(threads=1), None)
    seconds = {"encode": {1: 0.1, 2: 0.2}}
    ProfileCache(tmp_path, here).write("model@1", "a" * 64, seconds)
    assert ProfileCache(tmp_path, here).read("model@1", "a" * 64) == seconds
    assert ProfileCache(tmp_path, here).read("model@1", "b" * 64) == {}
    assert ProfileCache(tmp_path, here).read("model@2", "a" * 64) == {}
    assert ProfileCache(tmp_path, environment(device, Settings(threads=2), None)).read("model@1", "a" * 64) == {}
    (tmp_path / FOLDER / "model@1.json").write_text("{")
    assert ProfileCache(tmp_path, here).read("model@1", "a" * 64) == {}


def test_a_store_that_cannot_be_written_is_measured_anew(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    cache = ProfileCache(tmp_path, {})
    cache.write("model@1", "a" * 64, {"encode": {1: 0.1}})
    assert cache.read("model@1", "a" * 64) == {}
