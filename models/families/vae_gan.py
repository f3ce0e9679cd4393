"""Family `vae-gan`: a VAE of colour or grey pictures whose decoder is also judged by a discriminator."""

from typing import Literal

from pydantic import Field
from torch import nn

from models.continuous import VectorBottleneck
from models.families.family import ImageFamily
from models.families.parts import GaussianConfig
from models.families.vae import ConvConfig, NetworkConfig
from models.likelihoods import Likelihood
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.posteriors import DiagonalGaussianPosterior
from models.priors import StandardNormal


class VAEGANConfig(ImageFamily):
    """The `[model]` table of a recipe for a VAE-GAN (Larsen et al. 2016); `latent` is D of z.

    The discriminator belongs to the objective (`training.objectives.adversarial`): the same model fitted by `sgvb` is
    a plain VAE. The decoder ends in tanh, so that whatever it gives is a picture. The bound is that of the pixels'
    likelihood.
    """

    family: Literal["vae-gan"]
    latent: int = Field(default=64, gt=0)
    network: NetworkConfig = ConvConfig()
    likelihood: GaussianConfig = GaussianConfig()

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; see `ImageFamily.build`."""
        likelihood = self._likelihood()
        posterior = DiagonalGaussianPosterior(self.latent)
        network = self.network.build(
            data, likelihood.outputs_per_channel, latent=self.latent, posterior_outputs=posterior.outputs
        )
        bottleneck = VectorBottleneck(posterior, StandardNormal(self.latent))
        decoder = nn.Sequential(network.decoder, nn.Tanh())
        return LatentVariableModel(network.encoder, bottleneck, decoder, likelihood)

    def _likelihood(self) -> Likelihood:
        """Make a likelihood of which the decoder gives the mean alone."""
        if self.likelihood.variance == "learned":
            raise ValueError(
                "the decoder of a vae-gan gives pictures alone, and no variance of its own; set "
                "model.likelihood.variance to 'shared', 'optimal' or 'fixed'"
            )
        return self.likelihood.build()
