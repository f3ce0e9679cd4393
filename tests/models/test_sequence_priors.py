"""WaveNet and the transformer over codes: what each place sees, normalisation, and steps against the parallel pass."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special

from models.code_priors import CodeGrid, SequencePrior
from models.families.transformer import TransformerConfig
from models.families.wavenet import WaveNetConfig
from models.wavenet import DilatedStack, dilation_cycles

K, LENGTH = 5, 20
CONDITIONS = {"label": 3, "speaker": 2}
EARLIER = CodeGrid(4, (LENGTH // 2,))
Build = Callable[..., SequencePrior]


def wavenet(grid: CodeGrid, *, earlier: bool = False, conditions: dict[str, int] | None = None) -> SequencePrior:
    config = WaveNetConfig(channels=6, skip_channels=7, cycles=2, layers=3, hidden=12, features=3)
    return config.build(grid, (EARLIER,) if earlier else (), conditions or {})


def transformer(grid: CodeGrid, *, earlier: bool = False, conditions: dict[str, int] | None = None) -> SequencePrior:
    config = TransformerConfig(channels=8, heads=2, layers=2, features=3)
    return config.build(grid, (EARLIER,) if earlier else (), conditions or {})


@pytest.fixture(params=[wavenet, transformer])
def build(request: pytest.FixtureRequest) -> Build:
    def of(shape: tuple[int, ...] = (LENGTH,), num_embeddings: int = K, **options: object) -> SequencePrior:
        torch.manual_seed(0)
        prior: SequencePrior = request.param(CodeGrid(num_embeddings, shape), **options)
        for parameter in prior.parameters():  # as after a fit: nothing is nearly nothing
            torch.nn.init.normal_(parameter, std=0.4)
        return prior.eval().requires_grad_(False)

    return of


def codes(batch: int = 3, shape: tuple[int, ...] = (LENGTH,)) -> torch.Tensor:
    return torch.randint(0, K, (batch, *shape), generator=torch.Generator().manual_seed(1)).int()


def reach(prior: SequencePrior) -> int:
    """How many places before its own a place sees."""
    stack = getattr(prior, "stack", None)
    return stack.receptive_field if isinstance(stack, DilatedStack) else LENGTH


def test_a_place_sees_the_codes_before_it_within_its_reach_and_no_other(build: Build) -> None:
    """By gradients: those of a place's logits reach the embedded codes before it, and those alone."""
    prior = build().double().requires_grad_(True)
    embedded: list[torch.Tensor] = []
    prior.get_submodule("embedding").register_forward_hook(lambda _m, _i, output: embedded.append(output))
    logits = prior(codes(1))
    for place in range(LENGTH):
        if place == 0:
            assert not _gradient(logits[0, :, 0], embedded[0]).any()
            continue
        is_seen = _gradient(logits[0, :, place], embedded[0]).numpy()
        expected = (np.arange(LENGTH) < place) & (np.arange(LENGTH) >= place - reach(prior))
        assert np.array_equal(is_seen, expected), place


