"""The gated PixelCNN prior over grids of codes, in parallel and step by step."""

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.code_priors import Conditions, Features, Memory, MemoryShapes, PlaceStep, RasterPrior, RowStep


def gate(h: Float[Tensor, "B C2 *grid"]) -> Float[Tensor, "B C *grid"]:
    """Give tanh(first half) * sigmoid(second half) (van den Oord et al. 2016, eq. 2)."""
    value, opening = h.chunk(2, dim=1)
    return value.tanh() * opening.sigmoid()


class GatedLayer(nn.Module):
    """One layer of the vertical and the horizontal stack (van den Oord et al. 2016, figure 2 and eq. 4).

    The vertical stack sees rows up to its own, the horizontal one its own row up to its own place; since the stacks'
    inputs are shifted by one row and by one place, neither ever sees the code that it predicts, and together they see
    all codes before it: there is no blind spot.

    Args:
        channels: C of either stack.
        radius: r; the vertical kernel covers r + 1 rows of 2r + 1 places, the horizontal one r + 1 places.
        condition_rows: of the table of class embeddings; 0 for no condition.
        features: G of what earlier grids say of each place; 0 where there are none.
    """

    def __init__(self, channels: int, radius: int, condition_rows: int, features: int) -> None:
        super().__init__()
        self.channels, self.radius = channels, radius
        self.vertical = nn.Conv2d(channels, 2 * channels, (radius + 1, 2 * radius + 1))
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, radius + 1))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.condition = nn.Embedding(condition_rows, 4 * channels) if condition_rows else None
        self.features = nn.Conv2d(features, 4 * channels, 1) if features else None

    def shifts(
        self, rows: Int[Tensor, "B conditions"] | None, given: Float[Tensor, "B G h w"] | None
    ) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """Give what classes and earlier grids add before the two gates, each `[B, 2C, h or 1, w or 1]`."""
        shift: Tensor | None = None
        if self.condition is not None and rows is not None:
            shift = self.condition(rows).sum(1)[:, :, None, None]
        if self.features is not None and given is not None:
            shown = self.features(given)
            shift = shown if shift is None else shift + shown
        if shift is None:
            return 0.0, 0.0
        vertical, horizontal = shift.chunk(2, dim=1)
        return vertical, horizontal

    def look_up(
        self,
        window: Float[Tensor, "B C rows columns"],
        rows: Int[Tensor, "B conditions"] | None,
        given: Float[Tensor, "B G h w"] | None,
    ) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C2 h w"]]:
        """Take a step of the vertical stack over a padded window: what it gives, and what it tells the other stack."""
        down, across = self.shifts(rows, given)
        seen = self.vertical(window)
        return gate(seen + down), self.link(seen) + across

    def look_left(
        self, window: Float[Tensor, "B C h columns"], context: Float[Tensor, "B C2 h w"]
    ) -> Float[Tensor, "B C h w"]:
        """Give the change of the horizontal stack over a padded window."""
        change: Tensor = self.out(gate(self.horizontal(window) + context))
        return change


