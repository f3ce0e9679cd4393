"""Batches of drawings, in rows and in a line: joining, pausing, caches, known codes, and what is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from artifact.codes import draw_codes
from artifact.drawing import TO_DRAW, Drawing
from artifact.line import Line
from artifact.manifest import CodePrior, DType, Link, Tensor
from artifact.raster import Raster
from artifact.sampling import all_step_roles, complete, sample

K, RING, LENGTH, CLASSES = 7, 3, 12, 4
TABLES = np.random.default_rng(0).normal(scale=2.0, size=(RING + 1, K, K))
BY_CLASS = np.random.default_rng(1).normal(size=(CLASSES + 1, K))
NOISE = np.random.default_rng(2).random((8, LENGTH))


@dataclass(frozen=True)
class Inputs:
    inputs: tuple[Tensor, ...]


def tensor(name: str, *shape: int | str, dtype: DType = "float32", maximum: int | None = None) -> Tensor:
    return Tensor(name=name, dtype=dtype, shape=("B", *shape), maximum=maximum, unit="hidden")


STEP = Inputs(
    (
        tensor("code", dtype="int32"),
        tensor("position", dtype="int64"),
        tensor("cache_codes", RING, 1),
        tensor("state_count", 1),
        tensor("given", K),
        tensor("speaker", dtype="int64", maximum=CLASSES),
    )
)


def scores(codes: np.ndarray, place: int, given: np.ndarray, speaker: int) -> np.ndarray:
    """Give the logits of a place from all codes before it: the last four of them count."""
    found = given[place] + BY_CLASS[speaker] + 0.1 * place
    for back in range(1, min(place, RING + 1) + 1):
        found = found + TABLES[back - 1, codes[place - back]]
    return found.astype(np.float32)


def take_step(role: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Take the same step from the code before, a ring of older ones, and a state that counts places."""
    assert role == "prior_2_step"
    logits = []
    for row, place in enumerate(feeds["position"]):
        found = feeds["given"][row] + BY_CLASS[feeds["speaker"][row]]
        if place:
            found = found + 0.1 * feeds["state_count"][row, 0] + TABLES[0, feeds["code"][row]]
        for back in range(1, min(place - 1, RING) + 1):
            # The entry of a place is the code before it, plus one: what was never written is 0.
            older = int(feeds["cache_codes"][row, (place - back) % RING, 0])
            found = found + TABLES[back, older - 1]
        logits.append(found)
    return {
        "logits": np.array(logits, dtype=np.float32),
        "next_state_count": feeds["position"][:, None].astype(np.float32) + 1,
        "entry_codes": feeds["code"][:, None].astype(np.float32) + 1,
    }


def expected(row: Mapping[str, Any]) -> np.ndarray:
    """Draw a sequence without steps or slots."""
    codes = np.zeros(LENGTH, dtype=np.int32)
    known = row.get("known", np.full(LENGTH, TO_DRAW))
    for place in range(LENGTH):
        logits = scores(codes, place, row.get("given", np.zeros((LENGTH, K))), row.get("speaker", CLASSES))
        options = {name: row[name] for name in ("temperature", "top_k", "top_p") if name in row}
        drawn = draw_codes(logits[None], row["uniform"][place : place + 1], **options)[0]
        codes[place] = drawn if known[place] == TO_DRAW else known[place]
    return codes


def line(slots: int, grid: tuple[int, ...] = (LENGTH,)) -> Line:
    return Line("prior_2_step", {"prior_2_step": STEP}, grid, slots)


def proceed(drawing: Drawing, run: Callable[..., Any] = take_step, times: int = 1) -> None:
    for _ in range(times):
        drawing.proceed(run(*drawing.call()))


def rows() -> list[dict[str, Any]]:
    """Make wishes that all differ."""
    generator = np.random.default_rng(3)
    known = np.where(generator.random(LENGTH) < 0.4, generator.integers(0, K, LENGTH), TO_DRAW)
    return [
        {"uniform": NOISE[0]},
        {"uniform": NOISE[1], "temperature": 0.5, "speaker": 2, "label": "of no matter"},
        {"uniform": NOISE[2], "top_k": 2, "given": generator.normal(size=(LENGTH, K)).astype(np.float32)},
        {"uniform": NOISE[3], "top_p": 0.6, "speaker": 0},
        {"uniform": NOISE[4], "known": known, "temperature": 2.0},
    ]


def test_sequences_join_and_leave_at_any_step_each_with_its_own_wishes() -> None:
    drawing, wishes, found = line(3), rows(), {}
    waiting = list(range(len(wishes)))
    seats: dict[int, int] = {}
    step = 0
    while waiting or seats:
        if waiting and len(seats) < 3 and step % 2 == 0:  # one at a time, so that all are at different places
            slot = next(slot for slot in range(3) if slot not in seats)
            seats[slot] = waiting.pop(0)
            drawing.join(slot, wishes[seats[slot]])
        proceed(drawing)
        for slot in [slot for slot in seats if drawing.drawn[slot] == LENGTH]:
            found[seats.pop(slot)] = drawing.codes[slot].copy()
            drawing.leave(slot)
        step += 1
    for index, wish in enumerate(wishes):
        assert np.array_equal(found[index], expected(wish)), index
    assert not drawing.is_active.any()
    assert not drawing.drawn.any()


