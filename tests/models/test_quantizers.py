"""Quantizers against plain numpy: nearest codes, losses, averages, revival, a codebook that rests in evaluation."""

import numpy as np
import pytest
import torch

from models.families.quantizers import QuantizerConfig
from models.kmeans import kmeans, nearest
from models.quantizers import EMAVectorQuantizer, LearnedVectorQuantizer, VectorQuantizer

K, D = 7, 3


def build(**changes: object) -> VectorQuantizer:
    torch.manual_seed(0)
    settings = {"num_embeddings": K, "embedding_dim": D, "initialisation": "random", "revive_below": 0.0}
    quantizer = QuantizerConfig.model_validate(settings | changes).build()
    assert isinstance(quantizer, VectorQuantizer)
    return quantizer


def vectors(seed: int = 1, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(5, 4, 6, D, generator=torch.Generator().manual_seed(seed))


def distances(z: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """Squared distances from their definition, `[N, K]`."""
    return ((z.reshape(-1, 1, D) - codebook) ** 2).sum(-1)


def test_codes_are_the_nearest_by_the_definition() -> None:
    quantizer, z = build(), vectors()
    expected = distances(z.double().numpy(), quantizer.embedding.double().numpy()).argmin(1)
    assert np.array_equal(quantizer.codes(z).flatten().numpy(), expected)
    assert torch.equal(quantizer.embed(quantizer.codes(z)), quantizer.embedding[quantizer.codes(z)])


def test_margins_tell_near_ties() -> None:
    quantizer, z = build(), vectors()
    ordered = np.sort(distances(z.double().numpy(), quantizer.embedding.double().numpy()), axis=1)
    expected = (ordered[:, 1] - ordered[:, 0]) / ordered[:, 1]
    np.testing.assert_allclose(quantizer.margins(z).flatten().numpy(), expected, rtol=1e-5)
    assert quantizer.margins(quantizer.embedding[0]) == 1.0, "a code itself"
    with torch.no_grad():
        quantizer.embedding[2:] += 100.0
    assert quantizer.margins(quantizer.embedding[:2].mean(0)) < 1e-5, "the middle between two codes"


def test_unit_length_compares_directions() -> None:
    quantizer, z = build(unit_length=True), vectors()
    assert torch.allclose(quantizer.vectors.norm(dim=1), torch.ones(K))
    assert torch.equal(quantizer.codes(z), quantizer.codes(17.0 * z))
    cosine = torch.nn.functional.normalize(z, dim=-1) @ quantizer.vectors.T
    assert torch.equal(quantizer.codes(z), cosine.argmax(-1))
    quantized = quantizer.train()(z)
    assert torch.allclose(quantized.z.norm(dim=-1), torch.ones(z.shape[:-1]), atol=1e-5)
    assert torch.allclose(quantizer.embedding.norm(dim=1), torch.ones(K), atol=1e-5)


def test_the_penalty_is_the_papers_third_term() -> None:
    z = vectors().requires_grad_()
    quantizer = build(commitment_cost=0.4).eval()
    result = quantizer(z)
    codebook = quantizer.embedding.double().numpy()
    change = z.detach().double().numpy() - codebook[result.codes.numpy()]
    np.testing.assert_allclose(result.penalty.detach().numpy(), 0.4 * (change**2).mean((1, 2, 3)), rtol=1e-5)
    result.penalty.sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), 0.8 * change / change[0].size, rtol=1e-4, atol=1e-7)


def test_gradients_pass_straight_through() -> None:
    z = vectors().requires_grad_()
    result = build().eval()(z)
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    (result.z * weights).sum().backward()
    assert torch.equal(z.grad, weights)
    assert torch.allclose(result.z, build().embed(result.codes), atol=1e-6)


def test_averages_follow_the_papers_recursion() -> None:
    quantizer = build(decay=0.9).train()
    uses, sums = np.ones(K), quantizer.embedding.double().numpy().copy()
    codebook = sums.copy()
    for seed in range(5):
        z = vectors(seed, scale=0.7)
        flat = z.double().numpy().reshape(-1, D)
        codes = distances(flat, codebook).argmin(1)
        uses = 0.9 * uses + 0.1 * np.bincount(codes, minlength=K)
        sums = 0.9 * sums + 0.1 * np.stack([flat[codes == code].sum(0) for code in range(K)])
        codebook = sums / uses[:, None]
        quantizer(z)
    np.testing.assert_allclose(quantizer.embedding.numpy(), codebook, rtol=1e-3, atol=1e-4)


