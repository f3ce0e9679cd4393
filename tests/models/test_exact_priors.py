"""Exact priors: against int64 alone, step by step, in both types, frozen and not, and near what they are copies of."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.code_priors import CodeGrid, CodePrior, RasterPrior
from models.exact.canonical import canonical_bytes
from models.exact.convert import NotExactError, exact_prior
from models.exact.layers import calibrating, freeze
from models.families.pixelcnn import PixelCNNConfig
from models.families.pixelsnail import PixelSNAILConfig
from models.families.transformer import TransformerConfig
from models.families.wavenet import WaveNetConfig

Integers = NDArray[np.int64]
K = 7
GRID, COARSE = CodeGrid(K, (4, 6)), CodeGrid(5, (2, 3))
LINE, COARSE_LINE = CodeGrid(K, (12,)), CodeGrid(5, (3,))
RASTER = PixelCNNConfig(channels=6, layers=3, hidden=10, features=4, feature_blocks=1)
WIDER = PixelCNNConfig(channels=4, layers=2, radius=2, hidden=10, features=4, feature_blocks=1)
SEQUENCE = WaveNetConfig(channels=6, skip_channels=8, cycles=2, layers=2, hidden=10, features=4, feature_blocks=1)

CASES: dict[str, tuple[Any, CodeGrid, Sequence[CodeGrid], Mapping[str, int]]] = {
    "raster": (RASTER, GRID, (), {}),
    "raster, all known": (RASTER, GRID, (COARSE, GRID), {"label": 2, "speaker": 3}),
    "raster of radius 2": (WIDER, GRID, (COARSE,), {}),
    "sequence": (SEQUENCE, LINE, (), {"speaker": 3}),
    "sequence, all known": (SEQUENCE, LINE, (COARSE_LINE,), {"speaker": 3}),
    "sequence over rows": (SEQUENCE, GRID, (COARSE,), {}),
}


def grids(grid: CodeGrid, batch: int = 3, seed: int = 1) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, grid.num_embeddings, (batch, *grid.shape), generator=random).int()


def lively(prior: CodePrior) -> CodePrior:
    """Give weights that a fit could have left, so that gates open and numbers are clipped here and there."""
    random = torch.Generator().manual_seed(5)
    for name, weight in prior.named_parameters():
        fan_in = weight[0].numel() if weight.dim() > 1 and "embedding" not in name else 1
        weight.data = torch.randn(weight.shape, generator=random) * (1.4 if weight.dim() > 1 else 0.3) / fan_in**0.5
    return prior.eval()


class Case:
    """A frozen prior, its floating-point original, and data."""

    def __init__(self, name: str, loudness: float = 1.0) -> None:
        config, grid, earlier, classes = CASES[name]
        self.original = lively(config.build(grid, earlier, classes))
        self.original.get_parameter("embedding.weight").data *= loudness
        self.codes, self.earlier = grids(grid), [grids(one, seed=2) for one in earlier]
        self.conditions = {name: torch.arange(3) % (count + 1) for name, count in classes.items()}
        self.prior = exact_prior(self.original).eval()
        with torch.no_grad(), calibrating(self.prior):
            self.prior(self.codes, self.prior.given(self.earlier), self.conditions)
        self.fitting = self.logits().detach()
        freeze(self.prior)

    def logits(self) -> torch.Tensor:
        return self.prior(self.codes, self.prior.given(self.earlier), self.conditions)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


# What follows computes with int64 from the canonical form alone, as another language would.


def floored(x: Integers, shift: Integers | int) -> Integers:
    """Give floor(x / 2^shift + 1/2)."""
    exponent = np.array(shift, dtype=np.int64)
    right, left = np.maximum(exponent, 0), np.maximum(-exponent, 0)
    half: Integers = (2**right) >> 1
    found: Integers = ((x << left) + half) >> right
    return found


def clipped(x: Integers) -> Integers:
    return np.clip(x, -(2**22), 2**22)


class Reference:
    def __init__(self, form: dict[str, Any]) -> None:
        self.form, self.layers = form, form["layers"]
        self.tables = {name: np.array(table) for name, table in form.get("tables", {}).items()}

    def array(self, layer: str, name: str) -> Integers:
        return np.array(self.layers[layer][name], dtype=np.int64)

    def entry(self, layer: str, x: Integers) -> Integers:
        entry = self.layers[layer]["entry"]
        if entry["kind"] == "gate":
            index = np.clip((x >> self.tables["index_shift"]) + 1024, 0, 2047)
            half = x.shape[-1] // 2
            x = self.tables["tanh"][index[..., :half]] * self.tables["sigmoid"][index[..., half:]]
        return np.clip(floored(x, entry["shift"]), entry["least"], 127)

    def linear(self, layer: str, q: Integers) -> Integers:
        sums = q @ self.array(layer, "weight").T + self.array(layer, "bias")
        return clipped(floored(sums, self.array(layer, "shift")))

    def through(self, layer: str, x: Integers) -> Integers:
        return self.linear(layer, self.entry(layer, x))

    def convolved(self, layer: str, q: Integers, before: Sequence[int], after: Sequence[int]) -> Integers:
        """Slide a kernel place by place over all but the first and the last axis."""
        kernel = self.layers[layer]["kernel"]
        padded = np.pad(q, [(0, 0), *zip(before, after, strict=True), (0, 0)])
        sides = [side - size + 1 for side, size in zip(padded.shape[1:-1], kernel, strict=True)]
        out = np.zeros((len(q), *sides, len(self.layers[layer]["bias"])), dtype=np.int64)
        for place in np.ndindex(*sides):
            window = padded[(slice(None), *(slice(at, at + size) for at, size in zip(place, kernel, strict=True)))]
            out[(slice(None), *place)] = self.linear(layer, window.reshape(len(q), -1))
        return out

    def same(self, layer: str, x: Integers) -> Integers:
        sides = [self.layers[layer]["padding"]] * len(self.layers[layer]["kernel"])
        return self.convolved(layer, self.entry(layer, x), sides, sides)

    def embedded(self, layer: str, codes: Integers) -> Integers:
        return self.array(layer, "weight")[codes]

    def earlier(self, grids: Sequence[Integers]) -> Integers:
        sizes, axes = self.form["earlier"], range(1, grids[0].ndim)
        h = np.zeros((), dtype=np.int64)
        for index, (codes, factor) in enumerate(zip(grids, sizes["factors"], strict=True)):
            for axis in axes:
                codes = np.repeat(codes, factor, axis)
            h = clipped(h + self.embedded(f"earlier.embeddings.{index}", codes))
        for block in range(sizes["blocks"]):
            name = f"earlier.blocks.{block}"
            h = clipped(h + self.same(f"{name}.second", self.same(f"{name}.first", h)))
        spread = self.same("earlier.up", h)
        factor = self.layers["earlier.up"]["factor"]
        phases = spread.reshape(*spread.shape[:-1], *(factor for _ in axes), -1)
        fine = np.zeros(
            (len(spread), *(factor * side for side in spread.shape[1:-1]), phases.shape[-1]), dtype=np.int64
        )
        for phase in np.ndindex(*(factor for _ in axes)):
            fine[(slice(None), *(slice(p, None, factor) for p in phase))] = phases[(..., *phase, slice(None))]
        return fine

    def told(self, codes: Integers, earlier: Sequence[Integers], rows: Sequence[Integers]) -> Integers:
        known = self.through("features", self.earlier(earlier)) if earlier else np.zeros((), dtype=np.int64)
        for row in rows:
            told = self.embedded("table", row)
            known = clipped(known + told.reshape(len(told), *(1,) * (codes.ndim - 1), -1))
        return known

    def head(self, h: Integers) -> Integers:
        return self.through("outer", self.through("inner", h))

    def shares(self, told: Integers, parts: int) -> Sequence[Integers]:
        return np.split(told, parts, axis=-1) if told.ndim else [told] * parts

    def pixelcnn(self, codes: Integers, told: Integers) -> Integers:
        r, count = self.form["radius"], self.form["layers_of_gates"]
        shares = self.shares(told, 2 * count - 1)
        e = self.embedded("embedding", codes)
        h = np.pad(e, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
        v = np.pad(e, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]
        for index in range(count):
            name = f"layers.{index}"
            q = self.entry(f"{name}.vertical", v)
            seen = self.convolved(f"{name}.vertical", q, (r, r), (0, r))
            context = clipped(self.through(f"{name}.link", seen) + shares[index])
            v = clipped(seen + shares[count + index]) if index + 1 < count else seen
            left = self.convolved(f"{name}.horizontal", self.entry(f"{name}.horizontal", h), (0, r), (0, 0))
            h = clipped(h + self.through(f"{name}.out", clipped(left + context)))
        return self.head(h)

    def wavenet(self, codes: Integers, told: Integers) -> Integers:
        shares = self.shares(told, len(self.form["dilations"]))
        h = np.pad(self.embedded("embedding", codes), ((0, 0), (1, 0), (0, 0)))[:, :-1]
        channels, total = h.shape[-1], np.zeros((), dtype=np.int64)
        for index, gap in enumerate(self.form["dilations"]):
            q = self.entry(f"layers.{index}.gates", h)
            past = np.pad(q, ((0, 0), (gap, 0), (0, 0)))[:, : q.shape[1]]
            opened = clipped(self.linear(f"layers.{index}.gates", np.concatenate([past, q], -1)) + shares[index])
            out = self.through(f"layers.{index}.out", opened)
            if index + 1 < len(self.form["dilations"]):
                h, out = clipped(h + out[..., :channels]), out[..., channels:]
            total = clipped(total + out)
        return self.head(total)

    def logits(self, codes: Integers, earlier: Sequence[Integers], rows: Sequence[Integers]) -> Integers:
        """Give the logits, codes last."""
        if self.form["kind"] == "pixelcnn":
            return self.pixelcnn(codes, self.told(codes, earlier, rows))
        flat = codes.reshape(len(codes), -1)
        told = self.told(flat, earlier, rows)
        told = told if told.ndim < 3 else told.reshape(len(told), -1, told.shape[-1])
        return self.wavenet(flat, told).reshape(*codes.shape, -1)


def test_logits_are_those_of_the_canonical_form_computed_with_int64(case: Case) -> None:
    form = json.loads(canonical_bytes(case.prior.canonical()))
    rows, first = [], 0
    for name, classes in form["conditions"]:
        rows.append(case.conditions[name].numpy() + first)
        first += classes + 1
    expected = Reference(form).logits(
        case.codes.numpy().astype(np.int64), [one.numpy().astype(np.int64) for one in case.earlier], rows
    )
    found = case.logits().movedim(1, -1).numpy()
    assert np.unique(found).size > 50, "logits that say nothing prove nothing"
    assert np.array_equal(found.astype(np.int64), expected)


def test_frozen_integers_are_those_of_the_fit_and_of_both_types(case: Case) -> None:
    found = case.logits()
    assert torch.equal(found, case.fitting)
    assert not list(case.prior.parameters())
    case.prior.double()
    assert torch.equal(case.logits().float(), found)
    case.prior.float()


def test_steps_are_equal_to_the_parallel_pass_to_the_bit(case: Case) -> None:
    prior, codes = case.prior, case.codes
    given = prior.given(case.earlier)
    steps = raster_steps if isinstance(prior, RasterPrior) else sequence_steps
    assert torch.equal(steps(prior, codes, given, case.conditions), case.logits())


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("raster")])
def test_steps_stay_equal_where_the_weights_prove_less(name: str) -> None:
    loud = Case(name, loudness=3000.0)
    given = loud.prior.given(loud.earlier)
    assert torch.equal(raster_steps(loud.prior, loud.codes, given, loud.conditions), loud.logits())
    assert Case(name).prior.stacks() is not None
    assert loud.prior.stacks() is None


def raster_steps(prior: Any, codes: torch.Tensor, given: Any, conditions: Any) -> torch.Tensor:
    """Take steps over a raster, with noise for what is of no matter."""
    batch, height, width = codes.shape
    state = {name: torch.full((batch, *shape), 9.0) for name, shape in prior.row_memory((height, width)).states.items()}
    out = torch.zeros(batch, prior.num_embeddings, height, width)
    for row in range(height):
        shown = None if given is None else given[:, row]
        context, state = prior.row(codes[:, max(row - 1, 0)], torch.full((batch,), row), state, shown, conditions)
        left = {
            name: torch.full((batch, *shape), 9.0) for name, shape in prior.place_memory((height, width)).states.items()
        }
        for column in range(width):
            position = torch.full((batch,), row * width + column)
            step = prior.place(codes[:, row, column - 1], position, width, context[:, column], left)
            out[:, :, row, column], left = step.logits, step.states
    return out


def sequence_steps(prior: Any, codes: torch.Tensor, given: Any, conditions: Any) -> torch.Tensor:
    """Take steps over a sequence, with noise for what is of no matter."""
    flat, shown = codes.flatten(1), None if given is None else given.flatten(1, -2)
    memory = {
        name: torch.full((len(codes), *shape), 9.0) for name, shape in prior.memory(codes.shape[1:]).caches.items()
    }
    out = []
    for place in range(flat.shape[1]):
        position = torch.full((len(codes),), place)
        here = None if shown is None else shown[:, place]
        step = prior.step(flat[:, place - 1], position, memory, here, conditions)
        for name, entry in step.entries.items():
            memory[name][:, place % memory[name].shape[1]] = entry
        out.append(step.logits)
    return torch.stack(out, dim=-1).reshape(len(codes), -1, *codes.shape[1:])


def test_an_exact_prior_is_near_the_one_that_it_is_a_copy_of(case: Case) -> None:
    given = case.original.given(case.earlier)
    with torch.no_grad():
        expected = case.original(case.codes, given, case.conditions).detach()
    difference = (case.logits() / 256 - expected).square().mean() / expected.var()
    assert difference < 0.02
    own = case.prior.log_prob(case.codes, case.prior.given(case.earlier), case.conditions)
    with torch.no_grad():
        np.testing.assert_allclose(own, case.original.log_prob(case.codes, given, case.conditions), rtol=0.1)


def test_the_hash_is_that_of_the_integers(case: Case) -> None:
    before = case.prior.canonical_hash()
    assert case.prior.double().canonical_hash() == before
    case.prior.float()
    assert max(case.prior.accumulator_bounds().values()) < 2**24
    bias = dict(case.prior.named_buffers())["inner.bias"]
    bias[0] += 1
    assert case.prior.canonical_hash() != before
    bias[0] -= 1
    assert case.prior.canonical_hash() == before


def test_a_fit_with_integers_lowers_the_code_length() -> None:
    prior = exact_prior(lively(RASTER.build(GRID, (), {})))
    codes = grids(GRID, 2)
    with torch.no_grad(), calibrating(prior):
        prior(codes)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    nats = []
    for _ in range(10):
        loss = -prior.log_prob(codes).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        nats.append(loss.item())
    assert nats[-1] < 0.7 * nats[0]


@pytest.mark.parametrize("config", [PixelSNAILConfig(channels=4, heads=2, hidden=8), TransformerConfig()])
def test_attention_is_refused(config: PixelSNAILConfig | TransformerConfig) -> None:
    grid = GRID if isinstance(config, PixelSNAILConfig) else LINE
    with pytest.raises(NotExactError, match="'pixelcnn' or 'wavenet'"):
        exact_prior(config.build(grid, (), {}))
