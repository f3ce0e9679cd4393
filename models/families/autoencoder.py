"""Family `autoencoder`: a code that is neither random nor weighed, so that there is no bound on log p(x)."""

from typing import Literal, NoReturn

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from models.bottleneck import Encoding, Latent, Level
from models.continuous import ContinuousBottleneck
from models.families.family import ImageFamily
from models.families.parts import BernoulliConfig, LikelihoodConfig
from models.families.vae import ConvConfig, NetworkConfig
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.posteriors import Quantity


class CodeBottleneck(ContinuousBottleneck):
    """The encoder's output as it is: no posterior, no prior, no rate.

    Args:
        dimensions: D of z.
    """

    bounds_log_p = False
    prior_is_standard_normal = False
    noise_dimensions = prior_noise_dimensions = 0

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """The code alone."""
        return (Quantity("z", (self.dimensions,), "latent"),)

    def encoding(self, h: Float[Tensor, "B D"]) -> Encoding:
        """Give the code."""
        return {"z": h.float()}

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S 0"]) -> Latent:
        """Give the one z, whatever the noise; it is not weighed."""
        del noise
        z = encoding["z"].unsqueeze(1)
        free = torch.zeros_like(z[..., 0])
        return (Level(z, codes=None, log_q=free, log_p=free, kl=None, penalty=None),)

    def sample(self, noise: Float[Tensor, "B 0"], temperature: Float[Tensor, " B"]) -> NoReturn:
        """Refuse: there is no prior.

        Raises:
            TypeError: always.
        """
        del noise, temperature
        raise TypeError("a plain autoencoder has no prior to draw z from; fit a VAE to draw samples")


class AutoencoderConfig(ImageFamily):
    """The `[model]` table of a recipe for a plain autoencoder (Hinton & Salakhutdinov 2006); `latent` is D of z."""

    family: Literal["autoencoder"]
    latent: int = Field(default=32, gt=0)
    network: NetworkConfig = ConvConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; see `ImageFamily.build`."""
        likelihood = self.likelihood.build()
        network = self.network.build(
            data, likelihood.outputs_per_channel, latent=self.latent, posterior_outputs=self.latent
        )
        return LatentVariableModel(network.encoder, CodeBottleneck(self.latent), network.decoder, likelihood)
