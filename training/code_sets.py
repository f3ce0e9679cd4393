"""The codes of a split, encoded once: all that a prior is fitted to."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int32, Int64, Shaped
from tqdm import tqdm

from models.bottleneck import DiscreteBottleneck
from models.model import LatentVariableModel
from training.codes import codebooks, downsampling
from training.data import Examples
from training.errors import RecipeError, RunError
from training.team import leads
from training.whole import padded

_BATCH = 100
_VALUES = 3 * 2**20
"""Of the data in a batch: as many examples of ordinary size as it may have, and fewer of large ones."""

Grid = Int32[np.ndarray, "*grid"]
Example = Shaped[np.ndarray, "B *data"]
Grids = Int32[np.ndarray, "N *grid"] | list[Grid]
"""The grid of every example: an array where they are of one size, else a list."""


@dataclass(frozen=True)
class CodeSet:
    """The codes of N examples, link by link of a chain of priors.

    Attributes:
        grids: of each link.
        labels: the class of each example, by the name of the condition.
    """

    grids: tuple[Grids, ...]
    labels: dict[str, Int64[np.ndarray, " N"]]

    def __len__(self) -> int:
        return len(self.grids[0])

    def conditions(self, indices: Int64[np.ndarray, " B"]) -> dict[str, torch.Tensor]:
        """Give the classes of some examples."""
        return {name: torch.from_numpy(classes[indices]) for name, classes in self.labels.items()}

    def whole(self, indices: Int64[np.ndarray, " B"], links: int) -> tuple[torch.Tensor, ...]:
        """Give the grids of the first links of some examples of one size."""
        return tuple(torch.from_numpy(np.stack([grids[i] for i in indices])) for grids in self.grids[:links])

    def crops(
        self,
        indices: Int64[np.ndarray, " B"],
        sides: Sequence[int],
        random: np.random.Generator | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Cut the same part out of all grids of each of some examples.

        Args:
            indices: of the examples.
            sides: of the part, in places of each link's grid; as many first links as there are sides are cut.
            random: where the parts lie; None for the middle of each grid.

        Returns:
            `[B, side, ...]` of each link.
        """
        pieces: list[list[Grid]] = [[] for _ in sides]
        for index in indices:
            room = np.array(self.grids[0][index].shape) - sides[0]
            corner = room // 2 if random is None else random.integers(0, room, endpoint=True)
            for grids, side, part in zip(self.grids, sides, pieces, strict=False):
                first = corner * (side // sides[0])
                part.append(grids[index][tuple(slice(at, at + side) for at in first)])
        return tuple(torch.from_numpy(np.stack(part)) for part in pieces)

    def with_room(self, side: int, split: str) -> "CodeSet":
        """Leave out the examples that have no room for parts of so many places a side, and tell how many they are.

        Args:
            side: in places of the coarsest grid.
            split: which it is of, for the message.

        Returns:
            The others.

        Raises:
            RunError: none has.
        """
        kept = np.array([index for index, grid in enumerate(self.grids[0]) if min(grid.shape) >= side], dtype=np.int64)
        if not len(kept):
            longest = max(min(grid.shape) for grid in self.grids[0])
            raise RunError(
                f"no example has room for prior.crop = {side} places a side; the largest has {longest} on its short "
                "side, so make it no larger"
            )
        if len(kept) < len(self) and leads():
            tqdm.write(
                f"note: {len(self) - len(kept)} of the {len(self)} grids of the {split} split are left out, smaller "
                f"than prior.crop = {side} places a side; a smaller prior.crop keeps them",
                file=sys.stderr,
            )
        grids = tuple([grids[index] for index in kept] for grids in self.grids)
        return CodeSet(grids, {name: labels[kept] for name, labels in self.labels.items()})


@torch.inference_mode()
def code_set(
    model: LatentVariableModel,
    bottleneck: DiscreteBottleneck,
    examples: Examples,
    labels: dict[str, Int64[np.ndarray, " N"]],
    crop: int | None,
    shifts: int = 1,
) -> CodeSet:
    """Encode a split, and behind it its mirror images where it is fitted with them, or its sounds begun later.

    Args:
        model: in evaluation mode.
        bottleneck: the model's.
        examples: the split.
        labels: the class of each example, by the name of the condition.
        crop: encode the whole of examples that differ in size, and silence behind sounds that are shorter than so many
            places of the coarsest grid; None for examples of one size.
        shifts: see `training.recipe.PriorConfig`.

    Returns:
        The codes.

    Raises:
        RecipeError: pictures are to begin later, or sounds more often than a code has samples.
    """
    factor, of_sounds = downsampling(model), len(examples.shape) == 1
    if shifts > (factor if of_sounds else 1):
        most = f"at most {factor}, the samples of a code" if of_sounds else "a number for sounds alone: leave it out"
        raise RecipeError(f"prior.shifts is {shifts}, expected {most}")
    views: list[Callable[[Example], Example]] = [lambda batch: batch]
    if examples.flip:
        views.append(lambda batch: batch[:, :, ::-1])
    if of_sounds:
        views = [partial(_begun_later, by=shift * factor // shifts) for shift in range(shifts)]
    batches = [
        view(batch)
        for view in views
        for batch in (_batches(examples.fixed()) if crop is None else _wholes(examples, factor, crop))
    ]
    books, found = codebooks(bottleneck), []
    for batch in tqdm(batches, unit="batch", desc="codes", leave=False):
        encoding = model.encode(torch.from_numpy(np.array(batch)))
        found.append([book.grid(encoding).numpy() for book in books])
    grids: list[Grids] = [
        np.concatenate(parts) if crop is None else [part[0] for part in parts] for parts in zip(*found, strict=True)
    ]
    repeated = {name: np.tile(classes, len(views)) for name, classes in labels.items()}
    return CodeSet(tuple(grids), repeated)


def _begun_later(batch: Example, by: int) -> Example:
    """Leave out the first samples of sounds, and put silence behind them."""
    return np.pad(batch[:, by:], ((0, 0), (0, by)))


def _batches(data: Shaped[np.ndarray, "N ..."]) -> list[Shaped[np.ndarray, "B ..."]]:
    """Divide examples of one size into batches."""
    size = max(1, min(_BATCH, _VALUES // data[0].size))
    return [data[first : first + size] for first in range(0, len(data), size)]


def _wholes(examples: Examples, multiple_of: int, crop: int) -> list[Shaped[np.ndarray, "1 ..."]]:
    """Give whole examples one by one, padded to what the model takes."""
    return [_whole(examples[index], multiple_of, crop * multiple_of)[None] for index in range(len(examples))]


def _whole(example: Shaped[np.ndarray, "..."], multiple_of: int, least: int) -> Shaped[np.ndarray, "..."]:
    """Pad an example to what the model takes, and a sound until it is long enough."""
    long = np.pad(example, (0, max(0, least - len(example)))) if example.ndim == 1 else example
    return padded(long, multiple_of)[0]
