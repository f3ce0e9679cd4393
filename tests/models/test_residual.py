"""Residual quantization against a loop in numpy; each codebook makes the approximation better."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.families.quantizers import QuantizerConfig
from models.quantizers import ResidualQuantizer

K, D, Q = 16, 3, 4


def build(**changes: object) -> ResidualQuantizer:
    torch.manual_seed(0)
    settings = {"num_embeddings": K, "embedding_dim": D, "num_codebooks": Q, "revive_below": 0.0}
    quantizer = QuantizerConfig.model_validate(settings | changes).build()
    assert isinstance(quantizer, ResidualQuantizer)
    return quantizer


def vectors(seed: int = 1) -> torch.Tensor:
    return torch.randn(6, 5, 7, D, generator=torch.Generator().manual_seed(seed))


def fitted(**changes: object) -> ResidualQuantizer:
    quantizer = build(**changes).train()
    for seed in range(30):
        quantizer(vectors(seed))
    return quantizer.eval()


def test_codes_are_those_of_a_loop_over_remainders() -> None:
    quantizer, z = fitted(), vectors()
    remainder = z.double().numpy().reshape(-1, D)
    codes, total = [], np.zeros_like(remainder)
    for stage in quantizer.stages:
        codebook = stage.embedding.double().numpy()
        chosen = ((remainder[:, None] - codebook) ** 2).sum(-1).argmin(1)
        codes.append(chosen.reshape(6, 5, 7))
        total += codebook[chosen]
        remainder = remainder - codebook[chosen]
    found = quantizer.codes(z)
    assert found.shape == (6, Q, 5, 7)
    assert np.array_equal(found.numpy(), np.stack(codes, 1))
    np.testing.assert_allclose(quantizer.embed(found).numpy().reshape(-1, D), total, rtol=1e-5, atol=1e-6)
    result = quantizer(z)
    assert torch.equal(result.codes, found)
    np.testing.assert_allclose(result.z.numpy().reshape(-1, D), total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_each_codebook_leaves_a_smaller_error(dropout: float) -> None:
    quantizer, z = fitted(codebook_dropout=dropout), vectors(99)
    codes = quantizer.codes(z)
    errors = [z.square().mean()]
    for count in range(1, Q + 1):
        prefix = codes.clone()
        prefix[:, count:] = -1
        errors.append((quantizer.embed(prefix) - z).square().mean())
    assert all(later < 0.6 * before for before, later in pairwise(errors))
    assert not quantizer.embed(torch.full_like(codes, -1)).any()


def test_dropout_leaves_whole_codebooks_out_of_some_examples() -> None:
    quantizer = build(codebook_dropout=1.0).train()
    torch.manual_seed(3)
    z = torch.randn(200, 4, 4, D)
    result = quantizer(z)
    present = (result.codes >= 0).flatten(2)
    assert (present.all(2) == present.any(2)).all(), "a codebook is there for a whole example, or not at all"
    counts = present[:, :, 0].sum(1)
    assert (present[:, :, 0] == (torch.arange(Q) < counts[:, None])).all(), "the first ones stay"
    assert torch.bincount(counts, minlength=Q + 1).tolist()[1:] == pytest.approx([50] * Q, abs=20)
    torch.testing.assert_close(result.z, quantizer.eval().embed(result.codes), rtol=1e-2, atol=0.1)
    assert (build(codebook_dropout=1.0).eval()(z).codes >= 0).all()


def test_gradients_reach_z_once() -> None:
    z = vectors().requires_grad_()
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    (fitted()(z).z * weights).sum().backward()
    assert torch.equal(z.grad, weights)


def test_a_near_tie_concerns_all_later_codebooks() -> None:
    quantizer = fitted()
    margins = quantizer.margins(vectors())
    assert (margins[:, 1:] <= margins[:, :-1]).all()
    tie = quantizer.stages[0].embedding[:2].mean(0).reshape(1, 1, D)
    with torch.no_grad():
        quantizer.stages[0].embedding[2:] += 100.0
    assert (quantizer.margins(tie) < 1e-4).all()


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValidationError, match="no unit length"):
        QuantizerConfig(num_codebooks=2, unit_length=True)
    with pytest.raises(ValidationError, match="codebook_dropout needs several codebooks"):
        QuantizerConfig(codebook_dropout=0.5)
