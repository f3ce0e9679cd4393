"""Raster priors: what each place sees, normalisation, and incremental steps against the parallel pass."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from scipy import special

from models.code_priors import CodeGrid, RasterPrior, UniformCodes
from models.families.pixelcnn import PixelCNNConfig
from models.families.pixelsnail import PixelSNAILConfig
from models.pixelcnn import GatedPixelCNN

K, HEIGHT, WIDTH = 5, 4, 6
GRID = CodeGrid(K, (HEIGHT, WIDTH))
COARSE = CodeGrid(7, (HEIGHT // 2, WIDTH // 2))

CONFIGS = {
    "pixelcnn": PixelCNNConfig(channels=6, layers=8, hidden=12, features=6, feature_blocks=1),
    "pixelcnn-2": PixelCNNConfig(channels=6, layers=8, hidden=12, radius=2, features=6, feature_blocks=1),
    "pixelsnail": PixelSNAILConfig(
        channels=6, layers=8, attention_every=4, heads=2, hidden=12, features=6, feature_blocks=1
    ),
}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> PixelCNNConfig | PixelSNAILConfig:
    return CONFIGS[request.param]


def build(
    config: PixelCNNConfig | PixelSNAILConfig,
    grid: CodeGrid = GRID,
    earlier: Sequence[CodeGrid] = (),
    conditions: Mapping[str, int] | None = None,
) -> GatedPixelCNN:
    torch.manual_seed(0)
    return config.build(grid, earlier, conditions or {}).eval().requires_grad_(False)


def grids(batch: int = 3, grid: CodeGrid = GRID) -> torch.Tensor:
    return torch.randint(0, grid.num_embeddings, (batch, *grid.shape), generator=torch.Generator().manual_seed(1)).int()


def test_a_place_sees_all_codes_before_it_and_no_other(config: PixelCNNConfig | PixelSNAILConfig) -> None:
    """Every code is changed in turn: the features of every place after it must move, and of no place before."""
    prior = build(config).double()
    prior.head = torch.nn.Identity()  # a rectifier may hide a change
    codes, places = grids(1), HEIGHT * WIDTH
    changed = codes.repeat(places, 1, 1).flatten(1)
    changed[range(places), range(places)] = (changed[range(places), range(places)] + 1) % K
    moves = prior(changed.unflatten(1, (HEIGHT, WIDTH))) - prior(codes)
    moved = (moves.abs().amax(1) > 0).flatten(1).numpy()
    assert not np.tril(moved).any(), "a place sees itself or a later one"
    assert moved[np.triu_indices(places, 1)].all(), "a place is blind for one before it"


@pytest.mark.parametrize("place", [0, 7, 23])
def test_no_gradient_comes_from_a_place_itself_or_later_ones(
    config: PixelCNNConfig | PixelSNAILConfig, place: int
) -> None:
    prior = build(config).double()
    prior.head = torch.nn.Identity()  # as above
    embedded: list[torch.Tensor] = []

    def keep(_layer: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.requires_grad_(True))
        return embedded[0]

    prior.embedding.register_forward_hook(keep)
    prior(grids(1)).flatten(2)[0, :, place].square().sum().backward()
    gradient = embedded[0].grad
    assert gradient is not None
    reaches = gradient.abs().sum(-1).flatten() > 0
    assert reaches[:place].all()
    assert not reaches[place:].any()


@pytest.mark.parametrize("sided", [2, 3])
def test_probabilities_of_all_grids_sum_to_one(config: PixelCNNConfig | PixelSNAILConfig, sided: int) -> None:
    prior = build(config, CodeGrid(2, (3, sided)), (CodeGrid(3, (3, sided)),))
    every = torch.tensor(list(itertools.product((0, 1), repeat=3 * sided)), dtype=torch.int32).reshape(-1, 3, sided)
    given = prior.given((torch.full(every.shape, 2, dtype=torch.int32),))
    assert special.logsumexp(prior.log_prob(every, given).numpy()) == pytest.approx(0.0, abs=1e-5)


def test_log_prob_is_the_sum_over_places(config: PixelCNNConfig | PixelSNAILConfig) -> None:
    prior, codes = build(config), grids()
    logits = prior(codes).double().numpy()
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
    expected = np.take_along_axis(log_p, codes.long().numpy()[:, None], axis=1).sum((1, 2, 3))
    np.testing.assert_allclose(prior.log_prob(codes).numpy(), expected, rtol=1e-5)


def test_conditions_change_the_prior_and_none_is_one_of_their_classes() -> None:
    prior, codes = build(CONFIGS["pixelcnn"], conditions={"label": 2, "speaker": 3}), grids()
    label, none = torch.zeros(3, dtype=torch.int64), {"label": torch.full((3,), 2), "speaker": torch.full((3,), 3)}
    values = torch.stack(
        [prior.log_prob(codes, None, known) for known in ({"label": label}, {"speaker": label}, {"label": label + 1})]
    )
    assert len(values.unique(dim=0)) == 3
    assert torch.equal(prior.log_prob(codes), prior.log_prob(codes, None, none))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("earlier", [(), (COARSE,), (COARSE, GRID)])
def test_steps_equal_the_parallel_pass(
    config: PixelCNNConfig | PixelSNAILConfig, earlier: tuple[CodeGrid, ...], known: bool
) -> None:
    prior, codes = build(config, GRID, earlier, {"label": 2} if known else {}), grids()
    conditions = {"label": torch.tensor([0, 2, 1])} if known else {}
    given = prior.given([grids(3, grid) for grid in earlier])
    parallel = prior(codes, given, conditions)
    found = stepwise(prior, codes, given, conditions)
    np.testing.assert_allclose(found.numpy(), parallel.numpy(), rtol=1e-4, atol=1e-5)


def stepwise(
    prior: RasterPrior, codes: torch.Tensor, given: torch.Tensor | None, conditions: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Take all steps of whole grids; what stands in the memory at the start is of no matter."""
    _, height, width = codes.shape
    above = {name: torch.randn(3, *shape) for name, shape in prior.row_memory((height, width)).states.items()}
    shapes = prior.place_memory((height, width))
    memory = {name: torch.randn(3, *shape) for name, shape in (*shapes.states.items(), *shapes.caches.items())}
    rows = []
    for row in range(height):
        shown = None if given is None else given[:, row]
        context, above = prior.row(codes[:, row - 1], torch.full((3,), row), above, shown, conditions)
        found = []
        for column in range(width):
            place = row * width + column
            step = prior.place(codes[:, row, column - 1], torch.full((3,), place), width, context[:, column], memory)
            memory |= step.states
            for name, entry in step.entries.items():
                memory[name][:, place] = entry
            found.append(step.logits)
        rows.append(torch.stack(found, dim=-1))
    return torch.stack(rows, dim=2)


