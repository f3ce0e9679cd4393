"""The VQ-VAE as a VAE: a certain posterior, a uniform prior, and a rate of log K for each code."""

import math

import torch

from models.families.quantizers import QuantizerConfig
from models.families.vqvae import FullyConvConfig, VQVAEConfig
from models.networks import ImageShape

CODES = 13


def test_the_rate_is_log_k_for_each_code() -> None:
    config = VQVAEConfig(
        family="vqvae",
        network=FullyConvConfig(downsampling=4, hidden=8, residual_hidden=4, residual_blocks=1),
        quantizer=QuantizerConfig(num_embeddings=CODES, embedding_dim=3, initialisation="random"),
    )
    model = config.build(ImageShape(3, 8, 12)).eval()
    x = torch.randint(0, 256, (5, 8, 12, 3), generator=torch.Generator().manual_seed(0)).byte()
    bound = model.bound(x, torch.empty(5, 1, 0))
    rate = 2 * 3 * math.log(CODES)
    expected = torch.full((5,), rate, dtype=torch.float64)
    torch.testing.assert_close(bound.rate, expected, rtol=1e-6, atol=0)
    of_x = model.likelihood.log_prob(x, model.decode(model.bottleneck.point(model.encode(x))))
    torch.testing.assert_close(bound.elbo, of_x - expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(bound.iwae, bound.elbo, rtol=0, atol=1e-9)
