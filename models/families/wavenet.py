"""WaveNet as a recipe has it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from models.code_priors import CodeGrid
from models.families.link import LinkConfig
from models.wavenet import WaveNet


class WaveNetConfig(LinkConfig):
    """The `[prior.model]` table of a recipe; see `models.wavenet.WaveNet`."""

    kind: Literal["wavenet"] = "wavenet"
    channels: int = Field(default=64, gt=0)
    skip_channels: int = Field(default=128, gt=0)
    cycles: int = Field(default=2, gt=0)
    layers: int = Field(default=6, gt=0, le=16)
    hidden: int = Field(default=256, gt=0)

    def build(self, grid: CodeGrid, earlier: Sequence[CodeGrid], conditions: Mapping[str, int]) -> WaveNet:
        """Make the prior; see `LinkConfig.build`."""
        return WaveNet(
            grid.num_embeddings,
            grid.shape,
            channels=self.channels,
            skip_channels=self.skip_channels,
            cycles=self.cycles,
            layers=self.layers,
            hidden=self.hidden,
            dropout=self.dropout,
            conditions=conditions,
            earlier=self.build_earlier(grid, earlier),
            features=self.features if earlier else 0,
        )
