"""What exact priors have in common: their logits, their canonical form and the proof of their sums."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn import functional

from models.code_priors import CodePrior, Conditions
from models.exact.arithmetic import LOGIT_BITS, added
from models.exact.canonical import Canonical, canonical_hash, network_form
from models.exact.layers import ExactEmbedding, ExactLinear, accumulator_bounds

FORMAT = 1
"""Of the canonical form of priors."""


class ExactPrior(CodePrior):
    """A prior whose logits are integers in units of 2^-8 nats, the same on every machine; what steps keep are integers.

    Attributes:
        embedding: of codes, to wide integers.
        table: of conditions, a row for each class of each; None without conditions.
        features: what is told of earlier grids, to what is added before gates; None without earlier grids.
    """

    embedding: ExactEmbedding
    table: ExactEmbedding | None
    features: ExactLinear | None

    @property
    def dtype(self) -> torch.dtype:
        """The type that carries the integers."""
        return self.embedding.one.dtype

    def given(self, earlier: Sequence[Int[Tensor, "B *grid"]]) -> Float[Tensor, "B *grid G"] | None:
        """Give what the grids before this one say of each of its places, narrow integers; None without such grids."""
        wide = super().given(earlier)
        return None if wide is None or self.features is None else cast("Tensor", self.features.entry(wide))

    def log_prob(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float64[Tensor, " B"]:
        """Give log p(codes) in nats, summed over the grid; see `CodePrior.log_prob`."""
        nats = self(codes, given, conditions).float() * 2.0**-LOGIT_BITS
        return -functional.cross_entropy(nats, codes.long(), reduction="none").double().flatten(1).sum(1)

    def told(
        self,
        given: Float[Tensor, "B *places G"] | None,
        conditions: Conditions | None,
        like: Int[Tensor, "B *places"],
    ) -> Float[Tensor, "B *broad V"] | None:
        """Give what earlier grids and conditions add before the gates; None where there are neither.

        Args:
            given: of the places.
            conditions: of the examples.
            like: codes of the places.

        Returns:
            Wide integers, for each place or for all of them together.
        """
        wide = None if self.features is None or given is None else self.features(given)
        rows = self.rows(conditions, like)
        if self.table is not None and rows is not None:
            for row in rows.unbind(1):
                known = self.table(row).reshape(-1, *(1,) * (like.dim() - 1), self.table.weight.shape[1])
                wide = known if wide is None else added(wide, known)
        return wide

    @abstractmethod
    def sizes(self) -> Canonical:
        """Name the kind of network and its sizes, for the canonical form."""

    def canonical(self) -> Canonical:
        """Give all that decides the logits: kind, sizes, order of the places, integers by layer, tables."""
        own = {"format": FORMAT, "order": self.order, "num_embeddings": self.num_embeddings, "logit_bits": LOGIT_BITS}
        conditions = [[name, classes] for name, classes in self.conditions.items()]
        return own | {"conditions": conditions} | self.sizes() | network_form(self)

    def canonical_hash(self) -> str:
        """Give the sha256 of the canonical form."""
        return canonical_hash(self.canonical())

    def accumulator_bounds(self) -> dict[str, int]:
        """Prove that every sum is exact; see `models.exact.layers.accumulator_bounds`."""
        return accumulator_bounds(self)
