"""Finite scalar quantization against its definition, over whole vocabularies."""

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.families.quantizers import FiniteScalarConfig
from models.quantizers import FiniteScalarQuantizer

LEVELS = [(8, 5, 5, 5), (2, 2), (3,), (7, 6, 4, 3), (8, 8, 8, 5, 5, 5)]


@pytest.mark.parametrize("levels", LEVELS)
def test_the_whole_vocabulary_makes_the_round_trip(levels: tuple[int, ...]) -> None:
    """The codebook is the product of evenly spaced levels, and an encoder that reaches for a code gets it."""
    quantizer = FiniteScalarQuantizer(levels).double()
    codes = torch.arange(quantizer.num_embeddings)
    vectors = quantizer.embed(codes)
    axes = [[(step - size // 2) / (size // 2) for step in range(size)] for size in levels]
    expected = [digits[::-1] for digits in itertools.product(*reversed(axes))]
    np.testing.assert_allclose(vectors.numpy(), np.array(expected), atol=1e-6)
    reach, offset, shift = (
        np.array(values)
        for values in zip(
            *(
                ((size - 1) * 1.001 / 2, half, np.arctanh(half / ((size - 1) * 1.001 / 2)))
                for size, half in ((size, 0.5 if size % 2 == 0 else 0.0) for size in levels)
            ),
            strict=True,
        )
    )
    steps = vectors.double().numpy() * (np.array(levels) // 2)
    wanted = np.arctanh(np.clip((steps + offset) / reach, -1, 1)) - shift
    assert torch.equal(quantizer.codes(torch.from_numpy(wanted)), codes)


def test_roundings_are_the_papers() -> None:
    """Five levels: round(2 tanh z) up to the small stretch of the range."""
    quantizer = FiniteScalarQuantizer((5, 5))
    z = 3.0 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    expected = np.round(2.002 * np.tanh(z.double().numpy()))
    result = quantizer(z)
    np.testing.assert_allclose(result.z.numpy(), expected / 2, atol=1e-6)
    assert np.array_equal(result.codes.numpy(), (expected + 2) @ [1, 5])
    assert torch.equal(result.codes, quantizer.codes(z))
    torch.testing.assert_close(quantizer.embed(result.codes), result.z)
    assert not result.penalty.any()


def test_gradients_are_those_of_the_bound() -> None:
    z = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32).requires_grad_()
    FiniteScalarQuantizer((5, 9))(z).z.sum().backward()
    slope = 1 - np.tanh(z.detach().double().numpy()) ** 2
    np.testing.assert_allclose(z.grad.numpy(), slope * 1.001, rtol=1e-4, atol=1e-6)


def test_margins_are_those_of_distances_to_all_codes() -> None:
    quantizer = FiniteScalarQuantizer((7, 5, 3))
    z = torch.randn(300, 3, generator=torch.Generator().manual_seed(2))
    bounded = np.tanh(z.double().numpy()) * np.array([3, 2, 1]) * 1.001
    codebook = quantizer.embed(torch.arange(105)).double().numpy() * np.array([3, 2, 1])
    distances = np.sort(((bounded[:, None] - codebook) ** 2).sum(-1), axis=1)
    expected = (distances[:, 1] - distances[:, 0]) / distances[:, 1]
    inside = np.abs(bounded).max(1) < 0.9
    np.testing.assert_allclose(quantizer.margins(z).numpy()[inside], expected[inside], rtol=1e-4, atol=1e-6)


def test_too_large_vocabularies_are_refused() -> None:
    assert FiniteScalarConfig(kind="fsq", levels=(8, 8, 8, 5, 5, 5)).num_embeddings == 64_000
    with pytest.raises(ValidationError, match="levels make 1073741824 codes"):
        FiniteScalarConfig(kind="fsq", levels=(1024, 1024, 1024))
