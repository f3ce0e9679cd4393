"""Family `flow-vae`: a VAE whose posterior is a flow (Rezende & Mohamed 2015; Kingma et al. 2016)."""

from typing import Literal

from pydantic import Field

from models.families.family import ImageFamily
from models.families.parts import BernoulliConfig, LikelihoodConfig
from models.families.posteriors import FlowConfig, NeuralFlowConfig
from models.families.real_priors import RealPriorConfig, StandardNormalConfig
from models.families.vae import ConvConfig, NetworkConfig, VAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape


class FlowVAEConfig(ImageFamily):
    """The `[model]` table of a recipe for a VAE with a flow as its posterior; `latent` is D of z."""

    family: Literal["flow-vae"]
    latent: int = Field(default=32, gt=1)
    network: NetworkConfig = ConvConfig()
    posterior: FlowConfig = NeuralFlowConfig(kind="inverse-autoregressive")
    prior: RealPriorConfig = StandardNormalConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; see `ImageFamily.build`."""
        return VAEConfig(
            latent=self.latent,
            network=self.network,
            posterior=self.posterior,
            prior=self.prior,
            likelihood=self.likelihood,
        ).build(data)
