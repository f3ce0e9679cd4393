"""The written graphs of WaveNet and the transformer: torch against ONNX Runtime, steps against the parallel pass."""

from pathlib import Path

import numpy as np
import pytest
import torch

from artifact.codes import Arrays, draw_codes
from artifact.manifest import Link
from artifact.sampling import complete, sample
from models.chain import LinkGrid
from models.code_priors import CodePrior
from models.families.transformer import TransformerConfig
from models.families.wavenet import WaveNetConfig
from training.graphs.prior import link_graphs
from training.graphs.spec import GraphSpec
from training.graphs.write import write_graphs
from training.parity import Graphs

K, LENGTH, ROWS = 11, 24, 5
CONDITIONS = {"label": 3, "speaker": 2}
SHAPES = {"wavenet": (LENGTH,), "transformer of rows": (4, 6)}


def _prior(name: str) -> CodePrior:
    torch.manual_seed(0)
    if name.startswith("wavenet"):
        config = WaveNetConfig(channels=24, skip_channels=20, cycles=1, layers=4, hidden=32)
    else:
        config = TransformerConfig(channels=24, heads=3, layers=2)
    prior = config.build(_grid(name), (), CONDITIONS).eval().requires_grad_(False)
    for parameter in prior.parameters():  # as after a fit: nothing is nearly nothing
        torch.nn.init.normal_(parameter, std=0.25)
    return prior


def _grid(name: str) -> LinkGrid:
    return LinkGrid(K, SHAPES[name], level=0, codebook=0, factor=1)


@pytest.fixture(scope="module", params=list(SHAPES))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[GraphSpec], Graphs]:
    specs = list(link_graphs(_prior(request.param), [_grid(request.param)], (1,), any_size=True))
    folder: Path = tmp_path_factory.mktemp("graphs")
    write_graphs(tuple(specs), folder / "prior.data")
    numbers = sum(parameter.numel() for parameter in specs[0].module.parameters())
    assert (folder / "prior.data").stat().st_size < 4.5 * numbers, "both graphs use the same weights"
    return specs, Graphs(specs, folder)


def _inputs(spec: GraphSpec, seed: int, rows: int = ROWS) -> Arrays:
    generator = np.random.default_rng(seed)

    def fill(shape: list[int], dtype: str, last: int) -> np.ndarray:
        numbers = generator.normal(size=shape) if dtype == "float32" else generator.integers(0, last + 1, shape)
        return numbers.astype(dtype)

    sizes = {"B": rows, "t": LENGTH}
    return {
        tensor.name: fill(
            [sizes[axis] if isinstance(axis, str) else axis for axis in tensor.shape],
            tensor.dtype,
            int(tensor.maximum or 0),
        )
        for tensor in spec.inputs
    }


def test_graphs_equal_torch(written: tuple[list[GraphSpec], Graphs]) -> None:
    specs, graphs = written
    assert [spec.role for spec in specs] == ["prior", "prior_step"]
    for spec in specs:
        for seed in range(3):
            feeds = _inputs(spec, seed)
            expected = spec.run(feeds)
            for name, value in graphs.run(spec.role, feeds).items():
                np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)


def test_drawing_step_by_step_equals_drawing_by_whole_passes(written: tuple[list[GraphSpec], Graphs]) -> None:
    specs, graphs = written
    uniform = np.random.default_rng(4).random((ROWS, LENGTH))
    known = {"condition": np.arange(ROWS) % 4, "speaker": np.arange(ROWS) % 3}
    grid = tuple(int(axis) for axis in (specs[0].inputs[0].shape[1:]) if axis != "t") or (LENGTH,)
    steps = sample(
        {spec.role: spec for spec in specs}, Link(order="sequence", grid=grid), {"uniform": uniform, **known}
    )
    logits: list[np.ndarray] = []

    def run(role: str, feeds: Arrays) -> Arrays:
        answer = graphs.run(role, feeds)
        logits.append(np.asarray(answer["logits"]))
        return answer

    drawn = complete(steps, run)
    parallel = graphs.run("prior", {"codes": drawn, **known})["logits"].reshape(ROWS, LENGTH, K)
    np.testing.assert_allclose(np.stack(logits, axis=1), parallel, rtol=1e-4, atol=1e-4)
    again = draw_codes(parallel.reshape(-1, K).astype(np.float32), uniform.ravel())
    assert np.array_equal(again, drawn.ravel())


def test_a_row_of_a_step_is_the_same_to_the_bit_in_any_slot_beside_any_rows(
    written: tuple[list[GraphSpec], Graphs],
) -> None:
    specs, graphs = written
    slots = 16
    first = _inputs(specs[1], 7, slots)
    expected = graphs.run("prior_step", first)
    for slot in range(slots):
        others = _inputs(specs[1], 100 + slot, slots)
        for name, array in others.items():
            array[slot] = first[name][3]
        for name, value in graphs.run("prior_step", others).items():
            assert np.array_equal(value[slot], expected[name][3]), (slot, name)
