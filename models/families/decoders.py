"""Decoders of pictures that stand behind a network's own."""

from typing import Literal

from pydantic import Field
from torch import nn

from models.families.parts import Config
from models.likelihoods import Likelihood
from models.networks import ImageShape
from models.pixelcnn_decoder import PixelCNNDecoder


class PixelCNNDecoderConfig(Config):
    """The `[model.decoder]` table: pixel by pixel, told by the network's decoder what z says of each place.

    Fewer `layers` of a smaller `radius` see fewer pixels before their own, and so leave more to z: a weakened decoder.
    One layer of radius 0 sees the pixels above and to the left alone.
    """

    kind: Literal["pixelcnn"] = "pixelcnn"
    features: int = Field(default=16, gt=0)
    channels: int = Field(default=32, gt=0)
    layers: int = Field(default=5, gt=0)
    radius: int = Field(default=1, ge=0)
    hidden: int = Field(default=64, gt=0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    def build(self, upsample: nn.Module, data: ImageShape, likelihood: Likelihood) -> PixelCNNDecoder:
        """Make the decoder.

        Args:
            upsample: from z to `features` numbers of every pixel.
            data: shape of an image.
            likelihood: of its pixels.

        Returns:
            The decoder.

        Raises:
            ValueError: the image has colours.
        """
        if data.channels != 1:
            raise ValueError(
                f"a pixelcnn decoder takes grey images, these have {data.channels} channels; set data.channels = 1 or "
                "leave model.decoder out"
            )
        settings = self.model_dump(exclude={"kind"})
        return PixelCNNDecoder(upsample, likelihood.values, likelihood.outputs_per_channel, **settings)
