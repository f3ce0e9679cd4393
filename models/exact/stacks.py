"""The stacks of an exact PixelCNN step by step: few operations that give the very same integers.

Sums of whole numbers and of floors need one floor alone, floor((floor(x) + n) / 2^k) = floor((x + n) / 2^k), and a clip
is left out where the weights prove that nothing reaches it. So what comes before a gate is summed up as an index of its
tables, a row tells each place such indices, the bias of the place's own map in them, and what layers add to carries
the half that the next rounding adds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from models.exact.arithmetic import EXACT_LIMIT, NARROW_LIMIT, WIDE_BITS, WIDE_LIMIT
from models.exact.entries import Entry
from models.exact.layers import ExactEmbedding, ExactLinear, InexactError
from models.exact.tables import ENTRIES, INDEX_SHIFT, SIGMOID_BITS, TANH_BITS, Tables

FACTOR = 2.0**-INDEX_SHIFT
"""Wide integers times this, and `MIDDLE` more, are indices of tables."""
MIDDLE = ENTRIES // 2

Pair = tuple[ExactLinear, ExactLinear]


class Sums(NamedTuple):
    """A linear map whose sums need no clip.

    Attributes:
        weight: `[inputs, outputs]`, multiples of powers of 2.
        bias: likewise.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: ExactLinear, factor: float = 1.0, shift: float = 0.0, *, beside: float = 0.0) -> "Sums":
        """Give the map whose floored sums are floor(y * factor + shift), y being the wide integers of a layer.

        Args:
            layer: of an exact network.
            factor: a power of 2, at most 1.
            shift: a whole number of wide ones, times `factor`.
            beside: the most that is added to y.

        Raises:
            InexactError: sums could leave the integers that float32 has, or those of the layer could be clipped.
        """
        weight, bias = layer.integers()
        reach, unit = layer.reach(), layer.scale.double().clamp(max=1.0)
        if (reach > WIDE_LIMIT).any() or ((reach + beside + abs(shift) / factor) / unit >= EXACT_LIMIT).any():
            raise InexactError("sums that take more with them could leave the integers that float32 has")
        half = torch.where(layer.scale < 1, 0.5, 0.0).to(bias.dtype)
        return cls((weight * (layer.scale * factor)[:, None]).T, (bias * layer.scale + half) * factor + shift)

    def __call__(self, x: Float[Tensor, "*places inputs"]) -> Float[Tensor, "*places outputs"]:
        """Give the sums."""
        return functional.linear(x, self.weight.T, self.bias)


class Gates:
    """Gates whose products are in units of the narrow integers that an entry gives.

    Args:
        tables: of all gates.
        entries: that the gates are.
    """

    def __init__(self, tables: Tables, entries: Sequence[Entry]) -> None:
        unit = 2.0 ** -(TANH_BITS + SIGMOID_BITS)
        self._steps = [float(entry.step) for entry in entries]
        self._tanh = {step: tables.tanh * (unit / step) for step in set(self._steps)}
        self._sigmoid = tables.sigmoid

    def __call__(self, index: int, x: Float[Tensor, "*places C2"]) -> Float[Tensor, "*places C"]:
        """Give the narrow integers of a gate, whose indices may have fractions and lie outside of the tables."""
        value, opening = x.clamp(0, ENTRIES - 1).int().chunk(2, dim=-1)
        tanh = functional.embedding(value, self._tanh[self._steps[index]]).squeeze(-1)
        return narrow(tanh * functional.embedding(opening, self._sigmoid).squeeze(-1) + 0.5)


class RowStack:
    """Takes the vertical stack from row to row.

    Args:
        embedding: of the codes of the row above.
        layers: the map of each layer, and what leads from it to the horizontal stack.
        radius: of the kernels.
        besides: the most that earlier grids and conditions add before a gate.
        tables: of the gates.
        shift: what is added to the indices for the horizontal stack.

    Raises:
        InexactError: the weights do not prove that it gives the same integers.
    """

    def __init__(
        self,
        embedding: ExactEmbedding,
        layers: Sequence[Pair],
        radius: int,
        besides: float,
        tables: Tables,
        shift: Float[Tensor, " V"],
    ) -> None:
        self._radius, self._shift = radius, shift
        self._embedded = layers[0][0].entry(embedding.integers())
        self._size = int(self._embedded.shape[1])
        self._gates = Gates(tables, [down.entry for down, _ in layers[1:]])
        self._layers, self._scales = [], [_scale(link.entry) for _, link in layers]
        for (down, link), scale in zip(layers, self._scales, strict=True):
            if scale > 1:
                raise InexactError("what is not rounded any further needs a floor of its own")
            sums = Sums.of(down, FACTOR, beside=max(besides, 0.5 / scale))
            self._layers.append((sums, Sums.of(link, beside=besides)))

    def __call__(
        self,
        codes: Int[Tensor, "B w"],
        below: Float[Tensor, "B 1 1"],
        told: Float[Tensor, "B *broad V"] | None,
        above: Float[Tensor, "B S w"],
    ) -> tuple[Float[Tensor, "B w V"], Float[Tensor, "B S w"]]:
        """Give what the row says to the gates of the horizontal stack, and what each layer keeps.

        Args:
            codes: of the row above.
            below: 1, or 0 in the first row.
            told: see `ExactPixelCNN.shares`.
            above: what each layer keeps of its last inputs.
        """
        count, r = len(self._layers), self._radius
        across, *down = [self._shift] if told is None else self._shares(told * FACTOR)
        q, contexts, following = functional.embedding(codes, self._embedded) * below, [], []
        for index, seen in enumerate((above * below).transpose(-1, -2).chunk(count, dim=-1)):
            seeing, linking = self._layers[index]
            following += [seen[..., q.shape[-1] :], q] if r > 1 else [q]
            v = seeing(self._windows(torch.cat([seen, q], dim=-1)))
            again = self._scales[index] / FACTOR
            half = 0.5 if self._scales[index] < 1 else 0.0
            contexts.append(linking(narrow(v * again + half)))
            if index + 1 < count:
                q = self._gates(index, (v + down[index] if down else v).floor() + MIDDLE)
        return torch.cat(contexts, dim=-1).floor() * FACTOR + across, torch.cat(following, dim=-1).transpose(-1, -2)

    def _windows(self, rows: Float[Tensor, "B w R"]) -> Float[Tensor, "B w window"]:
        """Give what the kernel sees of each place, in reading order, of rows whose channels lie side by side."""
        r = self._radius
        padded = functional.pad(rows, (0, 0, r, r))
        columns = [padded[:, first : (first - 2 * r) or None] for first in range(2 * r + 1)]
        seen = [torch.split(column, self._size, dim=-1) for column in columns]
        return torch.cat([column[row] for row in range(r + 1) for column in seen], dim=-1)

    def _shares(self, told: Float[Tensor, "B *broad V"]) -> list[Tensor]:
        """Divide what is told between the horizontal stack, with its shift, and each layer of this one."""
        size = len(self._shift)
        across, down = told[..., :size], told[..., size:]
        return [across + self._shift, *down.chunk(len(self._layers) - 1, dim=-1)]


