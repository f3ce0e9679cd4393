"""Large inputs in pieces: where each begins and ends, and how much around it belongs to its neighbours."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Span:
    """A piece along one axis, in cells: the smallest steps that an axis can be cut at.

    Attributes:
        start: the first cell that is the piece's own.
        stop: the one after the last of them.
        first: the first cell that the piece is computed from; before `start` lies its halo.
        last: the one after the last of them.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Piece:
    """A piece of an input, a span an axis.

    All slices are for a scale: the elements of an array that a cell stands for, on each axis.
    """

    spans: tuple[Span, ...]

    def given(self, scale: int) -> Slices:
        """Give what the piece is computed from, in the whole."""
        return tuple(slice(span.first * scale, span.last * scale) for span in self.spans)

    def own(self, scale: int) -> Slices:
        """Give what the piece is answerable for, in the whole."""
        return tuple(slice(span.start * scale, span.stop * scale) for span in self.spans)

    def kept(self, scale: int) -> Slices:
        """Give the same within what was computed."""
        return tuple(slice((span.start - span.first) * scale, (span.stop - span.first) * scale) for span in self.spans)


def cut(cells: Sequence[int], *, window: int, halo: int) -> list[Piece]:
    """Cut an input at multiples of the window, counted from its beginning.

    Args:
        cells: of each axis, at least 1.
        window: cells of a piece without its halo, at least 1; the last piece of an axis has what is left.
        halo: cells on either side that a piece is computed from as well, as far as the input has them.

    Returns:
        The pieces in C order; together their own cells are the whole input, each once.
    """
    axes = ([_span(start, size, window, halo) for start in range(0, size, window)] for size in cells)
    return [Piece(spans) for spans in itertools.product(*axes)]


def _span(start: int, size: int, window: int, halo: int) -> Span:
    stop = min(start + window, size)
    return Span(start, stop, max(0, start - halo), min(size, stop + halo))