def test_the_learned_codebook_follows_its_gradient() -> None:
    quantizer = build(update="loss", commitment_cost=0.0).train()
    assert isinstance(quantizer, LearnedVectorQuantizer)
    z = vectors().requires_grad_()
    quantizer(z).penalty.sum().backward()
    assert z.grad is None or not z.grad.any(), "the codebook's loss moves the codebook alone"
    z = z.detach()
    flat = z.double().numpy().reshape(-1, D)
    codes = distances(flat, quantizer.embedding.detach().double().numpy()).argmin(1)
    pulls = [(quantizer.embedding[k].detach().double().numpy() - flat[codes == k]).sum(0) for k in range(K)]
    expected = 2 * np.stack(pulls) / (4 * 6 * D)
    np.testing.assert_allclose(quantizer.embedding.grad.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_nothing_changes_in_evaluation(update: str) -> None:
    quantizer = build(update=update, initialisation="kmeans", revive_below=0.5).eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(vectors())
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_dead_codes_move_to_where_data_are(update: str) -> None:
    quantizer = build(update=update, revive_below=0.2, decay=0.5).train()
    with torch.no_grad():
        quantizer.embedding.copy_(torch.arange(K)[:, None] * 100.0 + 100.0)
    if isinstance(quantizer, EMAVectorQuantizer):
        quantizer.sums.copy_(quantizer.embedding)
    z = vectors()
    for _ in range(6):
        quantizer(z)
    assert len(torch.unique(quantizer.codes(z))) == K


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_kmeans_starts_from_the_first_batch(update: str) -> None:
    quantizer = build(update=update, initialisation="kmeans", decay=0.99).train()
    corners = 10.0 * torch.randn(K, D, generator=torch.Generator().manual_seed(3))
    picks = torch.randint(0, K, (8, 6, 6), generator=torch.Generator().manual_seed(4))
    z = corners[picks] + 0.01 * torch.randn(8, 6, 6, D, generator=torch.Generator().manual_seed(5))
    assert quantizer(z).penalty.max() < 2.0, "of vectors that lie some 14 apart"
    assert bool(quantizer.started)


def test_kmeans_does_not_worsen_with_iterations() -> None:
    torch.manual_seed(0)
    z = torch.randn(500, D)
    errors = []
    for iterations in (0, 1, 5, 20):
        torch.manual_seed(1)
        centres = kmeans(z, 20, iterations)
        errors.append(float((z - centres[nearest(z, centres)]).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert kmeans(z[:3], 8).shape == (8, D), "fewer vectors than centres"


@pytest.mark.parametrize("training", [False, True])
def test_distances_stay_in_float32_under_autocast(training: bool) -> None:
    z = torch.randn(4, 32, 32, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    quantizer = build(num_embeddings=512, embedding_dim=16).train(training)
    expected = quantizer.codes(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(quantizer.codes(z), expected)
        result = quantizer(z)
    assert result.z.dtype == torch.float32
    assert torch.equal(result.codes, expected)


@pytest.mark.parametrize("update", ["ema", "loss"])
def test_a_batch_that_is_not_finite_teaches_nothing(update: str) -> None:
    quantizer, z = build(update=update, initialisation="kmeans").train(), vectors()
    quantizer(z)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    z[0, 0, 0, 0] = torch.inf
    quantizer(z)
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_start_from_data_outlives_large_batches() -> None:
    quantizer = build(num_embeddings=4, initialisation="kmeans", revive_below=0.03).train()
    z = torch.randn(16, 16, 16, D, generator=torch.Generator().manual_seed(2))
    first = quantizer(z).penalty.mean()
    assert quantizer(z).penalty.mean() < 1.05 * first


def test_revived_codes_are_not_dead_at_once() -> None:
    quantizer, z = build(revive_below=0.5, decay=0.9).train(), vectors()
    quantizer.uses.zero_()
    quantizer(z)
    assert (quantizer.uses >= 0.5 * 120 / K).all()
