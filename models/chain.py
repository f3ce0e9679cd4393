"""A chain of priors: p(all codes) = p(grid 0) p(grid 1 given grid 0) ..., a link for each grid of codes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn

from models.bottleneck import DiscreteBottleneck, Encoding
from models.code_priors import CodeGrid, CodePrior, Conditions

Grids = tuple[Int[Tensor, "B *grid"], ...]
"""The codes of each link, in the order of the chain: levels top first, and in a level its codebooks."""


@dataclass(frozen=True)
class LinkGrid(CodeGrid):
    """A grid of codes as a model has it.

    Attributes:
        level: index of its level.
        codebook: index of its codebook in the level.
        factor: how many times more places a side it has than the coarsest grid.
    """

    level: int
    codebook: int
    factor: int


def joined(bottleneck: DiscreteBottleneck, links: Sequence[Int[Tensor, "B *grid"]]) -> Encoding:
    """Put the grids of the links together as `decode` takes them.

    Args:
        bottleneck: whose codes they are.
        links: of each link.

    Returns:
        The codes of each level, by name.
    """
    rest, encoding = iter(links), {}
    for name, quantizer in zip(bottleneck.code_names, bottleneck.quantizers, strict=True):
        books = [next(rest) for _ in range(quantizer.num_codebooks)]
        encoding[name] = torch.stack(books, dim=1) if len(books) > 1 else books[0]
    return encoding


def link_grids(bottleneck: DiscreteBottleneck, coarsest: tuple[int, ...]) -> tuple[LinkGrid, ...]:
    """List the grids of codes that a model has.

    Args:
        bottleneck: the model's.
        coarsest: places of the top grid.

    Returns:
        A grid for each link.
    """
    found = []
    for level, (quantizer, stride) in enumerate(zip(bottleneck.quantizers, bottleneck.strides, strict=True)):
        factor = bottleneck.strides[0] // stride
        shape = tuple(factor * side for side in coarsest)
        found += [
            LinkGrid(quantizer.num_embeddings, shape, level, codebook, factor)
            for codebook in range(quantizer.num_codebooks)
        ]
    return tuple(found)


class Chain(nn.Module):
    """The priors of all grids of a model.

    Args:
        links: a prior for each grid.
        grids: theirs.
    """

    def __init__(self, links: Sequence[CodePrior], grids: Sequence[LinkGrid]) -> None:
        super().__init__()
        self.links, self.grids = nn.ModuleList(links), tuple(grids)

    def __iter__(self) -> Iterator[CodePrior]:
        """Give the links in their order."""
        return (cast("CodePrior", link) for link in self.links)

    def __len__(self) -> int:
        return len(self.links)

    @property
    def conditions(self) -> dict[str, int]:
        """What the links can be conditioned on, all of them alike: names, with the number of classes of each."""
        return next(iter(self)).conditions

    def covers(self, codes: Sequence[Int[Tensor, "B *grid"]]) -> bool:
        """Tell whether grids of such sizes have a probability.

        Args:
            codes: of the first links, or of all.

        Returns:
            Whether every link is over grids of any size, or knows this one: that of a draw, or the beginning of one.
        """
        links = zip(self, self.grids, codes, strict=False)
        return all(link.any_size or _is_part(tuple(grid.shape[1:]), whole.shape) for link, whole, grid in links)

    def log_probs(self, codes: Grids, conditions: Conditions | None = None) -> Float64[Tensor, "B links"]:
        """Give log p of every grid given those before it.

        Args:
            codes: of each link, or of the first ones alone.
            conditions: what is known of each example; None for nothing.

        Returns:
            Nats; their sum over the links is log p(all these codes).
        """
        links = zip(self, range(len(codes)), strict=False)
        found = [link.log_prob(codes[index], link.given(codes[:index]), conditions) for link, index in links]
        return torch.stack(found, dim=1)


def _is_part(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Tell whether a grid is of a size, or a sequence that is no longer."""
    return shape == whole or (len(shape) == 1 and shape <= whole)
