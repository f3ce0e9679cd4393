"""What earlier grids of codes say of each place of a later one: a residual stack without attention."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.code_priors import CodeGrid, Features

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}


class _Residual(nn.Module):
    """x + what a convolution over 3 places a side and one over each place make of it."""

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        convolution = _CONVOLUTIONS[axes]
        self.change = nn.Sequential(
            nn.ReLU(),
            convolution(channels, channels, 3, padding=1),
            nn.ReLU(),
            convolution(channels, channels, 1),
        )

    def forward(self, x: Float[Tensor, "B C *grid"]) -> Float[Tensor, "B C *grid"]:
        """Add the change."""
        changed: Tensor = x + self.change(x)
        return changed


class EarlierGrids(Features):
    """Features of every place of a grid from the grids before it (Razavi et al. 2019, section 3.2).

    Each earlier grid is embedded and repeated to the finest of them; there they are added up and go through residual
    blocks; a transposed convolution takes the sum to the grid's own size, so that places under one coarse place differ.

    Args:
        earlier: the grids before it, at least one, in the order of the chain; coarser ones are a whole number of times
            smaller on each side.
        grid: the one that they say something of.
        channels: G.
        blocks: residual ones.
    """

    def __init__(self, earlier: Sequence[CodeGrid], grid: CodeGrid, *, channels: int, blocks: int) -> None:
        super().__init__()
        self.channels = channels
        axes, finest = len(grid.shape), max(one.shape[0] for one in earlier)
        self.factors = [finest // one.shape[0] for one in earlier]
        factor = grid.shape[0] // finest
        self.embeddings = nn.ModuleList(nn.Embedding(one.num_embeddings, channels) for one in earlier)
        self.blocks = nn.Sequential(*(_Residual(axes, channels) for _ in range(blocks)))
        self.up = _TRANSPOSED[axes](channels, channels, factor, stride=factor)

    def forward(self, *earlier: Int[Tensor, "B *grid"]) -> Float[Tensor, "B *places G"]:
        """Give the features, channels last."""
        h: Tensor | None = None
        for codes, embedding, factor in zip(earlier, self.embeddings, self.factors, strict=True):
            e = embedding(codes).movedim(-1, 1)
            if factor > 1:
                e = functional.interpolate(e, scale_factor=float(factor), mode="nearest")
            h = e if h is None else h + e
        features: Tensor = self.up(self.blocks(h)).movedim(1, -1)
        return features
