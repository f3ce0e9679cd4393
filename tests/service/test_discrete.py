"""Models of integer codes behind the engine: how requests share runs, and what a model may lack."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifact.noise import CODES_STREAM, batch_uniform
from service import discrete
from service.conditions import Conditions, to_conditions
from service.engine.engine import Engine
from service.engine.opening import ServedModel
from service.errors import DeadlineError, OverloadedError, ParameterError
from service.presence import while_wanted
from service.requests import Deadline
from service.sampling import sample_codes
from service.settings import Settings
from tests.service.serving import with_engine
from tests.toys import tokens
from tests.toys.publish import publish
from tests.toys.tokens import ToyTokens


async def drawn(engine: Engine, model: ServedModel, *, n: int, first_index: int = 0, label: str = "none") -> np.ndarray:
    asked = {"label": (label,)} if model.manifest.prior.classes else {}
    conditions = to_conditions(model, asked, n, with_prior=True)
    codes = await sample_codes(engine, model, n=n, seed=4, first_index=first_index, conditions=conditions.prior)
    return codes["codes"]


def test_concurrent_draws_are_each_their_own_and_share_runs(
    settings: Settings, toy_tokens: dict[str, ToyTokens]
) -> None:
    toy = toy_tokens["toy-tokens-prior"]

    async def body(engine: Engine) -> None:
        model = engine.model("toy-tokens-prior", "sample")
        sizes = [1, 3, 40, 2, 7]
        starts = np.cumsum([0, *sizes])
        found = await asyncio.gather(
            *(
                drawn(engine, model, n=n, first_index=int(start), label=label)
                for n, start, label in zip(sizes, starts, ("ring", "bar", "dot", "none", "1"), strict=False)
            )
        )
        condition = np.repeat([0, 1, 2, 3, 1], sizes)
        expected = toy.sample(batch_uniform(4, 0, sum(sizes), 16, stream=CODES_STREAM), condition)
        assert np.array_equal(np.concatenate(found), expected)
        steps = engine.loads["toy-tokens-prior@1", "prior_pixel"]
        assert steps.rows == 16 * sum(sizes)
        # Six chains of 16 places each, joined wherever two of them wait.
        assert steps.runs < 16 * 6

    with_engine(settings, body)


def test_a_deadline_ends_a_draw_between_two_steps(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(engine: Engine) -> None:
        model = engine.model("toy-tokens-prior", "sample")
        session, steps = model.sessions["prior_pixel"], []

        class Slow:
            def run(self, feeds: Any, **options: Any) -> Any:
                steps.append(len(feeds["code"]))
                time.sleep(0.02)
                return session.run(feeds, **options)

        monkeypatch.setitem(model.sessions, "prior_pixel", Slow())
        with pytest.raises(DeadlineError):
            await while_wanted(asyncio.Event().wait, Deadline(0.1), drawn(engine, model, n=40))
        done = len(steps)
        assert done < 16
        await asyncio.sleep(0.1)
        assert len(steps) <= done + 1
        assert engine.queue_rows == 0

    with_engine(settings, body)


def test_a_draw_that_was_let_in_is_not_refused_half_done(settings: Settings) -> None:
    limits = settings.model_copy(update={"max_rows": 40, "max_queue_rows": 40})

    async def body(engine: Engine) -> None:
        model = engine.model("toy-tokens-prior", "sample")
        answers = await asyncio.gather(*(drawn(engine, model, n=20) for _ in range(6)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert refused
        assert all(isinstance(error, OverloadedError) for error in refused)
        # Those that were refused were refused at the door: the queue let two in, and these were finished.
        assert len(answers) - len(refused) >= 2

    with_engine(limits, body)


def test_large_pictures_run_alone(settings: Settings, toy_tokens: dict[str, ToyTokens]) -> None:
    toy = toy_tokens["toy-tokens"]

    async def body(engine: Engine) -> None:
        model = engine.model("toy-tokens", "encode")
        large, small = toy.images(5, 64, 64), toy.images(5, 8, 8)
        codes = [(await discrete.encode(engine, model, large))["codes"]]
        assert engine.loads["toy-tokens@1", "encode"].buckets == {2: 3}
        codes.append((await discrete.encode(engine, model, small))["codes"])
        assert np.array_equal(codes[0], toy.encode(large))
        assert np.array_equal(codes[1], toy.encode(small))
        decoded = await discrete.decode(engine, model, {"codes": codes[0]})
        assert np.abs(decoded - np.clip(toy.decode(codes[0]), 0, 255)).max() <= 0.51
        assert engine.loads["toy-tokens@1", "decode"].buckets == {2: 3}

    # Two pictures of 64 x 64 x 3 values are within the budget, three are not.
    with_engine(settings.model_copy(update={"max_run_values": 2 * 64 * 64 * 3, "buckets": (2, 8)}), body)


def test_a_budget_below_one_row_runs_row_by_row(settings: Settings, toy_references: Any) -> None:
    async def body(engine: Engine) -> None:
        model = engine.model("toy-binary", "likelihood")
        images = toy_references["toy-binary"].images(3)
        await engine.run(model, "encode", {"x": images})
        assert engine.loads["toy-binary@1", "encode"].runs == 3

    with_engine(settings.model_copy(update={"max_run_values": 1, "buckets": (4,)}), body)


def test_a_prior_of_another_grid_leaves_codes_uniform(settings: Settings, tmp_path: Path) -> None:
    """A model that takes any size, with a prior over one: other grids have no learned prior, and rows say so."""
    toy = tokens.with_prior(
        tokens.make(7, num_embeddings=5, embedding_dim=2, channels=1, downsampling=2, side=8), 8, classes=()
    )
    publish(tmp_path, "plain", tokens.toy(toy))

    async def body(engine: Engine) -> None:
        model = engine.model("plain", "sample")
        found = await drawn(engine, model, n=3)
        assert np.array_equal(found, toy.sample(batch_uniform(4, 0, 3, 16, stream=CODES_STREAM), None))
        images = toy.images(2)
        bound = await discrete.likelihood(engine, model, images, [(8, 8)] * 2)
        np.testing.assert_allclose(bound.kl_nats, toy.surprise(toy.encode(images), None).sum((1, 2)), rtol=1e-5)
        with pytest.raises(ParameterError, match="knows no classes"):
            to_conditions(model, {"label": ("1",)}, 1, with_prior=True)
        other = (await discrete.surprise(engine, model, {"codes": np.zeros((2, 3, 5), dtype=np.int32)}))["codes"]
        assert other.shape == (2, 3, 5)
        np.testing.assert_allclose(other, np.log(5))

    with_engine(settings.model_copy(update={"store": tmp_path, "models": ()}), body)


@pytest.mark.parametrize(("values", "runs"), [(2 * 16 * 6, 4), (5 * 6, 7)])
def test_surprise_is_the_same_in_slices(
    settings: Settings, toy_tokens: dict[str, ToyTokens], monkeypatch: pytest.MonkeyPatch, values: int, runs: int
) -> None:
    """Of two grids at a time, or of five places of one."""
    toy = toy_tokens["toy-tokens-prior"]
    codes = toy.encode(toy.images(7))
    monkeypatch.setattr(discrete, "_SLICE_VALUES", values)

    async def body(engine: Engine) -> None:
        model = engine.model("toy-tokens-prior", "sample")
        condition = np.arange(7) % 4
        conditions = Conditions(prior={"condition": condition})
        nats = (await discrete.surprise(engine, model, {"codes": codes}, conditions))["codes"]
        np.testing.assert_allclose(nats, toy.surprise(codes, condition), atol=1e-5)
        assert engine.loads["toy-tokens-prior@1", "prior"].runs == runs

    with_engine(settings, body)


def test_only_the_mean_leaves_the_decoder(settings: Settings) -> None:
    async def body(engine: Engine) -> None:
        model = engine.model("toy-tokens", "decode")
        assert len(model.manifest.graphs["decode"].outputs) == 2
        answer = await engine.run(model, "decode", {"codes": np.zeros((1, 2, 2), dtype=np.int32)})
        assert list(answer) == ["mean"]

    with_engine(settings, body)
