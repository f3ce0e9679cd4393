"""Family `vae`: the variational autoencoder of Kingma & Welling 2014, fully connected or convolutional."""

from typing import Annotated, Literal

from pydantic import Field

from models.autoregressive import AutoregressivePictures
from models.continuous import VectorBottleneck
from models.families.decoders import PixelCNNDecoderConfig
from models.families.family import ImageFamily
from models.families.parts import BernoulliConfig, Config, LikelihoodConfig
from models.families.posteriors import DiagonalConfig, PosteriorConfig
from models.families.real_priors import RealPriorConfig, StandardNormalConfig
from models.model import LatentVariableModel
from models.networks import ImageShape, Network
from models.networks.conv import Upsampling, conv
from models.networks.mlp import mlp


class MLPConfig(Config):
    """Dense layers of tanh units; `hidden` from the image inwards."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = Field(default=(200, 200), min_length=1)

    def build(self, data: ImageShape, outputs_per_channel: int, latent: int, posterior_outputs: int) -> Network:
        """Make encoder and decoder."""
        return mlp(data, outputs_per_channel, hidden=self.hidden, latent=latent, posterior_outputs=posterior_outputs)


class ConvConfig(Config):
    """Residual stages; see `models.networks.conv.conv`."""

    kind: Literal["conv"] = "conv"
    encoder_channels: tuple[int, ...] = Field(default=(32, 64), min_length=1)
    decoder_channels: tuple[int, ...] = Field(default=(64, 32), min_length=1)
    encoder_blocks: int = Field(default=2, ge=0)
    decoder_blocks: int = Field(default=1, ge=0)
    hidden: int = Field(default=256, gt=0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    upsampling: Upsampling = "subpixel"

    def build(self, data: ImageShape, outputs_per_channel: int, latent: int, posterior_outputs: int) -> Network:
        """Make encoder and decoder."""
        return conv(
            data,
            outputs_per_channel,
            encoder_channels=self.encoder_channels,
            decoder_channels=self.decoder_channels,
            encoder_blocks=self.encoder_blocks,
            decoder_blocks=self.decoder_blocks,
            hidden=self.hidden,
            dropout=self.dropout,
            latent=latent,
            posterior_outputs=posterior_outputs,
            upsampling=self.upsampling,
        )


NetworkConfig = Annotated[MLPConfig | ConvConfig, Field(discriminator="kind")]


class VAEConfig(ImageFamily):
    """The `[model]` table of a recipe for a VAE; `latent` is D of z, and `decoder` stands behind the network's own."""

    family: Literal["vae"] = "vae"
    latent: int = Field(default=32, gt=0)
    network: NetworkConfig = ConvConfig()
    posterior: PosteriorConfig = DiagonalConfig()
    prior: RealPriorConfig = StandardNormalConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()
    decoder: PixelCNNDecoderConfig | None = None

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; see `ImageFamily.build`."""
        likelihood = self.likelihood.build()
        posterior = self.posterior.build(self.latent)
        network = self.network.build(
            data,
            likelihood.outputs_per_channel if self.decoder is None else self.decoder.features,
            latent=self.latent,
            posterior_outputs=posterior.outputs,
        )
        bottleneck = VectorBottleneck(posterior, self.prior.build(posterior, network.encoder, data))
        if self.decoder is None:
            return LatentVariableModel(network.encoder, bottleneck, network.decoder, likelihood)
        decoder = self.decoder.build(network.decoder, data, likelihood)
        return AutoregressivePictures(network.encoder, bottleneck, decoder, likelihood)
