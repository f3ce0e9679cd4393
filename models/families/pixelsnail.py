"""PixelSNAIL as a recipe has it."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from models.code_priors import CodeGrid
from models.families.link import LinkConfig
from models.pixelsnail import PixelSNAIL


class PixelSNAILConfig(LinkConfig):
    """The `[prior.model]` table of a recipe; see `models.pixelsnail.PixelSNAIL`."""

    kind: Literal["pixelsnail"] = "pixelsnail"
    channels: int = Field(default=64, gt=0)
    layers: int = Field(default=8, gt=0)
    attention_every: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    radius: int = Field(default=1, gt=0)
    hidden: int = Field(default=256, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")
        if self.layers % self.attention_every:
            raise ValueError(f"layers ({self.layers}) must be a multiple of attention_every ({self.attention_every})")
        return self

    def build(self, grid: CodeGrid, earlier: Sequence[CodeGrid], conditions: Mapping[str, int]) -> PixelSNAIL:
        """Make the prior; see `LinkConfig.build`."""
        return PixelSNAIL(
            grid.num_embeddings,
            grid.shape,
            channels=self.channels,
            layers=self.layers,
            attention_every=self.attention_every,
            heads=self.heads,
            radius=self.radius,
            hidden=self.hidden,
            dropout=self.dropout,
            conditions=conditions,
            earlier=self.build_earlier(grid, earlier),
        )
