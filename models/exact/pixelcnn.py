"""The gated PixelCNN in exact integers, in parallel and step by step."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.code_priors import Conditions, Memory, MemoryShapes, PlaceStep, RasterPrior, RowStep
from models.earlier import EarlierGrids
from models.exact.arithmetic import LOGIT_BITS, added
from models.exact.canonical import Canonical
from models.exact.earlier import ExactEarlier
from models.exact.entries import Entry, Gate, Narrow
from models.exact.layers import ExactConv, ExactEmbedding, ExactLinear, InexactError
from models.exact.prior import ExactPrior
from models.exact.stacks import PlaceStack, RowStack
from models.exact.tables import Tables
from models.pixelcnn import GatedLayer, GatedPixelCNN


class ExactLayer(nn.Module):
    """One layer of both stacks; see `models.pixelcnn.GatedLayer`.

    Args:
        layer: the fitted one.
        entry: what the vertical stack's inputs come through: the gate of the layer before.
        tables: of the gates.
    """

    def __init__(self, layer: GatedLayer, entry: Entry, tables: Tables) -> None:
        super().__init__()
        self.vertical = ExactConv.copy_of(layer.vertical, entry)
        self.link = ExactLinear(layer.link.weight.flatten(1), layer.link.bias, Narrow())
        self.horizontal = ExactConv.copy_of(layer.horizontal, Narrow())
        self.out = ExactLinear(layer.out.weight.flatten(1), layer.out.bias, Gate(tables))


class ExactPixelCNN(RasterPrior, ExactPrior):
    """The exact counterpart of `models.pixelcnn.GatedPixelCNN`: the same stacks, channels last.

    What conditions and earlier grids add stands side by side for all gates: L times 2C for the horizontal stack, then
    L - 1 times 2C for the vertical one, whose last gate feeds nothing.

    Args:
        prior: the fitted one.
    """

    any_size = True

    def __init__(self, prior: GatedPixelCNN) -> None:
        earlier = None if prior.earlier is None else ExactEarlier(cast("EarlierGrids", prior.earlier))
        super().__init__(prior.num_embeddings, prior.conditions, earlier)
        self.channels, self.radius, self.context_size = prior.channels, prior.radius, prior.context_size
        layers, self.tables = prior.stack(), Tables()
        self.embedding = ExactEmbedding(prior.embedding.weight)
        self.layers = nn.ModuleList(
            ExactLayer(layer, Gate(self.tables) if index else Narrow(), self.tables)
            for index, layer in enumerate(layers)
        )
        tabled = [layer.condition.weight for layer in layers if layer.condition is not None]
        shown = [layer.features for layer in layers if layer.features is not None]
        self.table = ExactEmbedding(_side_by_side(tabled, 1)) if tabled else None
        self.features = None
        if shown:
            weight = _side_by_side([conv.weight.flatten(1) for conv in shown], 0)
            self.features = ExactLinear(weight, _side_by_side([cast("Tensor", c.bias) for c in shown], 0), Narrow())
        inner, outer = cast("nn.Conv2d", prior.head[1]), cast("nn.Conv2d", prior.head[4])
        self.inner = ExactLinear(inner.weight.flatten(1), inner.bias, Narrow(rectified=True))
        self.outer = ExactLinear(outer.weight.flatten(1), outer.bias, Narrow(rectified=True), bits=LOGIT_BITS)
        self.dropout = nn.Dropout(prior.dropout.p)

    def forward(
        self,
        codes: Int[Tensor, "B h w"],
        given: Float[Tensor, "B h w G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K h w"]:
        """Give the logits of every place at once; see `CodePrior.forward`."""
        e, r = self.embedding(codes), self.radius
        if self.training:
            e = e * self.dropout(torch.ones_like(e[:, :1, :1]))
        contexts = self._down(functional.pad(e, (0, 0, 0, 0, 1, 0))[:, :-1], self.told(given, conditions, codes))
        h = functional.pad(e, (0, 0, 1, 0))[:, :, :-1]
        for layer, context in zip(self.stack(), contexts, strict=True):
            window = functional.pad(layer.horizontal.entry(h), (0, 0, r, 0))
            h = added(h, layer.out.through(added(layer.horizontal(window), context)))
        return self.head(h).movedim(-1, 1)

    def head(self, h: Float[Tensor, "*places C"]) -> Float[Tensor, "*places K"]:
        """Give the logits of what the horizontal stack ends in."""
        return cast("Tensor", self.outer(self.dropout(self.outer.entry(self.inner.through(h)))))

    def _down(self, v: Float[Tensor, "B h w C"], told: Tensor | None) -> list[Float[Tensor, "B h w C2"]]:
        """Run the vertical stack over whole grids, and give what it tells each layer of the other one."""
        r, contexts = self.radius, []
        across, down = self.shares(told)
        for index, layer in enumerate(self.stack()):
            q = layer.vertical.entry(v if index == 0 else _sum(v, down[index - 1]))
            v = layer.vertical(functional.pad(q, (0, 0, r, r, r, 0)))
            contexts.append(_sum(layer.link.through(v), across[index]))
        return contexts

    def shares(self, told: Tensor | None) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Divide what is added before gates among the layers, of the horizontal stack and of the vertical one."""
        count = len(self.layers)
        if told is None:
            return [None] * count, [None] * (count - 1)
        parts: list[Tensor | None] = list(told.chunk(2 * count - 1, dim=-1))
        return parts[:count], parts[count:]

    def row_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep each layer's last r inputs of the vertical stack, narrow integers."""
        return MemoryShapes(states={"above": (len(self.layers) * self.radius * self.channels, grid[1])})

    def place_memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep each layer's last r inputs of the horizontal stack, narrow integers."""
        del grid
        return MemoryShapes(states={"left": (len(self.layers) * self.radius * self.channels,)})

    def row(
        self,
        codes: Int[Tensor, "B w"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B w G"] | None = None,
        conditions: Conditions | None = None,
    ) -> RowStep:
        """Take the vertical stack one row down; see `RasterPrior.row`."""
        below = (position > 0).to(self.dtype)[:, None, None]
        told = self.told(given, conditions, codes)
        if (stacks := self.stacks()) is not None:
            context, kept = stacks[0](codes, below, told, memory["above"])
            return RowStep(context, {"above": kept})
        across, down = self.shares(told)
        v = self.embedding(codes) * below
        contexts, following = [], []
        for index, above in enumerate((memory["above"] * below).transpose(-1, -2).chunk(len(self.layers), dim=-1)):
            layer = self.stack()[index]
            q = layer.vertical.entry(v if index == 0 else _sum(v, down[index - 1]))
            window = torch.stack([*above.chunk(self.radius, dim=-1), q], dim=1)
            v = layer.vertical(functional.pad(window, (0, 0, self.radius, self.radius)))[:, 0]
            contexts.append(_sum(layer.link.through(v), across[index]))
            following += [above[..., self.channels :], q]
        return RowStep(torch.cat(contexts, dim=-1), {"above": torch.cat(following, dim=-1).transpose(-1, -2)})

    def place(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        width: int,
        context: Float[Tensor, "B V"],
        memory: Memory,
    ) -> PlaceStep:
        """Take the horizontal stack one place to the right; see `RasterPrior.place`."""
        right = functional.embedding(position % width, (torch.arange(width) > 0).to(self.dtype)[:, None])
        if (stacks := self.stacks()) is not None:
            logits, kept = stacks[1](code, right, context, memory["left"])
            return PlaceStep(logits, {"left": kept}, {})
        count = len(self.layers)
        h, following = self.embedding(code) * right, []
        parts = zip(self.stack(), (memory["left"] * right).chunk(count, -1), context.chunk(count, -1), strict=True)
        for layer, seen, shown in parts:
            window = torch.cat([seen, layer.horizontal.entry(h)], dim=1)
            h = added(h, layer.out.through(added(layer.horizontal.of_windows(window), shown)))
            following.append(window[:, self.channels :])
        return PlaceStep(self.head(h), {"left": torch.cat(following, dim=1)}, {})

    def stacks(self) -> tuple[RowStack, PlaceStack] | None:
        """Give what takes steps in fewer operations, where the weights prove that it gives the same integers."""
        layers = self.stack()
        besides = 0.0 if self.features is None else float(self.features.reach().max())
        if self.table is not None:
            besides += len(self.conditions) * float(self.table.integers().abs().max())
        told = [float(layer.link.reach().max()) + besides for layer in layers]
        sides, downs = [(one.horizontal, one.out) for one in layers], [(one.vertical, one.link) for one in layers]
        try:
            places = PlaceStack(self.embedding, sides, (self.inner, self.outer), told, self.tables)
            return RowStack(self.embedding, downs, self.radius, besides, self.tables, places.shift), places
        except InexactError:
            return None

    def stack(self) -> list[ExactLayer]:
        """Give the layers by their own type."""
        return [cast("ExactLayer", layer) for layer in self.layers]

    def sizes(self) -> Canonical:
        """Name the kind of network and its sizes."""
        earlier = {} if self.earlier is None else {"earlier": cast("ExactEarlier", self.earlier).sizes()}
        sizes = {"channels": self.channels, "layers_of_gates": len(self.layers), "radius": self.radius}
        return {"kind": "pixelcnn"} | sizes | earlier


def _sum(x: Tensor, y: Tensor | None) -> Tensor:
    """Add wide integers, where there is something to add."""
    return x if y is None else added(x, y)


def _side_by_side(parts: list[Tensor], axis: int) -> Tensor:
    """Put together what a floating-point prior adds before each layer's gates, the vertical half of each first."""
    halves = [part.chunk(2, dim=axis) for part in parts]
    return torch.cat([*(across for _, across in halves), *(down for down, _ in halves[:-1])], dim=axis)
