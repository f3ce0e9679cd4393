"""PixelSNAIL: the gated PixelCNN with causal self-attention in its horizontal stack."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.attention import look_back
from models.code_priors import Features, Memory, MemoryShapes, PlaceStep
from models.pixelcnn import GatedPixelCNN, gate


class CausalAttention(nn.Module):
    """Every place looks at all places up to its own (Chen et al. 2018, section 2.2; Vaswani et al. 2017).

    What it looks at are features of the horizontal stack, of which each knows the codes before its place alone: so a
    place may look at its own, and nothing is seen of its code.

    Args:
        channels: C of the stack.
        heads: of which each looks for itself; they divide C.
        grid: height and width; attention has learned where each place lies.
    """

    def __init__(self, channels: int, heads: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.heads, self.width = heads, grid[1]
        self.rows = nn.Parameter(0.02 * torch.randn(grid[0], channels))
        self.columns = nn.Parameter(0.02 * torch.randn(grid[1], channels))
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.mix = nn.Linear(2 * channels, 2 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, h: Float[Tensor, "B C height width"]) -> Float[Tensor, "B C height width"]:
        """Give the change of whole grids."""
        places = h.flatten(2).transpose(1, 2)
        query, key, value = self._project(places, (self.rows[:, None] + self.columns).flatten(0, 1))
        seen = functional.scaled_dot_product_attention(
            self._by_head(query), self._by_head(key), self._by_head(value), is_causal=True
        )
        change = self._answer(places, seen.transpose(1, 2).flatten(2))
        return change.transpose(1, 2).reshape(h.shape)

    def step(
        self,
        h: Float[Tensor, "B C"],
        position: Int[Tensor, " B"],
        keys: Float[Tensor, "B places C"],
        values: Float[Tensor, "B places C"],
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Give the change at one place, and its own key and value.

        Args:
            h: the stack's features there.
            position: the place, in raster order.
            keys: of all places, of which those before `position` count.
            values: likewise.
        """
        place = self.rows[position // self.width] + self.columns[position % self.width]
        # As a sequence of one place, whose graph then has the same weights as that of all places.
        here = h[:, None]
        query, key, value = self._project(here, place[:, None])
        seen = look_back((query, key, value), position, keys, values, self.heads)
        return self._answer(here, seen)[:, 0], key[:, 0], value[:, 0]

    def _project(
        self, h: Float[Tensor, "*batch C"], place: Float[Tensor, "*batch C"]
    ) -> tuple[Float[Tensor, "*batch C"], Float[Tensor, "*batch C"], Float[Tensor, "*batch C"]]:
        """Give queries and keys, which know their place, and values."""
        return self.query(h + place), self.key(h + place), self.value(h)

    def _by_head(self, h: Float[Tensor, "B places C"]) -> Float[Tensor, "B heads places D"]:
        """Divide the channels among the heads."""
        return h.reshape(h.shape[0], h.shape[1], self.heads, h.shape[2] // self.heads).transpose(1, 2)

    def _answer(self, h: Float[Tensor, "*batch C"], seen: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Join what was seen with what is there."""
        mixed = self.mix(torch.cat([h, seen], dim=-1)).movedim(-1, 1)
        change: Tensor = self.out(gate(mixed).movedim(1, -1))
        return change


class PixelSNAIL(GatedPixelCNN):
    """A gated PixelCNN with attention after every few layers (Chen et al. 2018; the top prior of Razavi et al. 2019).

    Attention feeds the horizontal stack alone, so that rows are those of a PixelCNN, and a place has keys and values
    of all places before it to look at.

    Args:
        num_embeddings: K.
        grid: height and width; it knows grids of this size alone.
        channels: C of either stack.
        layers: of gates.
        attention_every: gated layers before each attention; the last comes at the end.
        heads: of each attention.
        radius: see `models.pixelcnn.GatedLayer`.
        hidden: channels between the stacks and the logits.
        dropout: of the embedded codes and before the logits, in training.
        conditions: see `CodePrior`.
        earlier: likewise.
    """

    any_size = False

    def __init__(
        self,
        num_embeddings: int,
        grid: tuple[int, ...],
        *,
        channels: int,
        layers: int,
        attention_every: int,
        heads: int,
        radius: int,
        hidden: int,
        dropout: float,
        conditions: Mapping[str, int] | None = None,
        earlier: Features | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            channels=channels,
            layers=layers,
            radius=radius,
            hidden=hidden,
            dropout=dropout,
            conditions=conditions,
            earlier=earlier,
        )
        self.attention_every = attention_every
        self.attentions = nn.ModuleList(
            CausalAttention(channels, heads, grid) for _ in range(layers // attention_every)
        )

    def across(
        self, h: Float[Tensor, "B C h w"], contexts: list[Float[Tensor, "B C2 h w"]]
    ) -> Float[Tensor, "B C h w"]:
        """Run the horizontal stack, and attention in it; see `GatedPixelCNN.across`."""
        for index, (layer, context) in enumerate(zip(self.stack(), contexts, strict=True)):
            h = h + layer.look_left(functional.pad(h, (self.radius, 0)), context)
            attention = self._attention_after(index)
            if attention is not None:
                h = h + attention(h)
        return h

    def place_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep the inputs that a PixelCNN keeps, and keys and values of every place."""
        names = [name for index in range(len(self.attentions)) for name in _names(index)]
        places = grid[0] * grid[1], self.channels
        return MemoryShapes(states=super().place_memory(grid).states, caches=dict.fromkeys(names, places))

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
        following, entries = [], {}
        contexts = context.chunk(len(self.layers), dim=1)
        for index, (layer, seen) in enumerate(zip(self.stack(), memory["left"].unbind(1), strict=True)):
            change, kept = self.step_right(layer, h, seen * right, contexts[index])
            h = h + change
            following.append(kept)
            attention = self._attention_after(index)
            if attention is not None:
                key, value = _names(index // self.attention_every)
                step, entries[key], entries[value] = attention.step(h[:, :, 0, 0], position, memory[key], memory[value])
                h = h + step[:, :, None, None]
        return PlaceStep(self.head(h)[:, :, 0, 0], {"left": torch.stack(following, dim=1)}, entries)

    def _attention_after(self, layer: int) -> CausalAttention | None:
        """Give the attention that follows a layer, where one does."""
        if (layer + 1) % self.attention_every:
            return None
        return cast("CausalAttention", self.attentions[layer // self.attention_every])


def _names(attention: int) -> Sequence[str]:
    """Name the caches of an attention."""
    return f"keys_{attention}", f"values_{attention}"
