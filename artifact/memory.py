"""What a step graph remembers of the grids of a batch: states that every run replaces, and caches that it adds to."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from artifact.codes import Arrays, Signature

Host = Callable[[Any], NDArray[Any]]
"""Copies a state to where it can be written, where runs leave states elsewhere, as on a GPU."""


class Memory:
    """The memory of one step graph, batch first.

    `state_*` goes in and comes out as `next_state_*`, replaced as a whole. Of `cache_* [B, R, ...]` a run gives one
    entry, `entry_* [B, ...]`, which is written here at its row's position modulo R: no run copies the cache.

    Args:
        graph: the signature.
        sizes: of the symbolic axes, by name; B is the slots.
        host: see `Host`.
    """

    def __init__(self, graph: Signature, sizes: Mapping[str, int], host: Host) -> None:
        self._states: dict[str, Any] = _zeros(graph, "state_", sizes)
        # Caches lie in host memory on a GPU as well, whose runs are sent all of them: correct, and slower than it need
        # be for large ones.
        self._caches: Arrays = _zeros(graph, "cache_", sizes)
        self._following = {name: f"next_{name}" for name in self._states}
        self._rows = np.arange(sizes["B"])
        self._host = host

    @property
    def feeds(self) -> dict[str, Any]:
        """The inputs of the next run."""
        return self._states | self._caches

    @property
    def kept(self) -> tuple[str, ...]:
        """The outputs that nobody reads but the next run."""
        return tuple(self._following.values())

    def take(self, outputs: Mapping[str, Any], position: Int64[np.ndarray, " slots"]) -> None:
        """Take the outputs of a run.

        Args:
            outputs: by name.
            position: that each row had.
        """
        self._states = {name: outputs[following] for name, following in self._following.items()}
        for name, cache in self._caches.items():
            cache[self._rows, position % cache.shape[1]] = outputs[f"entry_{name.removeprefix('cache_')}"]

    def read(self, slot: int) -> Arrays:
        """Copy what is remembered of a slot."""
        return {name: array[slot].copy() for name, array in self._writable().items()}

    def write(self, slot: int, content: Arrays | None) -> None:
        """Replace what is remembered of a slot; None for the beginning of a grid."""
        for name, array in self._writable().items():
            array[slot] = 0 if content is None else content[name]

    def _writable(self) -> Arrays:
        """Give states and caches where they can be written."""
        for name, state in self._states.items():
            if not isinstance(state, np.ndarray):
                self._states[name] = self._host(state)
        return self.feeds


def _zeros(graph: Signature, prefix: str, sizes: Mapping[str, int]) -> Arrays:
    """Give the inputs whose names begin so as the first run takes them."""
    return {
        tensor.name: np.zeros(
            [axis if isinstance(axis, int) else sizes[axis] for axis in tensor.shape], dtype=tensor.dtype
        )
        for tensor in graph.inputs
        if tensor.name.startswith(prefix)
    }