def test_rows_of_a_batch_may_stand_at_different_places() -> None:
    prior, codes = build(CONFIGS["pixelcnn"]), grids(2)
    parallel = prior(codes)
    above, left = {"above": torch.zeros(2, 8, 6, 1, WIDTH)}, {"left": torch.zeros(2, 8, 6, 1)}
    _, above = prior.row(codes[:, 0], torch.tensor([0, 0]), above)
    ahead, _ = prior.row(codes[:, 0], torch.tensor([1, 0]), above)
    logits, _, _ = prior.place(codes[:, 0, 0], torch.tensor([WIDTH, 0]), WIDTH, ahead[:, 0], left)
    np.testing.assert_allclose(logits[0].numpy(), parallel[0, :, 1, 0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[1].numpy(), parallel[1, :, 0, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_attention_tells_equal_neighbourhoods_apart() -> None:
    """A code far away decides, which no PixelCNN of that depth can see."""
    far = CodeGrid(K, (1, 12))
    codes = torch.zeros(2, 1, 12, dtype=torch.int32)
    codes[1, 0, 0] = 1
    for name, sees in (("pixelcnn", False), ("pixelsnail", True)):
        prior = build(CONFIGS[name].model_copy(update={"layers": 4}), far)
        last = prior(codes)[:, :, 0, -1]
        assert torch.equal(last[0], last[1]) != sees


def test_uniform_codes_cost_log_k_each() -> None:
    found = UniformCodes(512).log_prob(torch.zeros(2, 8, 8, dtype=torch.int32))
    np.testing.assert_allclose(found.numpy(), -64 * np.log(512))


def test_gradients_reach_every_parameter(config: PixelCNNConfig | PixelSNAILConfig) -> None:
    prior = build(config, GRID, (COARSE,), {"label": 3}).train().requires_grad_(True)
    given = prior.given([grids(40, COARSE)])
    (-prior.log_prob(grids(40), given, {"label": torch.arange(40) % 4})).sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias moves all scores of a query alike, which leaves their shares as they are.
        assert parameter.grad.abs().sum() > 0 or name.endswith("key.bias"), name
