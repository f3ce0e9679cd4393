"""A decoder-only transformer over codes, in parallel and step by step with a cache of keys and values."""

import math
from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.attention import look_back
from models.code_priors import Conditions, Features, Memory, MemoryShapes, PlaceStep, SequencePrior

_SPREAD = 0.02
"""Standard deviation of embeddings at the start."""


class Block(nn.Module):
    """Causal self-attention and a network for each place, both behind a normalisation (Radford et al. 2019).

    Args:
        channels: C.
        heads: of which each looks for itself; they divide C.
        dropout: of both changes, in training.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.place_norm = nn.LayerNorm(channels)
        self.place = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Run over whole sequences, each place of which looks at itself and those before."""
        parts = self.project(self.attention_norm(h)).chunk(3, dim=-1)
        query, key, value = (part.reshape(*h.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._answer(h, seen.transpose(1, 2).flatten(2))

    def step(
        self,
        h: Float[Tensor, "B 1 C"],
        position: Int[Tensor, " B"],
        keys: Float[Tensor, "B N C"],
        values: Float[Tensor, "B N C"],
    ) -> tuple[Float[Tensor, "B 1 C"], Float[Tensor, "B 1 C"], Float[Tensor, "B 1 C"]]:
        """Run over one place.

        Args:
            h: what is known of it.
            position: its number.
            keys: of all places, of which those before `position` count.
            values: likewise.

        Returns:
            What is known of it then, its key and its value.
        """
        query, key, value = self.project(self.attention_norm(h)).chunk(3, dim=-1)
        seen = look_back((query, key, value), position, keys, values, self.heads)
        return self._answer(h, seen), key, value

    def _answer(self, h: Float[Tensor, "B N C"], seen: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        """Add what was seen, then what each place makes of it."""
        h = h + self.dropout(self.out(seen))
        changed: Tensor = h + self.dropout(self.place(self.place_norm(h)))
        return changed


class Transformer(SequencePrior):
    """p(codes) = prod p(code given all before it), by a decoder-only transformer; grids are read row by row.

    Where each place lies is learned, so that it knows grids of one size, and of sequences also shorter ones, which are
    their beginnings. Conditions and what is given are added to what comes in at every place.

    Args:
        num_embeddings: K.
        grid: the length, or height and width.
        channels: see `Block`.
        heads: likewise.
        layers: blocks.
        dropout: of what comes in and of every change, in training.
        conditions: see `CodePrior`.
        earlier: likewise, and it gives G features.
        features: G; 0 where it depends on no earlier grids.
    """

    def __init__(
        self,
        num_embeddings: int,
        grid: tuple[int, ...],
        *,
        channels: int,
        heads: int,
        layers: int,
        dropout: float,
        conditions: Mapping[str, int] | None = None,
        earlier: Features | None = None,
        features: int = 0,
    ) -> None:
        super().__init__(num_embeddings, conditions, earlier)
        self.channels = channels
        self.embedding = _embedding(num_embeddings, channels)
        self.places = nn.Parameter(_SPREAD * torch.randn(math.prod(grid), channels))
        self.table = _embedding(self.condition_rows, channels) if self.condition_rows else None
        self.local = nn.Linear(features, channels, bias=False) if features else None
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(Block(channels, heads, dropout) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, num_embeddings))

    def forward(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K *grid"]:
        """Give the logits of every place at once; see `CodePrior.forward`."""
        before = functional.pad(self.embedding(codes.flatten(1)), (0, 0, 1, 0))[:, :-1]
        h = before + self.places[: before.shape[1]]
        if self.table is not None:
            h = h + self.table(self.rows(conditions, codes)).sum(1, keepdim=True)
        if self.local is not None and given is not None:
            h = h + self.local(given.flatten(1, -2))
        h = self.dropout(h)
        for block in self._blocks():
            h = block(h)
        logits: Tensor = self.head(h)
        return logits.transpose(1, 2).reshape(-1, self.num_embeddings, *codes.shape[1:])

    def memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep keys and values of every place."""
        names = [name for index in range(len(self.layers)) for name in _names(index)]
        return MemoryShapes(caches=dict.fromkeys(names, (math.prod(grid), self.channels)))

    def step(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B G"] | None = None,
        conditions: Conditions | None = None,
    ) -> PlaceStep:
        """Take a place; see `SequencePrior.step`."""
        h = (self.embedding(code).masked_fill((position == 0)[:, None], 0.0) + self.places[position])[:, None]
        if self.table is not None:
            h = h + self.table(self.rows(conditions, code)).sum(1, keepdim=True)
        if self.local is not None and given is not None:
            h = h + self.local(given[:, None])
        entries: Memory = {}
        for index, block in enumerate(self._blocks()):
            key, value = _names(index)
            h, own_key, own_value = block.step(h, position, memory[key], memory[value])
            entries |= {key: own_key[:, 0], value: own_value[:, 0]}
        return PlaceStep(self.head(h)[:, 0], {}, entries)

    def _blocks(self) -> list[Block]:
        """Give the layers by their own type."""
        return [cast("Block", block) for block in self.layers]


def _embedding(rows: int, channels: int) -> nn.Embedding:
    """Make a table whose vectors are short at the start, as the positions are."""
    table = nn.Embedding(rows, channels)
    nn.init.normal_(table.weight, std=_SPREAD)
    return table


def _names(block: int) -> tuple[str, str]:
    """Name the caches of a block."""
    return f"keys_{block}", f"values_{block}"
