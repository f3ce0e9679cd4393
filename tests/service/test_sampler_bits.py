"""On the shipped model a draw is the same to the bit, whoever is drawn beside it and in whatever slot."""

import asyncio

import numpy as np
import pytest

from artifact.sampling import complete, sample
from service.engine.engine import Engine
from service.engine.work import Arrays
from service.settings import Settings
from tests.service.serving import with_engine
from tests.service.test_sampler import grids


def test_a_grid_is_the_same_to_the_bit_whoever_is_drawn_beside_it() -> None:
    """On the shipped model: alone, and among others that come before and after it, in any slot."""
    mine = grids(2, seed=7, condition=3, temperature=0.9, top_k=100, places=64)

    async def body(engine: Engine) -> None:
        model = engine.model("cifar-vq", "sample")
        alone = await engine.draw(model, mine)
        for neighbours in (1, 5, 14, 30):
            others = [grids(1, seed=index, condition=index % 11, places=64) for index in range(neighbours)]
            tasks = [asyncio.ensure_future(engine.draw(model, rows)) for rows in others[: neighbours // 2]]
            await asyncio.sleep(0.003 * (neighbours % 4))
            found = asyncio.ensure_future(engine.draw(model, mine))
            await asyncio.sleep(0.002)
            tasks += [asyncio.ensure_future(engine.draw(model, rows)) for rows in others[neighbours // 2 :]]
            assert np.array_equal(await found, alone)
            await asyncio.gather(*tasks)
        # The same steps without slots, runners or neighbours give the same codes.
        slots = engine.settings.slots
        rows = {name: np.repeat(array[:1], slots, 0) for name, array in mine.items()}
        steps = sample(model.manifest.graphs, model.prior.links[0], rows)
        assert (complete(steps, lambda role, feeds: model.sessions[role].run(feeds)) == alone[0]).all()

    with_engine(Settings(models=("cifar-vq",), device="cpu", buckets=(1,)), body)


@pytest.mark.parametrize("role", ["prior_row", "prior_pixel"])
def test_a_row_of_a_run_is_the_same_to_the_bit_in_any_slot_beside_any_rows(role: str) -> None:
    generator = np.random.default_rng(1)

    async def body(engine: Engine) -> None:
        model, slots = engine.model("cifar-vq", "sample"), engine.settings.slots

        def inputs() -> Arrays:
            return {
                tensor.name: generator.normal(size=(slots, *tensor.shape[1:])).astype(np.float32)
                if tensor.dtype == "float32"
                else generator.integers(0, int(tensor.maximum or 0) + 1, (slots, *tensor.shape[1:]), tensor.dtype)
                for tensor in model.manifest.graphs[role].inputs
            }

        first = inputs()
        outputs = model.sessions[role].run(first)
        for slot in range(slots):
            others = inputs()
            for name, array in others.items():
                array[slot] = first[name][3]
            for name, value in model.sessions[role].run(others).items():
                assert np.array_equal(value[slot], outputs[name][3])

    with_engine(Settings(models=("cifar-vq",), device="cpu", buckets=(1,)), body)
