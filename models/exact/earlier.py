"""What earlier grids of codes say of each place of a later one, in exact integers."""

from typing import cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from models.code_priors import Features
from models.earlier import EarlierGrids
from models.exact.arithmetic import added
from models.exact.canonical import Canonical
from models.exact.entries import Narrow
from models.exact.layers import ExactEmbedding, ExactResidual, ExactUpsampling


class ExactEarlier(Features):
    """The exact counterpart of `models.earlier.EarlierGrids`, which gives wide integers.

    Args:
        earlier: the fitted network.
    """

    def __init__(self, earlier: EarlierGrids) -> None:
        super().__init__()
        self.channels, self.factors = earlier.channels, list(earlier.factors)
        self.embeddings = nn.ModuleList(ExactEmbedding(cast("nn.Embedding", e).weight) for e in earlier.embeddings)
        changes = [cast("nn.Sequential", block.change) for block in earlier.blocks]
        self.blocks = nn.Sequential(*(ExactResidual(cast("nn.Conv2d", c[1]), cast("nn.Conv2d", c[3])) for c in changes))
        self.up = ExactUpsampling(cast("nn.ConvTranspose2d", earlier.up), Narrow())

    def forward(self, *earlier: Int[Tensor, "B *grid"]) -> Float[Tensor, "B *places G"]:
        """Give the features, channels last, as wide integers."""
        h: Tensor | None = None
        for codes, embedding, factor in zip(earlier, self.embeddings, self.factors, strict=True):
            e = embedding(repeated(codes, factor))
            h = e if h is None else added(h, e)
        return self.up.through(self.blocks(h))

    def sizes(self) -> Canonical:
        """Say how many times each earlier grid is repeated a side."""
        return {"factors": self.factors, "blocks": len(self.blocks)}


def repeated(codes: Int[Tensor, "B *grid"], factor: int) -> Int[Tensor, "B *finer"]:
    """Repeat each code so many times a side."""
    if factor == 1:
        return codes
    batch, *sides = codes.shape
    spread = codes.reshape(batch, *(size for side in sides for size in (side, 1)))
    wide = spread.expand(batch, *(size for side in sides for size in (side, factor)))
    return wide.reshape(batch, *(side * factor for side in sides))
