"""Gradients through code vectors against the papers' formulas, in numpy."""

import numpy as np
import pytest
import torch

from models.quantizers.gradients import replace

N, D = 50, 4


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z, embedded = torch.randn(2, N, D, generator=generator, dtype=torch.float64)
    return z.requires_grad_(), embedded


@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_values_are_the_code_vectors(gradient: str) -> None:
    z, embedded = pairs()
    torch.testing.assert_close(replace(z, embedded, gradient), embedded)


def test_rotation_is_the_papers_constant_matrix() -> None:
    """Row by row the gradient is (lambda R)' g with R built as a matrix (Fifty et al. 2024, section 4.2)."""
    z, embedded = pairs()
    weights = torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (replace(z, embedded, "rotation") * weights).sum().backward()
    for one, code, g, found in zip(z.detach().numpy(), embedded.numpy(), weights.numpy(), z.grad.numpy(), strict=True):
        e, q = one / np.linalg.norm(one), code / np.linalg.norm(code)
        r = (e + q) / np.linalg.norm(e + q)
        rotation = np.eye(D) - 2 * np.outer(r, r) + 2 * np.outer(q, e)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(D), atol=1e-12)
        np.testing.assert_allclose(rotation @ e, q, atol=1e-12)
        scale = np.linalg.norm(code) / np.linalg.norm(one)
        np.testing.assert_allclose(found, scale * rotation.T @ g, rtol=1e-6, atol=1e-9)


def test_rotation_keeps_the_angle_between_gradient_and_vector() -> None:
    z, embedded = pairs()
    weights = torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (replace(z, embedded, "rotation") * weights).sum().backward()
    before = torch.cosine_similarity(weights, embedded)
    torch.testing.assert_close(torch.cosine_similarity(z.grad, z.detach()), before)


@pytest.mark.parametrize("z", [torch.zeros(1, D), -torch.eye(D)[:1], 1e-20 * torch.ones(1, D)])
def test_rotation_stays_finite_where_it_has_no_meaning(z: torch.Tensor) -> None:
    """At zero, and opposite to the code vector, there is no one rotation."""
    z = z.clone().requires_grad_()
    result = replace(z, torch.eye(D)[:1], "rotation")
    result.sum().backward()
    torch.testing.assert_close(result.detach(), torch.eye(D)[:1])
    assert torch.isfinite(z.grad).all()
