"""Quantizers as a recipe has them."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from models.families.parts import Config
from models.quantizers import (
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    Gradient,
    Initialisation,
    LearnedVectorQuantizer,
    Quantizer,
    ResidualQuantizer,
    VectorQuantizer,
)

_MOST_CODES = 2**20


class QuantizerConfig(Config):
    """One codebook or several; see `models.quantizers.VectorQuantizer` and `ResidualQuantizer`.

    `update` is how it learns; with `num_codebooks` above 1 each is for what those before it left over, and
    `codebook_dropout` is the share of training examples that use the first few alone.
    """

    kind: Literal["vector"] = "vector"
    num_embeddings: int = Field(default=512, gt=1, le=_MOST_CODES)
    embedding_dim: int = Field(default=8, gt=0)
    update: Literal["ema", "loss"] = "ema"
    commitment_cost: float = Field(default=0.25, ge=0)
    unit_length: bool = False
    initialisation: Initialisation = "kmeans"
    decay: float = Field(default=0.99, ge=0, lt=1)
    revive_below: float = Field(default=0.03, ge=0, lt=1)
    gradient: Gradient = "straight_through"
    num_codebooks: int = Field(default=1, gt=0, le=64)
    codebook_dropout: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _several_codebooks(self) -> Self:
        if self.num_codebooks > 1 and self.unit_length:
            raise ValueError("what a codebook leaves over has no unit length: set unit_length = false or one codebook")
        if self.num_codebooks == 1 and self.codebook_dropout:
            raise ValueError("codebook_dropout needs several codebooks: set num_codebooks above 1, or it to 0")
        return self

    def build(self) -> Quantizer:
        """Make the quantizer."""
        if self.num_codebooks == 1:
            return self._codebook()
        stages = [self._codebook() for _ in range(self.num_codebooks)]
        return ResidualQuantizer(stages, dropout=self.codebook_dropout, gradient=self.gradient)

    def _codebook(self) -> VectorQuantizer:
        """Make one codebook."""
        kind = EMAVectorQuantizer if self.update == "ema" else LearnedVectorQuantizer
        return kind(
            self.num_embeddings,
            self.embedding_dim,
            commitment_cost=self.commitment_cost,
            unit_length=self.unit_length,
            initialisation=self.initialisation,
            decay=self.decay,
            revive_below=self.revive_below,
            gradient=self.gradient,
        )


class FiniteScalarConfig(Config):
    """An implicit codebook, for large vocabularies; see `models.quantizers.FiniteScalarQuantizer`."""

    kind: Literal["fsq"]
    levels: tuple[Annotated[int, Field(ge=2, le=1024)], ...] = Field(default=(8, 8, 8, 5, 5, 5), min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.num_embeddings > _MOST_CODES:
            raise ValueError(f"levels make {self.num_embeddings} codes, at most {_MOST_CODES} are possible; give fewer")
        return self

    @property
    def num_embeddings(self) -> int:
        """K, the product of the levels."""
        return math.prod(self.levels)

    @property
    def embedding_dim(self) -> int:
        """D, one a level."""
        return len(self.levels)

    def build(self) -> FiniteScalarQuantizer:
        """Make the quantizer."""
        return FiniteScalarQuantizer(self.levels)


def _kind(content: Any) -> str:
    """Tell which quantizer a table means; one that does not say means a codebook."""
    return str(content.get("kind", "vector") if isinstance(content, dict) else content.kind)


AnyQuantizerConfig = Annotated[
    Annotated[QuantizerConfig, Tag("vector")] | Annotated[FiniteScalarConfig, Tag("fsq")], Discriminator(_kind)
]
"""The `[model.quantizer]` table of a recipe."""
