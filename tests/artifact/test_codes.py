"""Code lengths and draws from logits, against scipy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from artifact.codes import ALL_CODES, Raster, draw_codes, surprise_nats
from artifact.manifest import DType, Tensor

LOGITS = np.random.default_rng(0).normal(scale=2.0, size=(4000, 6)).astype(np.float32)


def test_surprise_is_minus_log_softmax() -> None:
    logits = LOGITS[:24].reshape(2, 3, 4, 6)
    codes = np.random.default_rng(1).integers(0, 6, (2, 3, 4), dtype=np.int32)
    expected = -np.take_along_axis(special.log_softmax(logits.astype(np.float64), -1), codes[..., None].astype(int), -1)
    np.testing.assert_allclose(surprise_nats(logits, codes), expected[..., 0], rtol=1e-12)
    huge = np.full((1, 1, 1, 3), 1e30, dtype=np.float32)
    assert surprise_nats(huge, np.zeros((1, 1, 1), dtype=np.int32)) == pytest.approx(np.log(3))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("top_k", [None, 1, 3, 6])
def test_draws_follow_their_distribution(temperature: float, top_k: int | None) -> None:
    logits = np.repeat(LOGITS[:1], 20_000, axis=0)
    uniform = np.random.default_rng(2).random(len(logits))
    scores = LOGITS[0].astype(np.float64) / temperature
    if top_k is not None:
        scores[np.argsort(-scores)[top_k:]] = -np.inf
    expected = special.softmax(scores) * len(logits)
    drawn = np.bincount(draw_codes(logits, uniform, temperature=temperature, top_k=top_k), minlength=6)
    assert (drawn[expected == 0] == 0).all()
    possible = expected > 0
    assert possible.sum() == 1 or stats.chisquare(drawn[possible], expected[possible]).pvalue > 1e-3


def test_the_inverse_of_the_distribution_is_exact_at_its_borders() -> None:
    logits = np.log(np.array([[0.25, 0.25, 0.5]], dtype=np.float32))
    for uniform, code in ((0.0, 0), (0.2499, 0), (0.2501, 1), (0.4999, 1), (0.5001, 2), (1.0 - 2.0**-53, 2)):
        assert draw_codes(logits, np.array([uniform])) == code


def test_no_temperature_and_one_candidate_give_the_most_probable_code() -> None:
    uniform = np.random.default_rng(3).random(len(LOGITS))
    for found in (draw_codes(LOGITS, uniform, temperature=0.0), draw_codes(LOGITS, uniform, top_k=1)):
        assert found.dtype == np.int32
        assert np.array_equal(found, LOGITS.argmax(1))


def test_the_least_temperatures_are_as_none() -> None:
    uniform = np.random.default_rng(3).random(len(LOGITS))
    for temperature in (1e-320, 5e-324):
        assert np.array_equal(draw_codes(LOGITS, uniform, temperature=temperature), LOGITS.argmax(1))


def test_a_code_without_weight_is_never_drawn() -> None:
    logits = np.array([[0.0, -2e4, -2e4]], dtype=np.float32)
    assert draw_codes(logits, np.array([1.0 - 2.0**-53])) == 0
    ties = np.zeros((1, 4), dtype=np.float32)
    assert draw_codes(ties, np.array([0.999]), top_k=2) == 1, "of equal logits the first count"


def test_each_row_has_a_temperature_and_candidates_of_its_own() -> None:
    generator = np.random.default_rng(4)
    logits = np.round(generator.normal(scale=2.0, size=(500, 9))).astype(np.float32)  # with many ties
    uniform, temperature = generator.random(500), generator.choice([0.0, 1e-320, 0.4, 1.0, 9.0], 500)
    top_k = generator.choice([1, 2, 5, 9, ALL_CODES], 500)
    found = draw_codes(logits, uniform, temperature=temperature, top_k=top_k)
    for row in range(500):
        allowed = np.sort(np.argsort(-logits[row], kind="stable")[: top_k[row]])
        scores = logits[row, allowed].astype(np.float64)
        if temperature[row] == 0:
            assert found[row] == allowed[scores.argmax()]
            continue
        with np.errstate(over="ignore"):
            weights = np.exp((scores - scores.max()) / temperature[row]).cumsum()
        assert found[row] == allowed[np.searchsorted(weights, uniform[row] * weights[-1], side="right")]


@dataclass(frozen=True)
class Inputs:
    inputs: tuple[Tensor, ...]


class Away:
    """A state that lies where numpy cannot reach it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array


def test_grids_join_pause_and_go_on_wherever_their_states_lie() -> None:
    """The toy graphs count: a place's logits name a code that tells how far its grid has come, by its states alone."""

    def tensor(name: str, *shape: int | str, dtype: DType = "float32") -> Tensor:
        return Tensor(name=name, dtype=dtype, shape=("B", *shape), unit="hidden")

    row = (tensor("codes", 3, dtype="int32"), tensor("position", dtype="int64"), tensor("state_rows", 1))
    pixel = (
        tensor("code", dtype="int32"),
        tensor("position", dtype="int64"),
        tensor("context", 1),
        tensor("state_n", 1),
    )
    graphs = {"prior_row": Inputs(row), "prior_pixel": Inputs(pixel)}

    def run(role: str, feeds: Mapping[str, Any]) -> dict[str, Any]:
        state = next(value for name, value in feeds.items() if name.startswith("state_"))
        state = state.array if isinstance(state, Away) else state
        if role == "prior_row":
            return {"context": np.repeat(state[:, None], 3, 1), "next_state_rows": Away(state + 1)}
        code = 3 * feeds["context"] + np.where(feeds["position"] % 3 == 0, 0, state[:, 0])[:, None]
        return {
            "logits": -np.abs(np.arange(12) - code).astype(np.float32),
            "next_state_n": Away(code - 3 * feeds["context"] + 1),
        }

    raster = Raster(graphs, 4, 3, slots=2, host=lambda away: away.array.copy())
    assert raster.kept == {"prior_row": ("next_state_rows",), "prior_pixel": ("next_state_n",)}
    uniform = np.zeros(12)

    def take_row() -> None:
        for _ in range(1 + 3):
            raster.proceed(run(*raster.call()))

    raster.join(0, uniform, temperature=0.0)
    take_row()
    raster.join(1, uniform, temperature=0.0)
    take_row()
    assert raster.rows.tolist() == [2, 1]
    paused = raster.pause(0)
    take_row()
    raster.join(0, uniform, temperature=0.0, paused=paused)
    take_row()
    take_row()
    assert raster.rows.tolist() == [4, 4]
    assert raster.codes.reshape(2, 12).tolist() == [list(range(12))] * 2
    raster.leave(0)
    assert raster.is_active.tolist() == [False, True]
