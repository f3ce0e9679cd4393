"""The inputs that graphs are tried with."""

import numpy as np

from artifact.examples import example_inputs
from artifact.manifest import Graph, Tensor

SOUND = Tensor(name="x", dtype="float32", shape=("B", "T"), minimum=-1, maximum=1, unit="amplitude")


def signature(*inputs: Tensor) -> Graph:
    return Graph(file="a.onnx", sha256="0" * 64, opset=20, inputs=inputs, outputs=())


def codes(name: str, *shape: int | str, minimum: int = 0) -> Tensor:
    return Tensor(name=name, dtype="int32", shape=("B", *shape), minimum=minimum, maximum=6, unit="code")


def test_a_sound_is_one_of_16_bit_values_and_fits_its_codes() -> None:
    inputs = example_inputs(signature(SOUND, codes("codes", "t")), 64)
    x, grid = inputs["x"], inputs["codes"]
    assert (x.dtype, x.shape[0], x.shape[1]) == (np.float32, 1, 64 * grid.shape[1])
    assert -1 <= x.min() < -0.1 < 0.1 < x.max() < 1
    assert (x * 32768 == np.rint(x * 32768)).all()
    other = example_inputs(signature(SOUND), 64, seed=1)["x"]
    assert (other != x).any()
    assert (example_inputs(signature(SOUND), 64)["x"] == x).all()


def test_grids_of_several_levels_fit_each_other() -> None:
    tensors = (codes("codes_0", "h_0", "w_0"), codes("codes_1", 2, "h_1", "w_1", minimum=-1), codes("z", "h", "w"))
    picture = Tensor(name="x", dtype="uint8", shape=("B", "H", "W", 3), minimum=0, maximum=255, unit="intensity")
    inputs = example_inputs(signature(picture, *tensors), 8, downsamplings=(8, 4))
    height, width = inputs["x"].shape[1:3]
    assert inputs["codes_0"].shape == (1, height // 8, width // 8)
    assert inputs["codes_1"].shape == (1, 2, height // 4, width // 4)
    assert inputs["z"].shape == (1, height // 4, width // 4)


def test_real_numbers_lie_within_their_range_and_not_at_its_border() -> None:
    tensor = Tensor(name="temperature", dtype="float32", shape=("B", 50), minimum=0, unit="factor")
    values = example_inputs(signature(tensor), 1)["temperature"]
    assert values.dtype == np.float32
    assert (values > 0).all()


def test_memories_begin_empty() -> None:
    cache = Tensor(name="cache_keys", dtype="float32", shape=("B", 5, 2), unit="hidden")
    assert not example_inputs(signature(cache), 1)["cache_keys"].any()
