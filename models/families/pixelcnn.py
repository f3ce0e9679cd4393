"""The gated PixelCNN as a recipe has it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from models.code_priors import CodeGrid
from models.families.link import LinkConfig
from models.pixelcnn import GatedPixelCNN


class PixelCNNConfig(LinkConfig):
    """The `[prior.model]` table of a recipe; see `models.pixelcnn.GatedPixelCNN`."""

    kind: Literal["pixelcnn"] = "pixelcnn"
    channels: int = Field(default=64, gt=0)
    layers: int = Field(default=8, gt=0)
    radius: int = Field(default=1, gt=0)
    hidden: int = Field(default=256, gt=0)

    def build(self, grid: CodeGrid, earlier: Sequence[CodeGrid], conditions: Mapping[str, int]) -> GatedPixelCNN:
        """Make the prior; see `LinkConfig.build`."""
        return GatedPixelCNN(
            grid.num_embeddings,
            channels=self.channels,
            layers=self.layers,
            radius=self.radius,
            hidden=self.hidden,
            dropout=self.dropout,
            conditions=conditions,
            earlier=self.build_earlier(grid, earlier),
        )