class PlaceStack:
    """Takes the horizontal stack from place to place.

    Args:
        embedding: of the code to the left.
        layers: the maps of each layer, before and after its gate.
        head: the maps that follow.
        told: the most that a row's wide integers for each layer's gates can be.
        tables: of the gates.

    Attributes:
        shift: what a row adds to the indices for all gates.

    Raises:
        InexactError: the weights do not prove that it gives the same integers.
    """

    def __init__(
        self, embedding: ExactEmbedding, layers: Sequence[Pair], head: Pair, told: Sequence[float], tables: Tables
    ) -> None:
        table = embedding.integers()
        most = float(table.abs().max()) + sum(float(out.reach().max()) for _, out in layers)
        self._scales = [_scale(entry) for entry in (*(before.entry for before, _ in layers[1:]), head[0].entry)]
        halves = [0.5 / scale if scale < 1 else 0.0 for scale in self._scales]
        last = _scale(head[1].entry)
        if max(most + max(halves), *told) > WIDE_LIMIT or max(last, self._scales[-1]) > 1:
            raise InexactError("wide integers could be clipped, or what is not rounded needs a floor of its own")
        self._embedded, self._size = torch.cat([layers[0][0].entry(table), table], dim=1), int(table.shape[1])
        self._gates = Gates(tables, [out.entry for _, out in layers])
        self._layers = []
        for index, (before, out) in enumerate(layers):
            carried = halves[index] - (halves[index - 1] if index else 0.0)
            # What the last layer gives is not rounded before it is added.
            beside = most + max(halves) if index + 1 == len(layers) else 0.0
            opened = Sums.of(before, FACTOR, MIDDLE, beside=told[index])
            self._layers.append((opened, Sums.of(out, shift=carried, beside=beside)))
        self._inner, self._outer = Sums.of(head[0], last, 0.5 if last < 1 else 0.0), Sums.of(head[1])
        self.shift = torch.cat([before.bias for before, _ in self._layers])

    def __call__(
        self,
        code: Int[Tensor, " B"],
        right: Float[Tensor, "B 1"],
        context: Float[Tensor, "B V"],
        left: Float[Tensor, "B S"],
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B S"]]:
        """Give the logits of the next place, and what each layer keeps.

        Args:
            code: to the left.
            right: 1, or 0 where a row begins.
            context: of the place, what the row says to the gates.
            left: what each layer keeps of its last inputs.
        """
        count, size = len(self._layers), self._size
        begun = torch.cat([left, functional.embedding(code, self._embedded)], dim=1) * right
        kept = int(left.shape[1]) // count
        *lefts, q, h = torch.split(begun, [*[kept] * count, size, size], dim=1)
        following = []
        for index, (seen, shown) in enumerate(zip(lefts, context.chunk(count, dim=1), strict=True)):
            before, out = self._layers[index]
            following += [seen[:, size:], q] if kept > size else [q]
            change = out(self._gates(index, torch.addmm(shown, torch.cat([seen, q], dim=1), before.weight)))
            is_last = index + 1 == count
            h = h + (change if is_last else change.floor())
            q = narrow(h * self._scales[index], least=0 if is_last else -NARROW_LIMIT)
        return self._outer(narrow(self._inner(q), least=0)).floor(), torch.cat(following, dim=1)


def narrow(x: Tensor, *, least: int = -NARROW_LIMIT) -> Tensor:
    """Round down and clip."""
    return x.floor().clamp(least, NARROW_LIMIT)


def _scale(entry: Entry) -> float:
    """Give what an entry multiplies wide integers by."""
    return float(2.0**-WIDE_BITS / entry.step)
