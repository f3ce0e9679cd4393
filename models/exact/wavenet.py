"""WaveNet in exact integers, in parallel and step by step."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from models.code_priors import Conditions, Memory, MemoryShapes, PlaceStep, SequencePrior
from models.earlier import EarlierGrids
from models.exact.arithmetic import LOGIT_BITS, added
from models.exact.canonical import Canonical
from models.exact.earlier import ExactEarlier
from models.exact.entries import Gate, Narrow
from models.exact.layers import ExactEmbedding, ExactLinear
from models.exact.prior import ExactPrior
from models.exact.tables import Tables
from models.wavenet import DilatedLayer, WaveNet

_INPUTS = "inputs"


class ExactDilatedLayer(nn.Module):
    """One gated causal convolution over two places; see `models.wavenet.DilatedLayer`.

    What goes on to the next layer and what is contributed to the outcome come from one matrix, in this order.

    Args:
        layer: the fitted one.
        tables: of the gates.
    """

    def __init__(self, layer: DilatedLayer, tables: Tables) -> None:
        super().__init__()
        self.dilation = layer.dilation
        self.gates = ExactLinear(layer.gates.weight, layer.gates.bias, Narrow())
        maps = [layer.skip] if layer.residual is None else [layer.residual, layer.skip]
        self.going_on = 0 if layer.residual is None else layer.residual.out_features
        weight, bias = torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps])
        self.out = ExactLinear(weight, bias, Gate(tables))

    def forward(
        self,
        h: Float[Tensor, "*places C"],
        past: Float[Tensor, "*places C"],
        present: Float[Tensor, "*places C"],
        told: Float[Tensor, "*broad C2"] | None,
    ) -> tuple[Float[Tensor, "*places C"], Float[Tensor, "*places S"]]:
        """Give the next layer's wide input and the contribution to the outcome.

        Args:
            h: the wide inputs.
            past: the inputs of `dilation` places before, narrow.
            present: the inputs, narrow.
            told: what is added before the gates, wide.
        """
        opened = self.gates(torch.cat([past, present], dim=-1))
        outcome = self.out.through(opened if told is None else added(opened, told))
        change, skip = outcome[..., : self.going_on], outcome[..., self.going_on :]
        return (added(h, change) if self.going_on else h), skip


class ExactWaveNet(SequencePrior, ExactPrior):
    """The exact counterpart of `models.wavenet.WaveNet`.

    What conditions and earlier grids add stands side by side for all layers, 2C each.

    Args:
        prior: the fitted one.
    """

    dilations: Tensor

    def __init__(self, prior: WaveNet) -> None:
        earlier = None if prior.earlier is None else ExactEarlier(cast("EarlierGrids", prior.earlier))
        super().__init__(prior.num_embeddings, prior.conditions, earlier)
        self.any_size = prior.any_size
        layers, tables = [cast("DilatedLayer", layer) for layer in prior.stack.layers], Tables()
        self.embedding = ExactEmbedding(prior.embedding.weight)
        self.layers = nn.ModuleList(ExactDilatedLayer(layer, tables) for layer in layers)
        tabled = [layer.table.weight for layer in layers if layer.table is not None]
        local = [layer.local.weight for layer in layers if layer.local is not None]
        self.table = ExactEmbedding(torch.cat(tabled, dim=1)) if tabled else None
        self.features = ExactLinear(torch.cat(local), None, Narrow()) if local else None
        inner, outer = cast("nn.Linear", prior.head[1]), cast("nn.Linear", prior.head[4])
        self.inner = ExactLinear(inner.weight, inner.bias, Narrow(rectified=True))
        self.outer = ExactLinear(outer.weight, outer.bias, Narrow(rectified=True), bits=LOGIT_BITS)
        self.dropout = nn.Dropout(prior.dropout.p)
        self.cache = prior.stack.cache
        self.register_buffer("dilations", prior.stack.dilations.clone(), persistent=False)

    def forward(
        self,
        codes: Int[Tensor, "B *grid"],
        given: Float[Tensor, "B *grid G"] | None = None,
        conditions: Conditions | None = None,
    ) -> Float[Tensor, "B K *grid"]:
        """Give the logits of every place at once; see `CodePrior.forward`."""
        sequence = codes.flatten(1)
        told = self.told(None if given is None else given.flatten(1, -2), conditions, sequence)
        h = self.dropout(functional.pad(self.embedding(sequence), (0, 0, 1, 0))[:, :-1])
        total: Tensor | None = None
        for layer, share in zip(self.stack(), self._shares(told), strict=True):
            q = layer.gates.entry(h)
            past = functional.pad(q, (0, 0, layer.dilation, 0))[:, : q.shape[1]]
            h, skip = layer(h, past, q, share)
            total = skip if total is None else added(total, skip)
        logits = self._head(cast("Tensor", total))
        return logits.transpose(1, 2).reshape(-1, self.num_embeddings, *codes.shape[1:])

    def memory(self, grid: tuple[int, ...]) -> MemoryShapes:
        """Keep each layer's inputs as far back as the longest gap, narrow integers."""
        del grid
        return MemoryShapes(caches={_INPUTS: self.cache})

    def step(
        self,
        code: Int[Tensor, " B"],
        position: Int[Tensor, " B"],
        memory: Memory,
        given: Float[Tensor, "B G"] | None = None,
        conditions: Conditions | None = None,
    ) -> PlaceStep:
        """Take a place; see `SequencePrior.step`."""
        R, _, C = self.cache
        place = ((position[:, None] + R - self.dilations) % R)[:, None, :, None].expand(-1, 1, -1, C)
        is_there = (position[:, None] >= self.dilations).to(self.dtype)[:, :, None]
        pasts = (memory[_INPUTS].gather(1, place)[:, 0] * is_there).unbind(1)
        h = self.embedding(code) * (position > 0).to(self.dtype)[:, None]
        total: Tensor | None = None
        entries = []
        for layer, past, share in zip(
            self.stack(), pasts, self._shares(self.told(given, conditions, code)), strict=True
        ):
            q = layer.gates.entry(h)
            entries.append(q)
            h, skip = layer(h, past, q, share)
            total = skip if total is None else added(total, skip)
        return PlaceStep(self._head(cast("Tensor", total)), {}, {_INPUTS: torch.stack(entries, dim=1)})

    def _head(self, total: Float[Tensor, "*places S"]) -> Float[Tensor, "*places K"]:
        """Give the logits of the sum of what layers contribute."""
        return cast("Tensor", self.outer(self.dropout(self.outer.entry(self.inner.through(total)))))

    def _shares(self, told: Tensor | None) -> list[Tensor | None]:
        """Divide what is added before gates among the layers."""
        return [None] * len(self.layers) if told is None else list(told.chunk(len(self.layers), dim=-1))

    def stack(self) -> list[ExactDilatedLayer]:
        """Give the layers by their own type."""
        return [cast("ExactDilatedLayer", layer) for layer in self.layers]

    def sizes(self) -> Canonical:
        """Name the kind of network and its sizes."""
        earlier = {} if self.earlier is None else {"earlier": cast("ExactEarlier", self.earlier).sizes()}
        return {"kind": "wavenet", "dilations": self.dilations.tolist()} | earlier
