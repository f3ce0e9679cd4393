"""Family `delta-vae`: a VAE whose rate is at least delta for every input (Razavi et al. 2019)."""

from typing import Literal

from pydantic import Field

from models.families.decoders import PixelCNNDecoderConfig
from models.families.family import ImageFamily
from models.families.parts import BernoulliConfig, LikelihoodConfig
from models.families.posteriors import DiagonalConfig, FixedVarianceConfig
from models.families.real_priors import AR1Config, StandardNormalConfig
from models.families.vae import ConvConfig, NetworkConfig, VAEConfig
from models.model import LatentVariableModel
from models.networks import ImageShape


class DeltaVAEConfig(ImageFamily):
    """The `[model]` table of a recipe for a delta-VAE; `latent` is D of z.

    Attributes:
        delta_nats: the committed rate: KL(q(z given x) || p(z)) >= delta for every x.
        construction: `fixed-variance` keeps the posterior's variance away from that of the prior N(0, I), see
            `models.posteriors.FixedVariancePosterior`; `ar1` lets neighbours in z depend on each other in the prior and
            not in the posterior, see `models.priors.AR1`.
        channels: of each step of z under `ar1`, a divisor of `latent`.
        decoder: a strong one, pixel by pixel; None for the network's own.
    """

    family: Literal["delta-vae"]
    latent: int = Field(default=32, gt=0)
    delta_nats: float = Field(default=5.0, gt=0)
    construction: Literal["fixed-variance", "ar1"] = "ar1"
    channels: int = Field(default=1, gt=0)
    network: NetworkConfig = ConvConfig()
    decoder: PixelCNNDecoderConfig | None = PixelCNNDecoderConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; see `ImageFamily.build`."""
        fixed = self.construction == "fixed-variance"
        return VAEConfig(
            latent=self.latent,
            network=self.network,
            decoder=self.decoder,
            posterior=FixedVarianceConfig(rate_nats=self.delta_nats) if fixed else DiagonalConfig(),
            prior=StandardNormalConfig() if fixed else AR1Config(channels=self.channels, rate_nats=self.delta_nats),
            likelihood=self.likelihood,
        ).build(data)
