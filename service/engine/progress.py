"""How far the work for a request has come: told by whoever does it, read by whoever shows it."""

import asyncio
from typing import Any

from jaxtyping import Int32
from numpy.typing import NDArray

UNDRAWN = -1
"""Stands in `Progress.codes` where no code has been drawn yet."""


class Progress:
    """Steps done so far; made on the event loop of whoever reads it.

    Attributes:
        done: steps.
        of: how many there are; 0 while nothing is known.
        codes: of a draw, in the making, to be read alone: `[n, *grid]` of each link of the prior that was begun; empty
            for work that draws none.
    """

    def __init__(self) -> None:
        self.done = 0
        self.of = 0
        self.codes: tuple[Int32[NDArray[Any], "n ..."], ...] = ()
        self._expected = 0
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    @property
    def fraction(self) -> float | None:
        """The part that is done, 0 .. 1; None while nothing is known."""
        return self.done / self.of if self.of else None

    def expect(self, steps: int) -> None:
        """Say how many steps several draws, one after the other, will take in all."""
        self._expected = steps

    def begin(self, codes: Int32[NDArray[Any], "n *grid"]) -> None:
        """Show the codes of the next draw; what is told from now on counts from its beginning."""
        self.codes = (*self.codes, codes)

    def tell(self, done: int, of: int) -> None:
        """Say how far it has come; from any thread."""
        before = sum(codes.size for codes in self.codes[:-1])
        self.done, self.of = before + done, max(self._expected, before + of)
        # Where the loop has been closed nobody reads any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def change(self) -> int:
        """Await the next step, and give the number of those that are done."""
        await self._changed.wait()
        self._changed.clear()
        return self.done
