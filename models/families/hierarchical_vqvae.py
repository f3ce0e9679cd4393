"""Family `hierarchical-vqvae`: levels of codes, coarse to fine (VQ-VAE-2, Razavi et al. 2019), fully convolutional."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from models.code_priors import UniformCodes
from models.families.family import ImageFamily
from models.families.parts import GaussianConfig, LikelihoodConfig
from models.families.quantizers import AnyQuantizerConfig, QuantizerConfig
from models.families.vqvae import WidthsConfig
from models.hierarchy import HierarchicalBottleneck, LevelNetworks
from models.model import LatentVariableModel
from models.networks import ImageShape
from models.networks.fully_conv import check_sides, decoder, encoder


class HierarchyConfig(WidthsConfig):
    """The networks of all levels; `downsamplings` are pixels a side that one code of each level stands for, top first.

    `features` are the channels that a level hands down to the next finer one.
    """

    downsamplings: tuple[Annotated[int, Field(ge=2, le=256)], ...] = Field(default=(8, 4), min_length=2, max_length=8)
    features: int = Field(default=64, gt=0)

    @model_validator(mode="after")
    def _divide(self) -> Self:
        powers = all(one.bit_count() == 1 for one in self.downsamplings)
        if not powers or any(coarse <= fine for coarse, fine in pairwise(self.downsamplings)):
            raise ValueError(
                f"downsamplings are {self.downsamplings}, expected powers of 2, each larger than the next, top first"
            )
        return self


class HierarchicalVQVAEConfig(ImageFamily):
    """The `[model]` table of a recipe for a hierarchical VQ-VAE; all levels have quantizers of one kind and size."""

    family: Literal["hierarchical-vqvae"]
    network: HierarchyConfig = HierarchyConfig()
    quantizer: AnyQuantizerConfig = QuantizerConfig()
    likelihood: LikelihoodConfig = GaussianConfig()

    def build(self, data: ImageShape) -> LatentVariableModel:
        """Compose the model; until a prior is fitted, its codes are equally probable.

        Args:
            data: shape of an image.

        Returns:
            The model, freshly initialised from torch's global generator.

        Raises:
            ValueError: the networks do not fit the image.
        """
        likelihood, levels = self.likelihood.build(), self.network.downsamplings
        coarsest, finest, widths = levels[0], levels[-1], self.network.widths
        inward = encoder(data.channels, widths.hidden, finest, widths)
        check_sides(data, coarsest)
        outward = decoder(self._joined(len(levels) - 1), data.channels * likelihood.outputs_per_channel, finest, widths)
        bottleneck = HierarchicalBottleneck(
            [self.quantizer.build() for _ in levels],
            [UniformCodes(self.quantizer.num_embeddings) for _ in levels],
            [self._networks(index) for index in range(len(levels))],
            tuple(downsampling // finest for downsampling in levels),
        )
        return LatentVariableModel(inward, bottleneck, outward, likelihood)

    def _networks(self, level: int) -> LevelNetworks:
        """Build the networks of a level."""
        network, widths = self.network, self.network.widths
        factors = [coarse // fine for coarse, fine in pairwise(network.downsamplings)]
        above = network.features if level else 0
        return LevelNetworks(
            down=encoder(widths.hidden, widths.hidden, factors[level], widths) if level < len(factors) else None,
            head=nn.Conv2d(widths.hidden + above, self.quantizer.embedding_dim, 1),
            up=decoder(self._joined(level - 1), above, factors[level - 1], widths) if level else None,
        )

    def _joined(self, level: int) -> int:
        """Count the channels of what a level and those above it make."""
        return self.quantizer.embedding_dim + (self.network.features if level else 0)
