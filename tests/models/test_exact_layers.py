"""Exact layers: integers against numpy, tables against libm, and the floating-point layers that they are copies of."""

import hashlib
import itertools
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.exact.arithmetic import narrowed, widened
from models.exact.entries import Gate, Given, Narrow
from models.exact.layers import (
    ExactConv,
    ExactEmbedding,
    ExactLinear,
    ExactUpsampling,
    InexactError,
    accumulator_bounds,
    calibrating,
    freeze,
)
from models.exact.tables import Tables, sigmoid_table, tanh_table
from models.exact.windows import phases_first, shuffled, windows


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def whole(*shape: int, limit: int = 127, seed: int = 0) -> torch.Tensor:
    return torch.randint(-limit, limit + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("exponent", [-24, -9, -1, 0, 3])
def test_widening_is_that_of_whole_numbers(exponent: int) -> None:
    """Against shifts of int64, at both ends of what an accumulator may hold."""
    most = 2**24 - max(1, 2 ** (-exponent - 1) if exponent < 0 else 1)
    sums = np.unique(np.r_[-most, most, 0, 1, -1, np.random.default_rng(0).integers(-most, most, 5000)])
    half = 1 << (-exponent - 1) if exponent < 0 else 0
    expected = (sums + half) >> -exponent if exponent < 0 else sums << exponent
    expected = np.clip(expected, -(2**22), 2**22)
    for dtype in (torch.float32, torch.float64):
        found = widened(torch.from_numpy(sums).to(dtype), torch.tensor(2.0**exponent, dtype=dtype))
        assert np.array_equal(found.numpy().astype(np.int64), expected)


def test_narrowing_is_that_of_whole_numbers() -> None:
    wide = np.r_[-(2**22), 2**22, np.arange(-600, 600), np.random.default_rng(0).integers(-(2**22), 2**22, 5000)]
    for shift, rectified in itertools.product((0, 1, 3, 14), (False, True)):
        expected = np.clip((wide + ((1 << shift) >> 1)) >> shift, 0 if rectified else -127, 127)
        found = narrowed(torch.from_numpy(wide).float(), torch.tensor(2.0**-shift), rectified=rectified)
        assert np.array_equal(found.numpy().astype(np.int64), expected)


def test_tables_are_the_functions_and_the_same_everywhere() -> None:
    x = (np.arange(2048) - 1024 + 0.5) / 128
    assert np.abs(np.array(tanh_table()) - 4096 * np.tanh(x)).max() < 0.5001
    assert np.abs(np.array(sigmoid_table()) - 2048 / (1 + np.exp(-x))).max() < 0.5001
    digest = hashlib.sha256(json.dumps([tanh_table(), sigmoid_table()], separators=(",", ":")).encode()).hexdigest()
    assert digest == "2e682e707e3c6932d6c3711cf0038598bd3b15c8fd4d2538f521a440d516226c"


def test_a_gate_is_near_the_function_and_so_is_its_gradient() -> None:
    gate = Gate(Tables())
    x = random(50, 8, scale=2.0)
    wide = (x * 1024).round().requires_grad_()
    with calibrating(gate):
        gate(wide)
    gated = gate(wide) * gate.step
    torch.autograd.backward(gated.sum())
    same = x.clone().requires_grad_()
    value, opening = same.chunk(2, dim=-1)
    expected = value.tanh() * opening.sigmoid()
    torch.autograd.backward(expected.sum())
    assert gate.step == 2.0**-7
    assert wide.grad is not None
    assert same.grad is not None
    np.testing.assert_allclose(gated.detach(), expected.detach(), atol=2.0**-7)
    np.testing.assert_allclose(wide.grad * 1024, same.grad, atol=0.01)


def test_a_linear_map_is_that_of_whole_numbers_before_and_after_it_is_frozen() -> None:
    layer = ExactLinear(random(6, 40, scale=0.1), random(6, seed=1), Narrow())
    wide = whole(30, 40, limit=3000)
    with calibrating(layer):
        layer.through(wide)
    x = layer.entry(wide)
    fitting = layer(x)
    freeze(layer)
    weight, bias = layer.weight.numpy().astype(np.int64), layer.bias.numpy().astype(np.int64)
    sums = x.numpy().astype(np.int64) @ weight.T + bias
    shifts = -np.log2(layer.scale.numpy()).astype(np.int64)
    assert (shifts > 0).all()
    expected = np.clip((sums + (1 << (shifts - 1))) >> shifts, -(2**22), 2**22)
    assert np.array_equal(layer(x).numpy().astype(np.int64), expected)
    assert torch.equal(layer(x), fitting.detach())
    assert torch.equal(layer.double()(x.double()).float(), fitting.detach())
    assert np.abs(sums).max() <= layer.bounds().max()


def test_a_linear_map_is_near_the_floating_point_one() -> None:
    weight, bias, x = random(6, 40, scale=0.2), random(6, seed=1), random(300, 40, seed=2)
    layer = ExactLinear(weight, bias, Narrow())
    with calibrating(layer):
        layer.through((x * 1024).round())
    expected = functional.linear(x, weight, bias)
    error = (layer.through((x * 1024).round()) / 1024 - expected).square().mean() / expected.var()
    assert error < 2e-3


def test_sums_that_could_leave_the_exact_integers_are_made_coarser_or_refused() -> None:
    layer = ExactLinear(torch.full((2, 1100), 127.0), None, Given(1.0))
    with pytest.raises(InexactError, match="2\\^24"):
        accumulator_bounds(layer)
    with calibrating(layer):
        layer(torch.zeros(1, 1100))
    assert accumulator_bounds(layer)[""] < 2**24


@pytest.mark.parametrize("geometry", [(2, 4, 2, 1), (2, 3, 1, 1), (2, 1, 1, 0), (1, 3, 1, 1)])
def test_a_convolution_is_that_of_torch_on_the_same_integers(geometry: tuple[int, int, int, int]) -> None:
    axes, kernel, stride, padding = geometry
    conv = (nn.Conv1d if axes == 1 else nn.Conv2d)(3, 5, kernel, stride=stride, padding=padding).double()
    conv.load_state_dict({"weight": whole(*conv.weight.shape).double(), "bias": whole(5, seed=1).double()})
    layer = ExactConv.copy_of(conv, Given(1.0), bits=0)
    layer.step.fill_(1.0)
    x = whole(2, *(8, 6)[:axes], 3, limit=20)
    assert torch.equal(layer(x), conv(x.movedim(-1, 1).double()).movedim(1, -1).float())


@pytest.mark.parametrize("geometry", [(2, 4, 2, 1), (2, 2, 2, 0), (1, 4, 4, 0), (2, 1, 1, 0)])
def test_an_upsampling_is_that_of_torch_on_the_same_integers(geometry: tuple[int, int, int, int]) -> None:
    axes, kernel, stride, padding = geometry
    conv = (nn.ConvTranspose1d if axes == 1 else nn.ConvTranspose2d)(3, 5, kernel, stride=stride, padding=padding)
    conv.load_state_dict({"weight": whole(*conv.weight.shape), "bias": whole(5, seed=1)})
    layer = ExactUpsampling(conv, Given(1.0), bits=0)
    layer.step.fill_(1.0)
    x = whole(2, *(4, 3)[:axes], 3, limit=20)
    assert torch.equal(layer(x), conv.double()(x.movedim(-1, 1).double()).movedim(1, -1).float())


def test_a_shuffle_is_that_of_torch() -> None:
    x = whole(2, 3, 4, 12)
    expected = nn.PixelShuffle(2)(x.movedim(-1, 1)).movedim(1, -1)
    assert torch.equal(shuffled(phases_first(x.movedim(-1, 0), 2).movedim(0, -1), 2), expected)


def test_windows_are_those_of_unfold() -> None:
    x = whole(2, 6, 8, 3)
    expected = functional.unfold(x.movedim(-1, 1), (4, 4), stride=2).reshape(2, 3, 16, -1).transpose(1, 2)
    assert torch.equal(windows(x, (4, 4), 2).flatten(1, 2).transpose(1, 2), expected.flatten(1, 2))


def test_gradients_go_straight_through_to_the_weights() -> None:
    """A descent along them must learn a map that the integers have; without them nothing would move."""
    torch.manual_seed(0)
    layer, table = ExactLinear(random(4, 8, scale=0.3), None, Narrow(rectified=True)), ExactEmbedding(random(20, 8))
    rows, wanted = torch.arange(20), random(20, 4, seed=3, scale=300.0)
    with calibrating(layer):
        layer.through(table(rows))
    optimizer = torch.optim.Adam([*layer.parameters(), *table.parameters()], lr=0.02)
    losses = []
    for _ in range(150):
        loss = (layer.through(table(rows)) - wanted).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
