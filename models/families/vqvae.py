"""Family `vqvae`: the vector-quantised autoencoder of van den Oord et al. 2017, fully convolutional."""

from typing import Literal

from pydantic import Field

from models.bottleneck import VectorQuantizedBottleneck
from models.code_priors import UniformCodes
from models.families.family import ImageFamily
from models.families.parts import Config, GaussianConfig, LikelihoodConfig
from models.families.quantizers import AnyQuantizerConfig, QuantizerConfig
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.networks.fully_conv import Widths, fully_conv


class WidthsConfig(Config):
    """Widths and depth; see `models.networks.fully_conv.Widths`."""

    hidden: int = Field(default=128, gt=0)
    residual_hidden: int = Field(default=64, gt=0)
    residual_blocks: int = Field(default=2, ge=0)

    @property
    def widths(self) -> Widths:
        """As the networks take them."""
        return Widths(self.hidden, self.residual_hidden, self.residual_blocks)


class DecoderConfig(WidthsConfig):
    """A decoder that is not as the encoder is: what it costs does not change the codes."""

    fine_blocks: int = Field(default=0, ge=0)

    @property
    def widths(self) -> Widths:
        """As the networks take them."""
        return Widths(self.hidden, self.residual_hidden, self.residual_blocks, self.fine_blocks)


class FullyConvConfig(WidthsConfig):
    """Strided convolutions and residual blocks, of the decoder as of the encoder where it has no table of its own."""

    downsampling: int = Field(default=4, ge=2, le=64)
    decoder: DecoderConfig | None = None


class VQVAEConfig(ImageFamily):
    """The `[model]` table of a recipe for a VQ-VAE."""

    family: Literal["vqvae"]
    network: FullyConvConfig = FullyConvConfig()
    quantizer: AnyQuantizerConfig = QuantizerConfig()
    likelihood: LikelihoodConfig = GaussianConfig()

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; until a prior is fitted, its codes are equally probable.

        Args:
            data: shape of an image.

        Returns:
            The model, freshly initialised from torch's global generator.

        Raises:
            ValueError: the network does not fit the image.
        """
        likelihood = self.likelihood.build()
        network = fully_conv(
            data,
            likelihood.outputs_per_channel,
            downsampling=self.network.downsampling,
            encoder_widths=self.network.widths,
            decoder_widths=(self.network.decoder or self.network).widths,
            embedding_dim=self.quantizer.embedding_dim,
        )
        bottleneck = VectorQuantizedBottleneck(self.quantizer.build(), UniformCodes(self.quantizer.num_embeddings))
        return LatentVariableModel(network.encoder, bottleneck, network.decoder, likelihood)