class GatedPixelCNN(RasterPrior):
    """p(codes) = prod p(code given those before it), in raster order (van den Oord et al. 2016).

    Args:
        num_embeddings: K.
        channels: C of either stack.
        layers: of gates.
        radius: see `GatedLayer`.
        hidden: channels between the stacks and the logits.
        dropout: of the embedded codes and before the logits, in training.
        conditions: see `CodePrior`.
        earlier: likewise, and it gives G features.
        features: G; 0 where a place is told nothing but the codes before it.
        outputs: numbers for each place; None for the logits of its K codes.
    """

    any_size = True

    def __init__(
        self,
        num_embeddings: int,
        *,
        channels: int,
        layers: int,
        radius: int,
        hidden: int,
        dropout: float,
        conditions: Mapping[str, int] | None = None,
        earlier: Features | None = None,
        features: int = 0,
        outputs: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, conditions, earlier)
        self.channels, self.radius = channels, radius
        self.context_size = 2 * channels * layers
        self.embedding = nn.Embedding(num_embeddings, channels)
        features = earlier.channels if earlier is not None else features
        self.layers = nn.ModuleList(GatedLayer(channels, radius, self.condition_rows, features) for _ in range(layers))
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, num_embeddings if outputs is None else outputs, 1),
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(
        self,
        codes: Int[Tensor, "B h w"],
        given: Float[Tensor, "B h w G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K h w"]:
        """Give the logits of every place at once; see `CodePrior.forward`."""
        e = self.dropout(self.embedding(codes).permute(0, 3, 1, 2))
        v = functional.pad(e, (0, 0, 1, 0))[:, :, :-1]
        rows, r = self.rows(conditions, codes), self.radius
        shown = None if given is None else given.permute(0, 3, 1, 2)
        contexts = []
        for layer in self.stack():
            v, context = layer.look_up(functional.pad(v, (r, r, r, 0)), rows, shown)
            contexts.append(context)
        logits: Tensor = self.head(self.across(functional.pad(e, (1, 0))[:, :, :, :-1], contexts))
        return logits

    def across(
        self, h: Float[Tensor, "B C h w"], contexts: list[Float[Tensor, "B C2 h w"]]
    ) -> Float[Tensor, "B C h w"]:
        """Run the horizontal stack over whole grids.

        Args:
            h: the embedded codes, each at the place to its right.
            contexts: what the vertical stack tells each layer.
        """
        for layer, context in zip(self.stack(), contexts, strict=True):
            h = h + layer.look_left(functional.pad(h, (self.radius, 0)), context)
        return h

    def row_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep each layer's last r inputs of the vertical stack."""
        return MemoryShapes(states={"above": (len(self.layers), self.channels, self.radius, grid[1])})

    def place_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep each layer's last r inputs of the horizontal stack."""
        del grid
        return MemoryShapes(states={"left": (len(self.layers), self.channels, self.radius)})

    def row(
        self,
        codes: Int[Tensor, "B w"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B w G"] | None = None,
        conditions: Conditions | None = None,
    ) -> RowStep:
        """Take the vertical stack one row down; see `RasterPrior.row`."""
        below = (position > 0).to(self.dtype)[:, None, None, None]
        rows = self.rows(conditions, codes)
        shown = None if given is None else given.permute(0, 2, 1).unsqueeze(2)
        v = self.embedding(codes).permute(0, 2, 1).unsqueeze(2) * below
        contexts, following = [], []
        for layer, seen in zip(self.stack(), memory["above"].unbind(1), strict=True):
            window = torch.cat([seen * below, v], dim=2)
            v, context = layer.look_up(functional.pad(window, (self.radius, self.radius)), rows, shown)
            contexts.append(context.squeeze(2))
            following.append(window[:, :, 1:])
        return RowStep(torch.cat(contexts, dim=1).permute(0, 2, 1), {"above": torch.stack(following, dim=1)})

    def place(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        width: int,
        context: Float[Tensor, "B V"],
        memory: Memory,
    ) -> PlaceStep:
        """Take the horizontal stack one place to the right; see `RasterPrior.place`."""
        h, right = self.begin(code, position, width)
        following = []
        for layer, seen, shown in zip(
            self.stack(), memory["left"].unbind(1), context.chunk(len(self.layers), dim=1), strict=True
        ):
            change, kept = self.step_right(layer, h, seen * right, shown)
            h = h + change
            following.append(kept)
        return PlaceStep(self.head(h)[:, :, 0, 0], {"left": torch.stack(following, dim=1)}, {})

    def begin(
        self, code: Int[Tensor, " B"], position: Int[Tensor, " B"], width: int
    ) -> tuple[Float[Tensor, "B C 1 1"], Float[Tensor, "B 1 1"]]:
        """Give the horizontal stack's input at a place, and 1 where a place lies to the left of it, else 0."""
        right = (position % width > 0).to(self.dtype)[:, None, None]
        return (self.embedding(code) * right[:, :, 0])[:, :, None, None], right

    def step_right(
        self,
        layer: GatedLayer,
        h: Float[Tensor, "B C 1 1"],
        seen: Float[Tensor, "B C r"],
        context: Float[Tensor, "B C2"],
    ) -> tuple[Float[Tensor, "B C 1 1"], Float[Tensor, "B C r"]]:
        """Give a layer's change of the horizontal stack at one place, and what it keeps."""
        window = torch.cat([seen, h[:, :, 0]], dim=2)
        return layer.look_left(window.unsqueeze(2), context[:, :, None, None]), window[:, :, 1:]

    def stack(self) -> list[GatedLayer]:
        """Give the layers by their own type."""
        return [cast("GatedLayer", layer) for layer in self.layers]