def _gradient(output: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Tell which places have a gradient."""
    (found,) = torch.autograd.grad((output * torch.arange(1.0, K + 1)).sum(), at, retain_graph=True, allow_unused=True)
    return torch.zeros(LENGTH, dtype=torch.bool) if found is None else (found[0].abs().amax(-1) > 0)


def test_probabilities_of_all_sequences_sum_to_one(build: Build) -> None:
    prior = build((7,), 2)
    every = torch.tensor(list(itertools.product((0, 1), repeat=7)), dtype=torch.int32)
    assert special.logsumexp(prior.log_prob(every).numpy()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("shape", [(LENGTH,), (4, 5)])
@pytest.mark.parametrize("full", [False, True])
def test_steps_equal_the_parallel_pass(build: Build, shape: tuple[int, ...], full: bool) -> None:
    """Rows of the batch stand at different places; what the caches hold at the start is of no matter."""
    has_earlier = full and len(shape) == 1
    prior = build(shape, earlier=has_earlier, conditions=CONDITIONS if full else {})
    grids = codes(3, shape)
    known = {"label": torch.tensor([0, 3, 1]), "speaker": torch.tensor([2, 1, 0])} if full else {}
    given = prior.given([torch.randint(0, 4, (3, *EARLIER.shape))]) if has_earlier else None
    parallel = prior(grids, given, known).flatten(2)
    flat, ahead = grids.flatten(1), torch.tensor([0, 3, 7])
    memory = {name: torch.randn(3, *one) for name, one in prior.memory(shape).caches.items()}
    rows = torch.arange(3)
    worst = 0.0
    for step in range(LENGTH + 7):
        # Each row begins at another time; before its time it takes its first place again and again.
        position, is_on = (step - ahead).clamp(0, LENGTH - 1), step - ahead < LENGTH
        shown = None if given is None else given[rows, position]
        logits, states, entries = prior.step(flat[rows, position - 1], position, memory, shown, known)
        assert not states
        worst = max(worst, float((logits - parallel[rows, :, position])[is_on].abs().max()))
        for name, entry in entries.items():
            memory[name][rows, position % memory[name].shape[1]] = entry
    assert worst < 1e-4


def test_conditions_change_the_prior_and_none_is_one_of_their_classes(build: Build) -> None:
    prior = build(conditions=CONDITIONS)
    grids = codes()

    def value(**known: int) -> torch.Tensor:
        return prior.log_prob(grids, None, {name: torch.full((3,), index) for name, index in known.items()})

    assert (value(label=0) != value(label=1)).all()
    assert (value(label=0, speaker=0) != value(label=0, speaker=1)).all()
    assert torch.equal(value(), value(label=3, speaker=2))
    assert torch.equal(value(speaker=1), value(speaker=1, label=3))


def test_what_is_given_reaches_its_own_place(build: Build) -> None:
    prior = build(earlier=True)
    given = torch.zeros(1, LENGTH, 3)
    changed = given.clone()
    changed[0, 11] = 1.0
    moved = (prior(codes(1), changed) - prior(codes(1), given))[0].abs().amax(0) > 0
    assert moved[11]
    assert not moved[:11].any()


def test_gradients_reach_every_parameter(build: Build) -> None:
    prior = build(earlier=True, conditions=CONDITIONS).train().requires_grad_(True)
    many = torch.randint(0, K, (40, LENGTH))
    given = prior.given([torch.randint(0, 4, (40, *EARLIER.shape))])
    (-prior.log_prob(many, given, {"label": torch.arange(40) % 4, "speaker": torch.arange(40) % 3})).sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_fit_in_bf16_has_finite_gradients(build: Build) -> None:
    prior = build().train().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        nats = prior.log_prob(codes(8))
    assert nats.dtype == torch.float64
    nats.sum().backward()
    assert all(torch.isfinite(one.grad).all() for one in prior.parameters() if one.grad is not None)


def test_sequences_of_any_length_have_a_probability_under_a_wavenet_alone() -> None:
    prior = wavenet(CodeGrid(K, (LENGTH,))).eval()
    assert prior.any_size
    longer = codes(2, (2 * LENGTH,))
    assert torch.allclose(prior(longer)[..., :LENGTH], prior(longer[:, :LENGTH]), atol=1e-5)
    assert not wavenet(CodeGrid(K, (4, 5))).any_size
    assert not transformer(CodeGrid(K, (LENGTH,))).any_size


def test_a_dilated_layer_is_a_causal_convolution() -> None:
    """Against torch's own convolution with a kernel of two places."""
    stack = DilatedStack(4, 3, (5,))
    h = torch.randn(2, 17, 4)
    weight = stack.get_parameter("layers.0.gates.weight")
    kernel = torch.stack([weight[:, :4], weight[:, 4:]], dim=-1)
    bias = stack.get_parameter("layers.0.gates.bias")
    padded = torch.nn.functional.pad(h.transpose(1, 2), (5, 0))
    value, opening = torch.nn.functional.conv1d(padded, kernel, bias, dilation=5).chunk(2, dim=1)
    expected = stack.get_submodule("layers.0.skip")((value.tanh() * opening.sigmoid()).transpose(1, 2))
    assert torch.allclose(stack(h), expected, atol=1e-6)
    assert stack.receptive_field == 6
    assert dilation_cycles(2, 3) == (1, 2, 4, 1, 2, 4)
