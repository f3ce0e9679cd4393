"""Whole pictures and sounds through a model of codes: what comes out, and how many bits it took."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bottleneck import DiscreteBottleneck, Encoding
from models.chain import Chain, LinkGrid
from models.code_priors import CodePrior, Conditions
from models.model import LatentVariableModel
from training.codes import codebooks, downsampling, first_codebooks
from training.errors import RunError
from training.pictures import intensities
from training.whole import padded

Data = NDArray[Any]


@dataclass(frozen=True)
class Reconstruction:
    """What a model made of one picture or sound.

    Attributes:
        answer: of the size that went in.
        bits: of its codes, by how they are counted: `raw`, ceil(log2 K) each; `prior`, under the fitted prior of
            nothing known; `prior given label` and the like, under that of what is known. Without a prior that has a
            probability of grids of this size, `raw` alone.
    """

    answer: Data
    bits: dict[str, float]


@dataclass(frozen=True)
class Reconstructor:
    """A model of codes and the chain of priors over them.

    Attributes:
        model: in evaluation mode, on the CPU.
        chain: the prior over its codes; None for none.
    """

    model: LatentVariableModel
    chain: Chain | None = None

    @property
    def bottleneck(self) -> DiscreteBottleneck:
        """The model's.

        Raises:
            RunError: the model has no codes.
        """
        if not isinstance(self.model.bottleneck, DiscreteBottleneck):
            raise RunError("the model has real-valued latents, whose rate is a bound, not a number of bits in a file")
        return self.model.bottleneck

    @property
    def rates(self) -> range:
        """The numbers of codebooks that can be kept: 1 .. Q of a model of one level, all of them of another one."""
        quantizers = self.bottleneck.quantizers
        most = max(quantizer.num_codebooks for quantizer in quantizers)
        return range(1 if len(quantizers) == 1 else most, most + 1)

    @torch.inference_mode()
    def each_rate(self, x: Data, conditions: Conditions | None = None) -> Iterator[Reconstruction]:
        """Send one example through the model.

        Args:
            x: a picture `[H, W, C]` or a sound `[T]`, of any size.
            conditions: of the decoder and of the prior; None for nothing known.

        Yields:
            What came out at each of `rates`.
        """
        whole, restore = self._whole(x)
        encoding = self.model.encode(torch.from_numpy(np.array(whole)[None]))
        for kept in self.rates:
            part = self._first(encoding, kept)
            answer = self.model.mean(self.bottleneck.point(part), conditions)
            yield Reconstruction(restore(answer), self._bits(part, conditions or {}))

    def _whole(self, x: Data) -> tuple[Data, Any]:
        """Pad an example to a size that the model takes; give it and the way back."""
        factor = downsampling(self.model)
        if x.ndim == 3:
            picture, placement = padded(x, factor)
            return picture, lambda answer: placement.restore(intensities(answer)[0])
        sound = np.pad(x, (0, -len(x) % factor))
        return sound, lambda answer: answer[0, : len(x)].clamp(-1.0, 1.0).numpy().astype(np.float32)

    def _first(self, encoding: Encoding, kept: int) -> Encoding:
        """Leave out the codebooks after the first so many."""
        codes = {name: grid.numpy() for name, grid in encoding.items()}
        return {name: torch.from_numpy(grid) for name, grid in first_codebooks(self.bottleneck, codes, kept).items()}

    def _bits(self, encoding: Encoding, conditions: Conditions) -> dict[str, float]:
        """Count the bits of codes that are not left out."""
        books = [
            (book, torch.from_numpy(book.grid({n: g.numpy() for n, g in encoding.items()})))
            for book in codebooks(self.bottleneck)
        ]
        present = [(book, grid) for book, grid in books if bool((grid >= 0).all())]
        raw = sum(grid.numel() * math.ceil(math.log2(book.num_embeddings)) for book, grid in present)
        bits = {"raw": float(raw)}
        grids = [grid for _, grid in present]
        if self.chain is None or not all(map(_has_probability, self.chain, self.chain.grids, grids)):
            return bits
        known = {name: value for name, value in conditions.items() if name in self.chain.conditions}
        for title, given in (("prior", {}), *([(f"prior given {' and '.join(known)}", known)] if known else [])):
            links = zip(range(len(grids)), self.chain, strict=False)
            nats = sum(float(link.log_prob(grids[index], link.given(grids[:index]), given)) for index, link in links)
            bits[title] = -nats / math.log(2.0)
        return bits


def _has_probability(link: CodePrior, grid: LinkGrid, codes: Tensor) -> bool:
    """Tell whether a prior knows grids of this size: one of sequences also knows how they begin."""
    shape = tuple(codes.shape[1:])
    return link.any_size or shape == grid.shape or (len(shape) == 1 and shape < grid.shape)
