"""Family `vqvae`: the vector-quantised autoencoder of van den Oord et al. 2017, fully convolutional."""

from typing import Literal

from pydantic import Field

from models.bottleneck import VectorQuantizedBottleneck
from models.code_priors import UniformCodes
from models.families.parts import Config, GaussianConfig, LikelihoodConfig
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.networks.fully_conv import fully_conv
from models.quantizers import EMAVectorQuantizer, Initialisation, LearnedVectorQuantizer, VectorQuantizer


class FullyConvConfig(Config):
    """Strided convolutions and residual blocks; see `models.networks.fully_conv`."""

    downsampling: int = Field(default=4, ge=2, le=64)
    hidden: int = Field(default=128, gt=0)
    residual_hidden: int = Field(default=64, gt=0)
    residual_blocks: int = Field(default=2, ge=0)


class QuantizerConfig(Config):
    """The codebook; see `models.quantizers.VectorQuantizer`. `update` is how it learns."""

    num_embeddings: int = Field(default=512, gt=1, le=2**20)
    embedding_dim: int = Field(default=8, gt=0)
    update: Literal["ema", "loss"] = "ema"
    commitment_cost: float = Field(default=0.25, ge=0)
    unit_length: bool = False
    initialisation: Initialisation = "kmeans"
    decay: float = Field(default=0.99, ge=0, lt=1)
    revive_below: float = Field(default=0.03, ge=0, lt=1)

    def build(self) -> VectorQuantizer:
        """Make the quantizer."""
        kind = EMAVectorQuantizer if self.update == "ema" else LearnedVectorQuantizer
        return kind(
            self.num_embeddings,
            self.embedding_dim,
            commitment_cost=self.commitment_cost,
            unit_length=self.unit_length,
            initialisation=self.initialisation,
            decay=self.decay,
            revive_below=self.revive_below,
        )


class VQVAEConfig(Config):
    """The `[model]` table of a recipe for a VQ-VAE."""

    family: Literal["vqvae"]
    network: FullyConvConfig = FullyConvConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
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
            hidden=self.network.hidden,
            residual_hidden=self.network.residual_hidden,
            residual_blocks=self.network.residual_blocks,
            embedding_dim=self.quantizer.embedding_dim,
        )
        bottleneck = VectorQuantizedBottleneck(self.quantizer.build(), UniformCodes(self.quantizer.num_embeddings))
        return LatentVariableModel(network.encoder, bottleneck, network.decoder, likelihood)
