"""Family `hierarchical-vae`: levels of latents, a vector and grids below it, inferred top-down, convolutional."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from models.families.family import ImageFamily
from models.families.parts import BernoulliConfig, Config, LikelihoodConfig
from models.networks import ImageShape
from models.networks.ladder import Stages, Start
from models.top_down import GridLevel, TopDownBottleneck, TopDownModel


class GridConfig(Config):
    """A level below the top: pixels a side that one place stands for, a power of 2, and latents of a place."""

    downsampling: int = Field(ge=2, le=256)
    latent: int = Field(gt=0)

    @property
    def halvings(self) -> int:
        """How many times the picture is halved."""
        return self.downsampling.bit_length() - 1


class LadderConfig(Config):
    """The networks of all levels; tuples hold a number for each halving of the picture, from the picture inwards.

    Attributes:
        channels: of the maps.
        encoder_blocks: residual blocks of a grid on the way up.
        decoder_blocks: residual blocks of a grid before each level on the way down, and before the picture where it is
            reached from a coarser one; each costs once a sample.
        features: channels of what a level below the top sees of x.
        hidden: units of the dense layer between the coarsest map and the top, on either side.
        dropout: in residual blocks.
    """

    channels: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(32, 64), min_length=1)
    encoder_blocks: tuple[Annotated[int, Field(ge=0)], ...] = (1, 2)
    decoder_blocks: tuple[Annotated[int, Field(ge=0)], ...] = (1, 1)
    features: int = Field(default=32, gt=0)
    hidden: int = Field(default=256, gt=0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _match(self) -> Self:
        lengths = [len(self.channels), len(self.encoder_blocks), len(self.decoder_blocks)]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"channels, encoder_blocks and decoder_blocks have {lengths} numbers; give one for each halving of the "
                "picture, as many in each"
            )
        return self


class HierarchicalVAEConfig(ImageFamily):
    """The `[model]` table of a recipe for a hierarchical VAE: `latent` is D of the top, `levels` those below it."""

    family: Literal["hierarchical-vae"]
    latent: int = Field(default=32, gt=0)
    levels: Annotated[tuple[GridConfig, ...], Field(min_length=1, max_length=32)] = (
        GridConfig(downsampling=4, latent=2),
        GridConfig(downsampling=4, latent=2),
    )
    network: LadderConfig = LadderConfig()
    likelihood: LikelihoodConfig = BernoulliConfig()

    @model_validator(mode="after")
    def _descend(self) -> Self:
        sizes = [level.downsampling for level in self.levels]
        if any(size.bit_count() != 1 for size in sizes) or any(coarse < fine for coarse, fine in pairwise(sizes)):
            raise ValueError(
                f"downsamplings of the levels are {sizes}, expected powers of 2, none larger than the one before it"
            )
        deepest = self.levels[0].halvings
        if len(self.network.channels) != deepest:
            raise ValueError(
                f"network.channels has {len(self.network.channels)} stages, but the first level's downsampling "
                f"{sizes[0]} needs {deepest}; give one number of channels for each halving"
            )
        return self

    def build(self, data: ImageShape) -> TopDownModel:
        """Compose the model.

        Args:
            data: shape of an image.

        Returns:
            The model, freshly initialised from torch's global generator.

        Raises:
            ValueError: the levels do not fit the image.
        """
        coarsest = self.levels[0].downsampling
        if data.height % coarsest or data.width % coarsest:
            raise ValueError(
                f"images are {data.height}x{data.width}, but downsampling {coarsest} needs both sides to be multiples "
                "of it; use less or another image size"
            )
        network, likelihood = self.network, self.likelihood.build()
        stages = Stages(data, network.channels, network.encoder_blocks, network.decoder_blocks, network.dropout)
        grids = [level.halvings for level in self.levels]
        finest = grids[-1]
        bottleneck = TopDownBottleneck(
            self.latent,
            Start(self.latent, network.hidden, stages.shape(grids[0])),
            self._levels(stages),
            [
                stages.squeeze(grids[0], network.hidden, 2 * self.latent),
                *(nn.Conv2d(stages.shape(grid).channels, network.features, 1) for grid in grids),
            ],
            [stages.inward(fine, coarse) for coarse, fine in pairwise(grids)],
            network.features,
        )
        return TopDownModel(
            stages.inward(0, finest),
            bottleneck,
            stages.picture(finest, data.channels * likelihood.outputs_per_channel),
            likelihood,
        )

    def _levels(self, stages: Stages) -> list[GridLevel]:
        """Build the levels below the top, each after the way from the one above."""
        levels, above = [], self.levels[0].halvings
        for level in self.levels:
            channels, height, width = stages.shape(level.halvings)
            levels.append(
                GridLevel(
                    (level.latent, height, width),
                    channels,
                    self.network.features,
                    stages.outward(above, level.halvings),
                )
            )
            above = level.halvings
        return levels
