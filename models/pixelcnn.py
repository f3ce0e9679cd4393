"""The gated PixelCNN prior over grids of codes, in parallel and step by step."""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from models.code_priors import CodePrior


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
        conditions: rows of the table of class embeddings; 0 for no condition.
    """

    def __init__(self, channels: int, radius: int, conditions: int) -> None:
        super().__init__()
        self.channels, self.radius = channels, radius
        self.vertical = nn.Conv2d(channels, 2 * channels, (radius + 1, 2 * radius + 1))
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, radius + 1))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.condition = nn.Embedding(conditions, 4 * channels) if conditions else None

    def shifts(self, condition: Int[Tensor, " B"] | None) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """Give what a class adds before the two gates, each `[B, 2C, 1, 1]`."""
        if self.condition is None or condition is None:
            return 0.0, 0.0
        vertical, horizontal = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        return vertical, horizontal

    def look_up(self, window: Float[Tensor, "B C rows columns"], shift: Tensor | float) -> tuple[Tensor, Tensor]:
        """Take a step of the vertical stack over a padded window: what it gives, and what it tells the other stack."""
        seen = self.vertical(window)
        return gate(seen + shift), self.link(seen)

    def look_left(
        self, window: Float[Tensor, "B C h columns"], context: Float[Tensor, "B C2 h w"]
    ) -> Float[Tensor, "B C h w"]:
        """Give the change of the horizontal stack over a padded window."""
        change: Tensor = self.out(gate(self.horizontal(window) + context))
        return change

    def forward(
        self, v: Float[Tensor, "B C h w"], h: Float[Tensor, "B C h w"], condition: Int[Tensor, " B"] | None
    ) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
        """Run both stacks over whole grids."""
        r = self.radius
        down, across = self.shifts(condition)
        v, link = self.look_up(functional.pad(v, (r, r, r, 0)), down)
        return v, h + self.look_left(functional.pad(h, (r, 0)), link + across)


class RowStep(NamedTuple):
    """What the vertical stack gives for one row: its context for the places of the row, and its next state."""

    context: Float[Tensor, "B w V"]
    state: Float[Tensor, "B L C r w"]


class PixelStep(NamedTuple):
    """What the horizontal stack gives for one place: the logits of its code, and its next state."""

    logits: Float[Tensor, "B K"]
    state: Float[Tensor, "B L C r"]


class GatedPixelCNN(CodePrior):
    """p(codes) = prod p(code given those before it), in raster order (van den Oord et al. 2016).

    Args:
        num_embeddings: K.
        channels: C of either stack.
        layers: of gates.
        radius: see `GatedLayer`.
        hidden: channels between the stacks and the logits.
        num_classes: classes that it can be conditioned on, besides none; 0 for no condition.
        dropout: of the embedded codes and before the logits, in training.
    """

    def __init__(
        self,
        num_embeddings: int,
        *,
        channels: int,
        layers: int,
        radius: int,
        hidden: int,
        num_classes: int,
        dropout: float,
    ) -> None:
        super().__init__(num_embeddings)
        self.channels, self.num_classes, self.radius = channels, num_classes, radius
        self.embedding = nn.Embedding(num_embeddings, channels)
        conditions = num_classes + 1 if num_classes else 0
        self.layers = nn.ModuleList(GatedLayer(channels, radius, conditions) for _ in range(layers))
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, num_embeddings, 1),
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(
        self, codes: Int[Tensor, "B h w"], condition: Int[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B K h w"]:
        """Give the logits of every place at once.

        Args:
            codes: 0 .. K - 1.
            condition: class of each example, `num_classes` for none; None for none of all.

        Returns:
            Logits, each from the codes before its place alone.
        """
        e = self.dropout(self.embedding(codes).permute(0, 3, 1, 2))
        v = functional.pad(e, (0, 0, 1, 0))[:, :, :-1]
        h = functional.pad(e, (1, 0))[:, :, :, :-1]
        known = self._known(condition, codes)
        for layer in self._stack():
            v, h = layer(v, h, known)
        logits: Tensor = self.head(h)
        return logits

    def log_prob(
        self, codes: Int[Tensor, "B h w"], condition: Int[Tensor, " B"] | None = None
    ) -> Float64[Tensor, " B"]:
        """Give log p(codes) in nats; see `CodePrior.log_prob`."""
        logits = self(codes, condition).float()
        return -functional.cross_entropy(logits, codes.long(), reduction="none").double().sum((1, 2))

    def row(
        self,
        codes: Int[Tensor, "B w"],
        position: Int[Tensor, " B"],
        state: Float[Tensor, "B L C r w"],
        condition: Int[Tensor, " B"] | None = None,
    ) -> RowStep:
        """Take the vertical stack one row down.

        Args:
            codes: of the row above; of no matter in row 0.
            position: the row, 0 ...; in row 0 the state is of no matter either.
            state: each layer's last r inputs.
            condition: as in `forward`.

        Returns:
            The context of the row's places, V numbers each, and the next state.
        """
        below = (position > 0).to(self.embedding.weight.dtype)[:, None, None, None]
        known = self._known(condition, codes)
        v = self.embedding(codes).permute(0, 2, 1).unsqueeze(2) * below
        contexts, following = [], []
        for layer, seen in zip(self._stack(), state.unbind(1), strict=True):
            window = torch.cat([seen * below, v], dim=2)
            down, across = layer.shifts(known)
            v, link = layer.look_up(functional.pad(window, (self.radius, self.radius)), down)
            contexts.append((link + across).squeeze(2))
            following.append(window[:, :, 1:])
        return RowStep(torch.cat(contexts, dim=1).permute(0, 2, 1), torch.stack(following, dim=1))

    def pixel(
        self,
        code: Int[Tensor, " B"],
        column: Int[Tensor, " B"],
        context: Float[Tensor, "B V"],
        state: Float[Tensor, "B L C r"],
    ) -> PixelStep:
        """Take the horizontal stack one place to the right.

        Args:
            code: of the place to the left; of no matter in column 0.
            column: the place's, 0 ...; in column 0 the state is of no matter either.
            context: as `row` gives it for this place.
            state: each layer's last r inputs.

        Returns:
            The logits of the place's code, and the next state.
        """
        right = (column > 0).to(self.embedding.weight.dtype)[:, None]
        h = (self.embedding(code) * right)[:, :, None, None]
        following = []
        contexts = context.chunk(len(self.layers), dim=1)
        for layer, seen, shown in zip(self._stack(), state.unbind(1), contexts, strict=True):
            window = torch.cat([seen * right[:, :, None], h[:, :, 0]], dim=2)
            h = h + layer.look_left(window.unsqueeze(2), shown[:, :, None, None])
            following.append(window[:, :, 1:])
        logits: Tensor = self.head(h)
        return PixelStep(logits[:, :, 0, 0], torch.stack(following, dim=1))

    def _stack(self) -> list[GatedLayer]:
        """Give the layers by their own type."""
        return [cast("GatedLayer", layer) for layer in self.layers]

    def _known(self, condition: Int[Tensor, " B"] | None, codes: Int[Tensor, "B *grid"]) -> Int[Tensor, " B"] | None:
        """Give every example's class, the one for none included."""
        if self.num_classes and condition is None:
            return torch.full_like(codes[(slice(None),) + (0,) * (codes.dim() - 1)], self.num_classes)
        return condition
