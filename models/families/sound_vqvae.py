"""Family `sound-vqvae`: the vector-quantised autoencoder of van den Oord et al. 2017 over sounds."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.autoregressive import AutoregressiveModel
from models.bottleneck import VectorQuantizedBottleneck
from models.code_priors import UniformCodes
from models.families.family import SoundFamily
from models.families.parts import Config, LikelihoodPart
from models.families.quantizers import QuantizerConfig
from models.likelihoods import Variance
from models.model import LatentVariableModel
from models.networks import SoundShape
from models.networks.sound import sound, sound_encoder
from models.sound_likelihoods import MuLawCategorical, SoundGaussian, SoundLikelihood
from models.wavenet_decoder import WaveNetDecoder


class SoundConvConfig(Config):
    """Strided convolutions and dilated residual blocks; see `models.networks.sound`."""

    encoder_channels: tuple[int, ...] = Field(default=(32, 64, 96, 128, 192, 256), min_length=1, max_length=10)
    decoder_channels: tuple[int, ...] = Field(default=(256, 192, 128, 96), min_length=1, max_length=10)
    encoder_blocks: int = Field(default=2, ge=0)
    decoder_blocks: int = Field(default=3, ge=0)


class WaveNetDecoderConfig(Config):
    """A decoder sample by sample; see `models.wavenet_decoder.WaveNetDecoder`."""

    features: int = Field(default=64, gt=0)
    channels: int = Field(default=64, gt=0)
    skip_channels: int = Field(default=128, gt=0)
    cycles: int = Field(default=2, gt=0)
    layers: int = Field(default=9, gt=0, le=12)
    hidden: int = Field(default=256, gt=0)


class SoundGaussianConfig(LikelihoodPart):
    """16-bit samples under a normal integrated over each value's bin; `scale` of the amplitude, whose peak is 1."""

    kind: Literal["gaussian"] = "gaussian"
    variance: Variance = "learned"
    scale: float = Field(default=0.1, ge=0.001, le=1.0)

    def build(self) -> SoundLikelihood:
        """Make the likelihood."""
        return SoundGaussian(self.variance, self.scale)


class MuLawConfig(LikelihoodPart):
    """A probability for each value of the mu-law scale."""

    kind: Literal["mu-law"] = "mu-law"

    def build(self) -> SoundLikelihood:
        """Make the likelihood."""
        return MuLawCategorical()


SoundLikelihoodConfig = Annotated[SoundGaussianConfig | MuLawConfig, Field(discriminator="kind")]


class SoundVQVAEConfig(SoundFamily):
    """The `[model]` table of a recipe for a VQ-VAE over sounds.

    Attributes:
        decoder: `convolutions` decode all samples at once; `wavenet` one after the other, each given those before it.
        wavenet: of the latter, in place of the network's decoder_channels and decoder_blocks.
        num_speakers: whose voices the decoder tells apart, as many as the data have; 0 for a decoder that takes none.
    """

    family: Literal["sound-vqvae"]
    network: SoundConvConfig = SoundConvConfig()
    decoder: Literal["convolutions", "wavenet"] = "convolutions"
    wavenet: WaveNetDecoderConfig = WaveNetDecoderConfig()
    quantizer: QuantizerConfig = QuantizerConfig(embedding_dim=32)
    likelihood: SoundLikelihoodConfig = SoundGaussianConfig()
    num_speakers: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _decoder_fits(self) -> Self:
        if self.decoder == "wavenet" and self.likelihood.kind != "mu-law":
            raise ValueError("decoder 'wavenet' gives classes of the mu-law scale: set likelihood.kind to 'mu-law'")
        return self

    def build(self, data: SoundShape) -> LatentVariableModel:
        """Compose the model; until a prior is fitted, its codes are equally probable.

        Args:
            data: shape of a sound.

        Returns:
            The model, freshly initialised from torch's global generator.

        Raises:
            ValueError: the network does not fit the sound.
        """
        likelihood = self.likelihood.build()
        bottleneck = VectorQuantizedBottleneck(
            self.quantizer.build(), UniformCodes(self.quantizer.num_embeddings), grid_axes=1
        )
        conditions = {"speaker": self.num_speakers} if self.num_speakers else {}
        if self.decoder == "wavenet":
            channels, blocks = self.network.encoder_channels, self.network.encoder_blocks
            encoder = sound_encoder(data, channels, blocks, self.quantizer.embedding_dim)
            decoder = WaveNetDecoder(
                self.quantizer.embedding_dim,
                2 ** len(channels),
                num_speakers=self.num_speakers,
                **self.wavenet.model_dump(),
            )
            return AutoregressiveModel(encoder, bottleneck, decoder, likelihood, conditions)
        network = sound(
            data,
            likelihood.outputs_per_channel,
            encoder_channels=self.network.encoder_channels,
            decoder_channels=self.network.decoder_channels,
            encoder_blocks=self.network.encoder_blocks,
            decoder_blocks=self.network.decoder_blocks,
            embedding_dim=self.quantizer.embedding_dim,
            num_speakers=self.num_speakers,
        )
        return LatentVariableModel(network.encoder, bottleneck, network.decoder, likelihood, conditions)
