"""The transformer over codes as a recipe has it."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from models.code_priors import CodeGrid
from models.families.link import LinkConfig
from models.transformer import Transformer


class TransformerConfig(LinkConfig):
    """The `[prior.model]` table of a recipe; see `models.transformer.Transformer`."""

    kind: Literal["transformer"] = "transformer"
    channels: int = Field(default=192, gt=0)
    heads: int = Field(default=6, gt=0)
    layers: int = Field(default=6, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.channels % self.heads:
            raise ValueError(f"channels ({self.channels}) must be a multiple of heads ({self.heads})")
        return self

    def build(self, grid: CodeGrid, earlier: Sequence[CodeGrid], conditions: Mapping[str, int]) -> Transformer:
        """Make the prior; see `LinkConfig.build`."""
        return Transformer(
            grid.num_embeddings,
            grid.shape,
            channels=self.channels,
            heads=self.heads,
            layers=self.layers,
            dropout=self.dropout,
            conditions=conditions,
            earlier=self.build_earlier(grid, earlier),
            features=self.features if earlier else 0,
        )
