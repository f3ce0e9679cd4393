"""Bottlenecks: from the encoder's output to latents, with all that a bound must know of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.code_priors import CodePrior
from models.quantizers import Quantizer


@dataclass(frozen=True)
class Level:
    """The latents of one level, S samples for each of B examples.

    Attributes:
        z: what the decoder gets of this level and those above; that of the last level is all that it reads.
        codes: the integers of this level, where it is quantised.
        log_q: log q(z given x), nats.
        log_p: log p(z), nats.
        kl: KL(q || p) of each dimension, nats, in closed form given the samples of the levels above, where there are
            some; None where there is none.
        penalty: an auxiliary loss such as commitment, never a part of a bound.
    """

    z: Float[Tensor, "B S *latent"]
    codes: Int[Tensor, "B *grid"] | None
    log_q: Float[Tensor, "B S"]
    log_p: Float[Tensor, "B S"]
    kl: Float[Tensor, "B D"] | None
    penalty: Float[Tensor, " B"] | None


Latent = tuple[Level, ...]
"""The levels, top first."""

Encoding = dict[str, Tensor]
"""What `encode` answers, by name: a posterior's parameters, or codes."""


class Bottleneck(nn.Module, ABC):
    """The latents of a model: how they come from the encoder's output, and what they cost."""

    latent_axes: int
    """How many axes z has for one example."""
    noise_dimensions: int
    """Standard normal numbers that one sample of z takes."""
    bounds_log_p: bool = True
    """Whether what it gives is a bound on log p(x): a code that is not weighed, as of a plain autoencoder, is none."""

    @abstractmethod
    def encoding(self, h: Float[Tensor, "B *hidden"]) -> Encoding:
        """Read the encoder's output as what `encode` answers."""

    @abstractmethod
    def point(self, encoding: Encoding) -> Float[Tensor, "B *latent"]:
        """Give the one z that stands for x in a reconstruction."""

    @abstractmethod
    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z from what `encode` answered."""

    def for_export(self) -> Self:
        """Give the same bottleneck as graphs need it: with everything computed that depends on weights alone."""
        return self

    def forward(self, h: Float[Tensor, "B *hidden"], noise: Float[Tensor, "B S D"]) -> Latent:
        """Draw z given the encoder's output, with gradients.

        Args:
            h: what the encoder gave.
            noise: standard normal.

        Returns:
            The levels.
        """
        return self.draw(self.encoding(h), noise)


def code_names(levels: int) -> tuple[str, ...]:
    """Name the codes of each level in an encoding, top first: `codes` alone, or `codes_0` and so on."""
    return tuple(f"codes_{level}" for level in range(levels)) if levels > 1 else ("codes",)


class DiscreteBottleneck(Bottleneck):
    """Levels of codes, top first; the posterior is certain of its codes, so that log q = 0.

    Codes are int32 `[B, *grid]`, of several codebooks `[B, Q, *grid]`, where -1 stands for a codebook that is left out.

    Args:
        priors: p(codes) of each level.
        strides: how many times more places a side the finest grid has than that of each level.
        grid_axes: 2 for images, 1 for sounds.
    """

    noise_dimensions = 0

    def __init__(self, priors: Sequence[CodePrior], strides: tuple[int, ...], grid_axes: int) -> None:
        super().__init__()
        self.priors, self.strides, self.grid_axes = nn.ModuleList(priors), strides, grid_axes
        self.latent_axes = 1 + grid_axes

    @property
    @abstractmethod
    def quantizers(self) -> tuple[Quantizer, ...]:
        """The quantizer of each level."""

    @property
    def code_names(self) -> tuple[str, ...]:
        """Names of the levels' codes in an encoding."""
        return code_names(len(self.strides))

    @abstractmethod
    def margins(self, h: Float[Tensor, "B D *grid"]) -> Encoding:
        """Give the margin of each code of an encoding, by the same names; see `Quantizer.margins`.

        A level's margins are those of its own choice: what it chooses from depends on the levels above.
        """

    def vectors(self, encoding: Encoding) -> tuple[Float[Tensor, "B *grid D"], ...]:
        """Give the code vectors of each level."""
        return tuple(
            quantizer.embed(encoding[name]) for quantizer, name in zip(self.quantizers, self.code_names, strict=True)
        )

    def example(self, side: int) -> Encoding:
        """Give an encoding of zeros, as of one example whose top grid has so many places a side."""
        return {
            name: torch.zeros(
                1,
                *([quantizer.num_codebooks] if quantizer.num_codebooks > 1 else []),
                *[side * self.strides[0] // stride] * self.grid_axes,
                dtype=torch.int32,
            )
            for name, quantizer, stride in zip(self.code_names, self.quantizers, self.strides, strict=True)
        }

    def _level(
        self, index: int, z: Float[Tensor, "B D *grid"], codes: Int[Tensor, "B *grid"], penalty: Tensor | None
    ) -> Level:
        """Weigh the codes of a level."""
        log_p = cast("CodePrior", self.priors[index]).log_prob(codes).unsqueeze(1)
        return Level(z.unsqueeze(1), codes, log_q=torch.zeros_like(log_p), log_p=log_p, kl=None, penalty=penalty)


class VectorQuantizedBottleneck(DiscreteBottleneck):
    """One level of codes.

    Args:
        quantizer: of one codebook or several.
        prior: p(codes).
        grid_axes: 2 for images, 1 for sounds.
    """

    def __init__(self, quantizer: Quantizer, prior: CodePrior, grid_axes: int = 2) -> None:
        super().__init__([prior], (1,), grid_axes)
        self.quantizer = quantizer

    @property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """The one quantizer."""
        return (self.quantizer,)

    def encoding(self, h: Float[Tensor, "B D *grid"]) -> Encoding:
        """Give the codes."""
        return {"codes": self.quantizer.codes(h.movedim(1, -1)).to(torch.int32)}

    def margins(self, h: Float[Tensor, "B D *grid"]) -> Encoding:
        """Give their margins."""
        return {"codes": self.quantizer.margins(h.movedim(1, -1))}

    def point(self, encoding: Encoding) -> Float[Tensor, "B D *grid"]:
        """Give the code vectors."""
        return self.vectors(encoding)[0].movedim(-1, 1)

    def draw(self, encoding: Encoding, noise: Float[Tensor, "B S 0"]) -> Latent:
        """Give the codes' one z and its code length under the prior."""
        del noise
        return (self._level(0, self.point(encoding), encoding["codes"], None),)

    def forward(self, h: Float[Tensor, "B D *grid"], noise: Float[Tensor, "B S 0"]) -> Latent:
        """Quantize the encoder's output; see `Bottleneck.forward`."""
        del noise
        quantized = self.quantizer(h.movedim(1, -1))
        return (self._level(0, quantized.z.movedim(-1, 1), quantized.codes, quantized.penalty),)
