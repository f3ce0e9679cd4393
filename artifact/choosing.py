"""What chooses the codes of grids that are gone through step by step: noise draws them, or a decoder reads them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from jaxtyping import Float32, Int32, Int64

from artifact.codes import ALL_CODES, Arrays, draw_codes

TO_DRAW: Final = -1
"""Stands in `known` where a code is to be drawn."""


class Choice(ABC):
    """Chooses the next code of each grid of a batch from the logits of its place."""

    @abstractmethod
    def join(self, slot: int, row: Mapping[str, Any]) -> None:
        """Learn what is asked for of the grid that has a slot from now on; see `Drawing.join`."""

    @abstractmethod
    def choose(
        self, slots: Int64[np.ndarray, " n"], places: Int64[np.ndarray, " n"], logits: Float32[np.ndarray, "n K"]
    ) -> Int32[np.ndarray, " n"]:
        """Choose codes.

        Args:
            slots: of the grids.
            places: that each of them is at.
            logits: of these.

        Returns:
            Codes.
        """


class Draws(Choice):
    """Draws codes with noise, and takes those that are known.

    Args:
        slots: grids at a time.
        places: of a grid.
    """

    def __init__(self, slots: int, places: int) -> None:
        self._asked: Arrays = {
            "uniform": np.zeros((slots, places)),
            "temperature": np.ones(slots),
            "top_k": np.full(slots, ALL_CODES),
            "top_p": np.ones(slots),
            "known": np.full((slots, places), TO_DRAW, dtype=np.int32),
        }
        self._unasked = {name: array[0].copy() for name, array in self._asked.items()}

    def join(self, slot: int, row: Mapping[str, Any]) -> None:
        """Take the noise, and what is not as usual."""
        for name, array in self._asked.items():
            array[slot] = np.reshape(row.get(name, self._unasked[name]), array.shape[1:])

    def choose(
        self, slots: Int64[np.ndarray, " n"], places: Int64[np.ndarray, " n"], logits: Float32[np.ndarray, "n K"]
    ) -> Int32[np.ndarray, " n"]:
        """Draw the code of each grid, or take it where it is known."""
        asked = self._asked
        drawn = draw_codes(
            logits,
            asked["uniform"][slots, places],
            temperature=asked["temperature"][slots],
            top_k=asked["top_k"][slots],
            top_p=asked["top_p"][slots],
        )
        known = asked["known"][slots, places]
        return np.where(known == TO_DRAW, drawn, known)