@pytest.mark.parametrize("after", [0, 1, 5, 11])
def test_a_paused_sequence_goes_on_with_its_caches_in_another_slot(after: int) -> None:
    drawing, (first, second, *_) = line(2), rows()
    drawing.join(0, first)
    proceed(drawing, times=after)
    paused = drawing.pause(0)
    assert paused.drawn == after
    drawing.join(0, second)
    proceed(drawing, times=3)
    drawing.join(1, first, paused)
    proceed(drawing, times=LENGTH - max(after, 3))
    for slot, wish, done in ((0, second, LENGTH - max(after, 3) + 3), (1, first, after + LENGTH - max(after, 3))):
        assert drawing.drawn[slot] == done
        assert np.array_equal(drawing.codes[slot, :done], expected(wish)[:done])


def test_a_grid_of_rows_is_drawn_as_a_sequence_in_raster_order() -> None:
    wish = rows()[4]
    drawing = line(1, (3, 4))
    drawing.join(0, wish | {"known": wish["known"].reshape(3, 4)})
    proceed(drawing, times=LENGTH)
    assert np.array_equal(drawing.codes[0], expected(wish).reshape(3, 4))


def test_known_codes_do_not_shift_the_noise_of_the_others() -> None:
    whole = {"uniform": NOISE[5], "temperature": 0.7}
    codes = expected(whole)
    known = np.where(np.arange(LENGTH) % 3 == 0, codes, TO_DRAW)
    drawing = line(1)
    drawing.join(0, whole | {"known": known})
    proceed(drawing, times=LENGTH)
    assert np.array_equal(drawing.codes[0], codes)


class Away:
    """A state that lies where numpy cannot reach it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


ROW = Inputs(
    (
        tensor("codes", "w", dtype="int32"),
        tensor("position", dtype="int64"),
        tensor("given", "w", 1),
        tensor("state_rows", 1),
        tensor("condition", dtype="int64", maximum=0),
    )
)
PIXEL = Inputs(
    (
        tensor("code", dtype="int32"),
        tensor("position", dtype="int64"),
        tensor("context", 1),
        tensor("state_n", 1),
        tensor("cache_all", 12, 1),
    )
)


def count(role: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Take steps that count: the logits name a code that tells how far a grid has come, by its memory alone."""
    state = next(value for name, value in feeds.items() if name.startswith("state_"))
    state = state.array if isinstance(state, Away) else state
    if role == "prior_row":
        assert np.array_equal(feeds["given"][:, :, 0] // 100, np.broadcast_to(feeds["position"][:, None], (2, 3)))
        return {"context": np.repeat(state[:, None], 3, 1), "next_state_rows": Away(state + 1)}
    code = 3 * feeds["context"] + np.where(feeds["position"] % 3 == 0, 0, state[:, 0])[:, None]
    for row, place in enumerate(feeds["position"]):
        assert np.array_equal(feeds["cache_all"][row, :place, 0], np.arange(place)), "all entries, and none is lost"
    return {
        "logits": -np.abs(np.arange(12) - code).astype(np.float32),
        "next_state_n": Away(code - 3 * feeds["context"] + 1),
        "entry_all": feeds["position"][:, None].astype(np.float32),
    }


def test_rasters_join_pause_and_go_on_wherever_their_states_lie() -> None:
    graphs = {"prior_row": ROW, "prior_pixel": PIXEL}
    raster = Raster("prior_row", "prior_pixel", graphs, (4, 3), slots=2, host=lambda away: away.array.copy())
    assert raster.kept == {"prior_row": ("next_state_rows",), "prior_pixel": ("next_state_n",)}
    assert raster.runs == {"prior_row": 4, "prior_pixel": 12}
    given = np.repeat(np.arange(4.0), 3).reshape(4, 3, 1) * 100
    wish = {"uniform": np.zeros(12), "temperature": 0.0, "given": given}

    raster.join(0, wish)
    proceed(raster, count, 1 + 3)
    raster.join(1, wish)
    proceed(raster, count, 1)
    assert not raster.is_between
    proceed(raster, count, 3)
    assert raster.drawn.tolist() == [6, 3]
    paused = raster.pause(0)
    proceed(raster, count, 1 + 3)
    raster.join(0, wish, paused)
    proceed(raster, count, 2 * (1 + 3))
    assert raster.drawn.tolist() == [12, 12]
    assert raster.codes.reshape(2, 12).tolist() == [list(range(12))] * 2
    raster.leave(0)
    assert raster.is_active.tolist() == [False, True]


def test_a_whole_draw_of_a_link_takes_the_steps_of_its_order() -> None:
    links = (Link(grid=(4, 3)), Link(grid=(4, 3)), Link(order="sequence", grid=(LENGTH,)))
    prior = CodePrior(links=links, prior_hash="0" * 64)
    assert all_step_roles(prior) == ("prior_row", "prior_pixel", "prior_1_row", "prior_1_pixel", "prior_2_step")
    assert all_step_roles(None) == ()
    asked = {"uniform": NOISE[:2], "speaker": np.array([1, 3]), "top_p": np.array([0.5, 1.0])}
    codes = complete(sample({"prior_2_step": STEP}, links[2], asked, index=2), take_step)
    for row in range(2):
        assert np.array_equal(codes[row], expected({name: array[row] for name, array in asked.items()}))
