"""The discriminator of a VAE-GAN: it tells pictures of the data from those of a decoder; no model holds it."""

from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from models.networks import ImageShape

_SLOPE = 0.2
_FEATURES = 2
"""Stages before the features in which pictures are compared."""


class Judgement(NamedTuple):
    """What a discriminator says of pictures.

    Attributes:
        features: what it sees in them, by place.
        logits: of being data.
    """

    features: Float[Tensor, "B F h w"]
    logits: Float[Tensor, " B"]


class Discriminator(nn.Module):
    """Strided convolutions and a dense layer (Larsen et al. 2016, table 1, in small).

    There is no normalisation: over one picture it would hide the picture's contrast, and over a batch of data and their
    imitations a few wild imitations would make all others look alike.

    Args:
        data: shape of an image; both sides multiples of 2 to the number of stages.
        channels: of each stage; the features are those of the second, or of the only one.

    Raises:
        ValueError: the stages do not fit the image.
    """

    def __init__(self, data: ImageShape, channels: tuple[int, ...]) -> None:
        super().__init__()
        factor = 2 ** len(channels)
        if data.height % factor or data.width % factor:
            raise ValueError(
                f"images are {data.height}x{data.width}, but {len(channels)} stages of the discriminator need both "
                f"sides to be multiples of {factor}; use fewer stages or another image size"
            )
        stages = [_stage(before, after) for before, after in pairwise((data.channels, *channels))]
        self.below, self.above = nn.Sequential(*stages[:_FEATURES]), nn.Sequential(*stages[_FEATURES:])
        places = (data.height // factor) * (data.width // factor)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(channels[-1] * places, 1), nn.Flatten(0))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Judgement:
        """Judge pictures.

        Args:
            x: pictures in network units, channels first.

        Returns:
            What it sees, and what it thinks of it.
        """
        features = self.below(x)
        return Judgement(features.float(), self.head(self.above(features)).float())


def _stage(before: int, after: int) -> nn.Module:
    """Halve a picture; what comes out is as large as what goes in (He et al. 2015)."""
    convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
    nn.init.kaiming_normal_(convolution.weight, a=_SLOPE)
    return nn.Sequential(convolution, nn.LeakyReLU(_SLOPE))
