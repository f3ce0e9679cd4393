"""The sum that knows its derivative against the one that is traced through."""

import torch

from models.likelihoods import Bernoulli
from models.likelihoods.base import Likelihood


def test_value_and_gradient_are_those_of_the_traced_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(70, 1, 28, 28, 1, generator=generator) > 0.5).byte() * 255
    logits = 4 * torch.randn(70, 3, 28, 28, 1, generator=generator)
    weights = torch.randn(70, 3, generator=generator).double()
    found = []
    for log_prob in (Bernoulli.log_prob, Likelihood.log_prob):
        given = logits.clone().requires_grad_()
        value = log_prob(Bernoulli(), x, {"logits": given})
        assert value.dtype == torch.float64
        (value * weights).sum().backward()
        assert given.grad is not None
        found.append((value.detach(), given.grad))
    torch.testing.assert_close(*(value for value, _ in found), rtol=1e-6, atol=0)
    torch.testing.assert_close(*(gradient for _, gradient in found), rtol=1e-5, atol=1e-6)
