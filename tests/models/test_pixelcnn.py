"""The gated PixelCNN: what each place sees, normalisation, and incremental steps against the parallel pass."""

import itertools

import numpy as np
import pytest
import torch
from scipy import special

from models.code_priors import UniformCodes
from models.pixelcnn import GatedPixelCNN

K, HEIGHT, WIDTH = 5, 4, 6


def build(num_classes: int = 0, radius: int = 1, layers: int = 8, num_embeddings: int = K) -> GatedPixelCNN:
    torch.manual_seed(0)
    prior = GatedPixelCNN(
        num_embeddings,
        channels=6,
        layers=layers,
        radius=radius,
        hidden=12,
        num_classes=num_classes,
        dropout=0.1,
    )
    return prior.eval().requires_grad_(False)


def grids(batch: int = 3) -> torch.Tensor:
    return torch.randint(0, K, (batch, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(1)).int()


@pytest.mark.parametrize("radius", [1, 2])
def test_a_place_sees_all_codes_before_it_and_no_other(radius: int) -> None:
    """Every code is changed in turn: the features of every place after it must move, and of no place before."""
    prior = build(radius=radius).double()
    prior.head = torch.nn.Identity()  # a rectifier may hide a change
    codes, places = grids(1), HEIGHT * WIDTH
    changed = codes.repeat(places, 1, 1).flatten(1)
    changed[range(places), range(places)] = (changed[range(places), range(places)] + 1) % K
    moves = prior(changed.unflatten(1, (HEIGHT, WIDTH))) - prior(codes)
    moved = (moves.abs().amax(1) > 0).flatten(1).numpy()
    assert not np.tril(moved).any(), "a place sees itself or a later one"
    assert moved[np.triu_indices(places, 1)].all(), "a place is blind for one before it"


def test_probabilities_of_all_grids_sum_to_one() -> None:
    prior = build(num_embeddings=2)
    every = torch.tensor(list(itertools.product((0, 1), repeat=9)), dtype=torch.int32).reshape(-1, 3, 3)
    assert special.logsumexp(prior.log_prob(every).numpy()) == pytest.approx(0.0, abs=1e-5)


def test_log_prob_is_the_sum_over_places() -> None:
    prior, codes = build(), grids()
    logits = prior(codes).double().numpy()
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
    expected = np.take_along_axis(log_p, codes.long().numpy()[:, None], axis=1).sum((1, 2, 3))
    np.testing.assert_allclose(prior.log_prob(codes).numpy(), expected, rtol=1e-5)


def test_classes_change_the_prior_and_none_is_one_of_them() -> None:
    prior, codes = build(num_classes=2), grids()
    values = torch.stack([prior.log_prob(codes, torch.full((3,), label)) for label in range(3)])
    assert (values[0] != values[1]).all()
    assert torch.equal(prior.log_prob(codes), values[2])


@pytest.mark.parametrize("num_classes", [0, 2])
@pytest.mark.parametrize("radius", [1, 2])
def test_steps_equal_the_parallel_pass(num_classes: int, radius: int) -> None:
    prior, codes = build(num_classes, radius), grids()
    condition = torch.tensor([0, 2, 1]) if num_classes else None
    parallel = prior(codes, condition)
    above = torch.randn(3, 8, 6, radius, WIDTH)  # what stands in the states at the start is of no matter
    left = torch.randn(3, 8, 6, radius)
    for row in range(HEIGHT):
        context, above = prior.row(codes[:, row - 1], torch.full((3,), row), above, condition)
        for column in range(WIDTH):
            at = torch.full((3,), column)
            logits, left = prior.pixel(codes[:, row, column - 1], at, context[:, column], left)
            np.testing.assert_allclose(logits.numpy(), parallel[:, :, row, column].numpy(), rtol=1e-4, atol=1e-5)


def test_rows_of_a_batch_may_stand_at_different_places() -> None:
    prior, codes = build(), grids(2)
    parallel = prior(codes)
    above, left = torch.zeros(2, 8, 6, 1, WIDTH), torch.zeros(2, 8, 6, 1)
    _, above = prior.row(codes[:, 0], torch.tensor([0, 0]), above)
    ahead, _ = prior.row(codes[:, 0], torch.tensor([1, 0]), above)
    logits, _ = prior.pixel(codes[:, 0, 0], torch.tensor([0, 0]), ahead.clone()[:, 0], left)
    np.testing.assert_allclose(logits[0].numpy(), parallel[0, :, 1, 0].numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits[1].numpy(), parallel[1, :, 0, 0].numpy(), rtol=1e-4, atol=1e-5)


def test_uniform_codes_cost_log_k_each() -> None:
    found = UniformCodes(512).log_prob(torch.zeros(2, 8, 8, dtype=torch.int32))
    np.testing.assert_allclose(found.numpy(), -64 * np.log(512))


def test_gradients_reach_every_parameter() -> None:
    prior = build(num_classes=3).train().requires_grad_(True)
    codes = torch.randint(0, K, (40, HEIGHT, WIDTH))
    (-prior.log_prob(codes, torch.arange(40) % 4)).sum().backward()
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
