"""WaveNet: gated causal convolutions with growing gaps, in parallel and step by step, and the prior made of them."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.code_priors import Conditions, Features, Memory, MemoryShapes, PlaceStep, SequencePrior

_INPUTS = "inputs"


class DilatedLayer(nn.Module):
    """One gated causal convolution over two places (van den Oord et al. 2016, WaveNet, eq. 2 and 3, figure 4).

    A kernel of two places, the present one and one `dilation` before it, is a linear map of both side by side: so the
    parallel pass and the step are the same computation, a step being a sequence of one place.

    Args:
        channels: C that go on to the next layer.
        skip_channels: S of what it contributes to the outcome.
        dilation: places between the two of its kernel.
        rows: of the table of conditions; 0 for none.
        features: G of what is known of each place besides; 0 for nothing.
        is_last: whether no layer comes after it.
    """

    def __init__(
        self, channels: int, skip_channels: int, dilation: int, *, rows: int, features: int, is_last: bool
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.gates = nn.Linear(2 * channels, 2 * channels)
        self.table = nn.Embedding(rows, 2 * channels) if rows else None
        self.local = nn.Linear(features, 2 * channels, bias=False) if features else None
        self.skip = nn.Linear(channels, skip_channels)
        self.residual = None if is_last else nn.Linear(channels, channels)

    def forward(
        self,
        past: Float[Tensor, "B t C"],
        present: Float[Tensor, "B t C"],
        rows: Int[Tensor, "B conditions"] | None,
        given: Float[Tensor, "B t G"] | None,
    ) -> tuple[Float[Tensor, "B t C"], Float[Tensor, "B t S"]]:
        """Give the next layer's input and the contribution to the outcome.

        Args:
            past: the inputs of `dilation` places before.
            present: the inputs.
            rows: of the table, that are added up.
            given: features of the places.
        """
        h = self.gates(torch.cat([past, present], dim=-1))
        if self.table is not None and rows is not None:
            h = h + self.table(rows).sum(1, keepdim=True)
        if self.local is not None and given is not None:
            h = h + self.local(given)
        value, opening = h.chunk(2, dim=-1)
        h = value.tanh() * opening.sigmoid()
        return present if self.residual is None else present + self.residual(h), self.skip(h)


class DilatedStack(nn.Module):
    """Layers one upon the other, whose contributions are added up: each outcome knows its own place and those before.

    Args:
        channels: see `DilatedLayer`.
        skip_channels: likewise.
        dilations: of the layers.
        rows: see `DilatedLayer`.
        features: likewise.
    """

    dilations: Tensor

    def __init__(
        self, channels: int, skip_channels: int, dilations: Sequence[int], *, rows: int = 0, features: int = 0
    ) -> None:
        super().__init__()
        last = len(dilations) - 1
        self.layers = nn.ModuleList(
            DilatedLayer(channels, skip_channels, gap, rows=rows, features=features, is_last=index == last)
            for index, gap in enumerate(dilations)
        )
        self.register_buffer("dilations", torch.tensor(dilations), persistent=False)
        self.cache = max(dilations), len(dilations), channels
        self.receptive_field = sum(dilations) + 1

    def forward(
        self,
        h: Float[Tensor, "B t C"],
        rows: Int[Tensor, "B conditions"] | None = None,
        given: Float[Tensor, "B t G"] | None = None,
    ) -> Float[Tensor, "B t S"]:
        """Run over whole sequences, before which there are zeros.

        Args:
            h: inputs of the places.
            rows: of the table of conditions.
            given: features of the places.

        Returns:
            The sum of the layers' contributions.
        """
        total: Tensor | None = None
        for layer in self._stack():
            past = functional.pad(h, (0, 0, layer.dilation, 0))[:, : h.shape[1]]
            h, skip = layer(past, h, rows, given)
            total = skip if total is None else total + skip
        return cast("Tensor", total)

    def step(
        self,
        h: Float[Tensor, "B C"],
        position: Int[Tensor, " B"],
        cache: Float[Tensor, "B R L C"],
        rows: Int[Tensor, "B conditions"] | None = None,
        given: Float[Tensor, "B G"] | None = None,
    ) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B L C"]]:
        """Run over one place.

        Args:
            h: its input.
            position: its number, 0 ...
            cache: every layer's inputs of the last R places, each at its position modulo R; R is the longest dilation.
            rows: as in `forward`.
            given: features of the place.

        Returns:
            The sum of the layers' contributions, and every layer's input.
        """
        R, _, C = self.cache
        place = ((position[:, None] + R - self.dilations) % R)[:, None, :, None].expand(-1, 1, -1, C)
        is_there = (position[:, None] >= self.dilations)[:, :, None]
        pasts = cache.gather(1, place)[:, 0].masked_fill(~is_there, 0.0)
        present, shown = h[:, None], None if given is None else given[:, None]
        total: Tensor | None = None
        entries = []
        for layer, past in zip(self._stack(), pasts[:, :, None].unbind(1), strict=True):
            entries.append(present)
            present, skip = layer(past, present, rows, shown)
            total = skip if total is None else total + skip
        return cast("Tensor", total)[:, 0], torch.cat(entries, dim=1)

    def _stack(self) -> list[DilatedLayer]:
        """Give the layers by their own type."""
        return [cast("DilatedLayer", layer) for layer in self.layers]


def dilation_cycles(cycles: int, layers: int) -> tuple[int, ...]:
    """Give gaps that double from layer to layer, 1, 2, 4 ..., again and again.

    Args:
        cycles: how often.
        layers: in each cycle.

    Returns:
        The gaps.
    """
    return tuple(2**layer for _ in range(cycles) for layer in range(layers))


class WaveNet(SequencePrior):
    """p(codes) = prod p(code given those before it within the reach of its layers) (van den Oord et al. 2016, WaveNet).

    The codes may be tokens of a quantizer, or the classes of a sound's own samples. Of sequences every length has a
    probability; of grids, which are read row by row, those of one size, since the gaps mean rows there.

    Args:
        num_embeddings: K.
        grid: of a draw: the length, or height and width.
        channels: see `DilatedLayer`.
        skip_channels: likewise.
        cycles: see `dilation_cycles`.
        layers: in each cycle.
        hidden: channels between the layers and the logits.
        dropout: of the embedded codes and before the logits, in training.
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
        skip_channels: int,
        cycles: int,
        layers: int,
        hidden: int,
        dropout: float,
        conditions: Mapping[str, int] | None = None,
        earlier: Features | None = None,
        features: int = 0,
    ) -> None:
        super().__init__(num_embeddings, conditions, earlier)
        self.any_size = len(grid) == 1
        self.embedding = nn.Embedding(num_embeddings, channels)
        self.stack = DilatedStack(
            channels, skip_channels, dilation_cycles(cycles, layers), rows=self.condition_rows, features=features
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(skip_channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_embeddings),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K *grid"]:
        """Give the logits of every place at once; see `CodePrior.forward`."""
        before = self.dropout(functional.pad(self.embedding(codes.flatten(1)), (0, 0, 1, 0))[:, :-1])
        shown = None if given is None else given.flatten(1, -2)
        logits: Tensor = self.head(self.stack(before, self.rows(conditions, codes), shown))
        return logits.transpose(1, 2).reshape(-1, self.num_embeddings, *codes.shape[1:])

    def memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep each layer's inputs as far back as the longest gap."""
        del grid
        return MemoryShapes(caches={_INPUTS: self.stack.cache})

    def step(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B G"] | None = None,
        conditions: Conditions | None = None,
    ) -> PlaceStep:
        """Take a place; see `SequencePrior.step`."""
        before = self.embedding(code).masked_fill((position == 0)[:, None], 0.0)
        seen, entry = self.stack.step(before, position, memory[_INPUTS], self.rows(conditions, code), given)
        return PlaceStep(self.head(seen[:, None])[:, 0], {}, {_INPUTS: entry})
