"""A hierarchy of codes: coarse levels for what is global, finer ones for what those left out (Razavi et al. 2019)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.bottleneck import DiscreteBottleneck, Encoding, Latent
from models.code_priors import CodePrior
from models.quantizers import Quantizer


@dataclass(frozen=True)
class LevelNetworks:
    """The networks of one level.

    Attributes:
        down: from the features of the next finer level to this one's; None for the finest, whose are the encoder's.
        head: 1x1, from this level's features and what is above to the vectors that are quantised.
        up: from all that the levels above make to this level's grid; None for the top.
    """

    down: nn.Module | None
    head: nn.Module
    up: nn.Module | None


class _Choice(NamedTuple):
    """What a level chose."""

    z: Float[Tensor, "B *grid D"]
    codes: Int[Tensor, "B *grid"]
    penalty: Float[Tensor, " B"] | None


class _Found(NamedTuple):
    """A level on the way down: what its head gave, what it chose, and what the levels so far make together."""

    hidden: Float[Tensor, "B *grid D"]
    choice: _Choice
    joined: Float[Tensor, "B J *grid"]


class HierarchicalBottleneck(DiscreteBottleneck):
    """Levels of codes, each chosen given those above; joined_l = [up_l(joined_{l-1}), e_l], and joined_0 = e_0.

    The last of these is what the decoder reads: one way down serves the choice of codes and the decoder.

    Args:
        quantizers: of each level, top first.
        priors: p(codes) of each.
        networks: of each.
        strides: how many times more places a side the finest grid has than each.
        grid_axes: 2 for images, 1 for sounds.
    """

    def __init__(
        self,
        quantizers: Sequence[Quantizer],
        priors: Sequence[CodePrior],
        networks: Sequence[LevelNetworks],
        strides: tuple[int, ...],
        grid_axes: int = 2,
    ) -> None:
        super().__init__(priors, strides, grid_axes)
        self.levels = nn.ModuleList(quantizers)
        self.heads = nn.ModuleList(one.head for one in networks)
        self.downs = nn.ModuleList(one.down for one in networks if one.down is not None)
        self.ups = nn.ModuleList(one.up for one in networks if one.up is not None)

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """The quantizer of each level."""
        return tuple(cast("Quantizer", level) for level in self.levels)

    def encoding(self, h: Float[Tensor, "B C *grid"]) -> Encoding:
        """Give the codes of each level."""
        found = self._descend(h, _nearest)
        return {name: level.choice.codes.to(torch.int32) for name, level in zip(self.code_names, found, strict=True)}

    def margins(self, h: Float[Tensor, "B C *grid"]) -> Encoding:
        """Give the margins of each level's own choice."""
        found = zip(self.code_names, self.quantizers, self._descend(h, _nearest), strict=True)
        return {name: quantizer.margins(level.hidden) for name, quantizer, level in found}

    def point(self, encoding: Encoding) -> Float[Tensor, "B J *grid"]:
        """Give what the levels make together, on the finest grid."""
        return self._joined(encoding)[-1]

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S 0"]) -> Latent:
        """Give the levels of codes, and their code lengths under the priors."""
        del noise
        joined = zip(self._joined(encoding), self.code_names, strict=True)
        return tuple(self._level(index, z, encoding[name], None) for index, (z, name) in enumerate(joined))

    def forward(self, h: Float[Tensor, "B C *grid"], noise: Float[Tensor, "B S 0"]) -> Latent:
        """Quantize the encoder's output; see `Bottleneck.forward`."""
        del noise
        return tuple(
            self._level(index, level.joined, level.choice.codes, level.choice.penalty)
            for index, level in enumerate(self._descend(h, _learn))
        )

    def _descend(
        self, h: Float[Tensor, "B C *grid"], choose: Callable[[Quantizer, Tensor], _Choice]
    ) -> Iterator[_Found]:
        """Go up for the features of every level, and down from the top for its codes."""
        features = [h]
        for down in reversed(self.downs):
            features.insert(0, down(features[0]))
        joined: Tensor | None = None
        for index, quantizer in enumerate(self.quantizers):
            above = self._above(index, joined)
            hidden = self.heads[index](torch.cat([features[index], *above], 1)).movedim(1, -1)
            choice = choose(quantizer, hidden)
            joined = torch.cat([*above, choice.z.movedim(-1, 1)], 1)
            yield _Found(hidden, choice, joined)

    def _joined(self, encoding: Encoding) -> list[Float[Tensor, "B J *grid"]]:
        """Give what the levels down to each make of their codes."""
        joined: list[Tensor] = []
        for index, z in enumerate(self.vectors(encoding)):
            above = self._above(index, joined[-1] if joined else None)
            joined.append(torch.cat([*above, z.movedim(-1, 1)], 1))
        return joined

    def _above(self, index: int, joined: Tensor | None) -> tuple[Tensor, ...]:
        """Bring what the levels above a level make to its grid; nothing for the top."""
        return () if joined is None else (self.ups[index - 1](joined),)


def _nearest(quantizer: Quantizer, hidden: Tensor) -> _Choice:
    """Choose codes as a fitted model does."""
    codes = quantizer.codes(hidden)
    return _Choice(quantizer.embed(codes), codes, None)


def _learn(quantizer: Quantizer, hidden: Tensor) -> _Choice:
    """Choose codes with gradients, and learn from them in training."""
    return _Choice(*quantizer(hidden))
