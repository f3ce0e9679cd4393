"""The decoder pixel by pixel: a distribution over pictures, of which draws see what is before them and nothing else."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from models.autoregressive import AutoregressivePictures
from models.families.decoders import PixelCNNDecoderConfig
from models.families.parts import BernoulliConfig, CategoricalConfig, LikelihoodConfig
from models.families.vae import MLPConfig, VAEConfig
from models.likelihoods import Bernoulli
from models.networks import ImageShape
from models.pixelcnn_decoder import PixelCNNDecoder

LATENT = 3


def model_of(likelihood: LikelihoodConfig, height: int, width: int, **options: int) -> AutoregressivePictures:
    torch.manual_seed(0)
    decoder = PixelCNNDecoderConfig(features=3, channels=6, hidden=8, **options)
    config = VAEConfig(latent=LATENT, network=MLPConfig(hidden=(8,)), likelihood=likelihood, decoder=decoder)
    model = config.build(ImageShape(1, height, width)).eval().requires_grad_(False)
    assert isinstance(model, AutoregressivePictures)
    for weight in model.parameters():
        weight.mul_(3.0)
    return model


def test_probabilities_of_all_pictures_sum_to_one() -> None:
    model = model_of(BernoulliConfig(), 3, 3, layers=2)
    x = 255 * torch.tensor(list(product((0, 1), repeat=9)), dtype=torch.uint8).reshape(512, 3, 3, 1)
    totals = []
    for z in torch.randn(2, LATENT):
        log_p = model.likelihood.log_prob(x, model.weighing(x, z.expand(512, LATENT)))
        assert log_p.std() > 0.1
        totals.append(log_p.exp().sum().item())
    assert totals == pytest.approx([1.0, 1.0], abs=1e-6)


@pytest.mark.parametrize(
    ("likelihood", "radius"), [(BernoulliConfig(), 2), (CategoricalConfig(), 1), (BernoulliConfig(), 0)]
)
def test_drawn_pixels_are_those_that_the_parallel_pass_gives(likelihood: LikelihoodConfig, radius: int) -> None:
    model = model_of(likelihood, 4, 5, layers=3, radius=radius)
    z, noise = torch.randn(6, LATENT), torch.rand(6, 4, 5, 1)
    drawn = model.decoder.draw(z, noise, model.likelihood)
    assert len(drawn.unique()) > 1
    again = model.likelihood.sample(model.weighing(drawn, z), noise)
    np.testing.assert_array_equal(drawn, again)


def test_a_pixel_depends_on_those_before_it_as_far_as_the_layers_reach() -> None:
    x = torch.zeros(1, 7, 7, 1, dtype=torch.uint8)
    seen = {}
    for layers in (1, 3):
        model = model_of(BernoulliConfig(), 7, 7, layers=layers, radius=1)
        before = model.weighing(x, torch.zeros(1, LATENT))["logits"][0, 5, 3]
        seen[layers] = np.zeros((7, 7), dtype=bool)
        for row, column in product(range(7), repeat=2):
            other = x.clone()
            other[0, row, column] = 255
            seen[layers][row, column] = model.weighing(other, torch.zeros(1, LATENT))["logits"][0, 5, 3] != before
        assert not seen[layers].ravel()[5 * 7 + 3 :].any()
    assert seen[1][5, 1:3].all()
    assert seen[1][3:5, 2:5].all()
    assert seen[1].sum() == 8
    assert seen[3].sum() > seen[1].sum()


def test_samples_of_one_example_are_weighed_as_alone() -> None:
    model = model_of(BernoulliConfig(), 4, 5)
    x = 255 * torch.randint(0, 2, (2, 4, 5, 1), dtype=torch.uint8)
    z = torch.randn(2, 3, LATENT)
    together = model.likelihood.log_prob(x.unsqueeze(1), model.weighing(x, z))
    for sample in range(3):
        alone = model.likelihood.log_prob(x, model.weighing(x, z[:, sample]))
        np.testing.assert_allclose(together[:, sample], alone, rtol=1e-5)


def test_without_a_picture_there_are_no_parameters() -> None:
    with pytest.raises(TypeError, match="use `weighing` or `mean`"):
        model_of(BernoulliConfig(), 4, 5).decode(torch.zeros(1, LATENT))


def test_colours_are_refused() -> None:
    with pytest.raises(ValueError, match="takes grey images, these have 3 channels"):
        PixelCNNDecoderConfig().build(nn.Identity(), ImageShape(3, 4, 4), Bernoulli())


def test_values_are_numbered_in_their_order() -> None:
    decoder = PixelCNNDecoder(
        nn.Identity(), (0, 255), 1, features=2, channels=4, layers=1, radius=1, hidden=4, dropout=0.0
    )
    x = torch.tensor([[0, 255, 255, 0]], dtype=torch.uint8).unsqueeze(-1)
    assert decoder.codes(x).tolist() == [[0, 1, 1, 0]]
