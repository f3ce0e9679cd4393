"""Coding under an exact prior: the integer logits of grids that are known, and grids that are read step by step."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Int64

from artifact.choosing import Choice
from artifact.code_prior import EXACT_PRIOR, link_role
from artifact.codes import Arrays
from artifact.drawing import no_conditions
from artifact.exact import ExactPrior
from artifact.sampling import Steps, open_drawing

Grid = Int32[np.ndarray, "n ..."]
Logits = Int32[np.ndarray, "n ... _"]


@runtime_checkable
class SymbolDecoder(Protocol):
    """Reads symbols one after the other from what was written of a grid, or of the grids of a chain."""

    def decode(self, logits: Int32[np.ndarray, " K"]) -> int:
        """Give the next symbol.

        Args:
            logits: that it was written under, integers in units of 2^-8 nats.

        Returns:
            0 .. K - 1, whatever was written.
        """
        ...


class Reads(Choice):
    """Reads the codes of each grid of a batch from its decoder.

    Args:
        decoders: of each slot.
    """

    def __init__(self, decoders: Sequence[SymbolDecoder]) -> None:
        self._decoders = decoders

    def join(self, slot: int, row: Mapping[str, Any]) -> None:
        """Take nothing: all that is asked for is in the decoder."""

    def choose(
        self, slots: Int64[np.ndarray, " n"], places: Int64[np.ndarray, " n"], logits: Float32[np.ndarray, "n K"]
    ) -> Int32[np.ndarray, " n"]:
        """Read the code of each grid."""
        del places
        rows = logits.astype(np.int32)
        codes = [self._decoders[slot].decode(rows[index]) for index, slot in enumerate(slots.tolist())]
        return np.array(codes, dtype=np.int32)


def weigh_codes(
    prior: ExactPrior, grids: Sequence[Grid], conditions: Mapping[str, Int64[np.ndarray, " n"]] | None = None
) -> Steps[list[Logits]]:
    """Give the logits of all codes of grids at once, as whoever reads them will have them.

    Args:
        prior: of the codes.
        grids: of each link, of n items of one size side by side.
        conditions: classes by the names of inputs; a condition left out is none.

    Yields:
        The role of a graph and its inputs; expects its outputs.

    Returns:
        Integers in units of 2^-8 nats, of each link.
    """
    found = []
    for index, grid in enumerate(grids):
        given = yield from _features(prior, index, grids[:index])
        role = link_role(index, EXACT_PRIOR)
        known = no_conditions(prior.graphs[role], len(grid)) | dict(conditions or {})
        taken = {tensor.name for tensor in prior.graphs[role].inputs}
        feeds = {"codes": grid, **given, **{name: classes for name, classes in known.items() if name in taken}}
        outputs = yield role, feeds
        found.append(outputs["logits"].astype(np.int32))
    return found


def weigh_by_steps(
    prior: ExactPrior, grids: Sequence[Grid], conditions: Mapping[str, Int64[np.ndarray, " n"]] | None = None
) -> Steps[list[Logits]]:
    """Give what `weigh_codes` gives, by the steps in which codes are read: the same integers, where all is well."""
    known = [_Known(np.concatenate([grid[row].ravel() for grid in grids])) for row in range(len(grids[0]))]
    yield from read_codes(prior, [grid.shape[1:] for grid in grids], known, conditions)
    found, first = [], 0
    for grid in grids:
        places = slice(first, first + grid[0].size)
        found.append(np.stack([np.stack(one.told[places]) for one in known]).reshape(*grid.shape, -1))
        first = places.stop
    return found


class _Known:
    """A decoder of what is known, which keeps the logits that it is told."""

    def __init__(self, codes: Int32[np.ndarray, " places"]) -> None:
        self.told: list[Int32[np.ndarray, " K"]] = []
        self._codes = iter(codes.tolist())

    def decode(self, logits: Int32[np.ndarray, " K"]) -> int:
        """Give the next code."""
        self.told.append(logits)
        return int(next(self._codes))


def read_codes(
    prior: ExactPrior,
    shapes: Sequence[tuple[int, ...]],
    decoders: Sequence[SymbolDecoder],
    conditions: Mapping[str, Int64[np.ndarray, " n"]] | None = None,
) -> Steps[list[Grid]]:
    """Read the codes of grids step by step: link after link, each in its order, and all items side by side.

    Args:
        prior: that they were written under.
        shapes: of the grid of each link.
        decoders: of each item.
        conditions: classes by the names of inputs; a condition left out is none.

    Yields:
        The role of a graph and its inputs; expects its outputs.

    Returns:
        The codes of each link.
    """
    found: list[Grid] = []
    for index, (link, shape) in enumerate(zip(prior.links, shapes, strict=True)):
        rows = dict(conditions or {}) | (yield from _features(prior, index, found))
        reading = open_drawing(
            prior.graphs, link, index, len(decoders), grid=shape, choice=Reads(decoders), prior=EXACT_PRIOR
        )
        for slot in range(len(decoders)):
            reading.join(slot, {name: array[slot] for name, array in rows.items()})
        while reading.drawn[0] < reading.places:
            reading.proceed((yield reading.call()))
        found.append(reading.codes)
    return found


def _features(prior: ExactPrior, index: int, earlier: Sequence[Grid]) -> Steps[Arrays]:
    """Give what earlier grids say of each place of a link, as the input `given`; nothing where it takes none."""
    role = f"{link_role(index, EXACT_PRIOR)}_given"
    if role not in prior.graphs:
        return {}
    outputs = yield role, {f"codes_{before}": grid for before, grid in enumerate(earlier)}
    return {"given": outputs["given"]}
