"""Whole pictures and sounds through a model of codes: what comes out, and how many bits it took."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.bottleneck import DiscreteBottleneck, Encoding
from models.chain import Chain
from models.code_priors import Conditions
from models.model import LatentVariableModel
from training.codes import codebooks, downsampling, first_codebooks, raw_bits
from training.errors import RunError
from training.pictures import intensities
from training.whole import Way, padded

Data = NDArray[Any]


@dataclass(frozen=True)
class Reconstruction:
    """What a model made of one picture or sound.

    Attributes:
        kept: codebooks of each level that were kept.
        answer: of the size that went in.
        bits: of its codes, by how they are counted: `raw`, ceil(log2 K) each; `prior`, under the fitted prior, where it
            has a probability of grids of this size. What is `given` to the decoder or to the prior is named after it,
            as in `prior given label`, and costs nothing.
    """

    kept: int
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
            conditions: what is known of it, `[1]` each; None for nothing.

        Yields:
            What came out at each of `rates`: of nothing known, and then, where the decoder or the prior can be told
            what is known, of that.
        """
        whole, way = padded(x, downsampling(self.model))
        encoding = self.model.encode(torch.from_numpy(np.array(whole)[None]))
        codes = {name: grid.numpy() for name, grid in encoding.items()}
        of_prior = {} if self.chain is None else self.chain.conditions
        known = {n: v for n, v in (conditions or {}).items() if n in self.model.conditions or n in of_prior}
        for kept in self.rates:
            first = first_codebooks(self.bottleneck, codes, kept)
            part = {name: torch.from_numpy(grid) for name, grid in first.items()}
            yield Reconstruction(kept, self._answer(part, way, {}), self._bits(part, {}))
            if known:
                bits = self._bits(part, known)
                if not self.model.conditions:
                    del bits["raw"]
                given = " and ".join(known)
                named = {f"{how} given {given}": number for how, number in bits.items()}
                yield Reconstruction(kept, self._answer(part, way, known), named)

    def _answer(self, encoding: Encoding, way: Way, known: Conditions) -> Data:
        """Decode, and take what belongs to the example."""
        mean = self.model.mean(self.bottleneck.point(encoding), known)
        return way.restore((intensities(mean) if mean.dim() == 4 else mean.clamp(-1.0, 1.0).float().numpy())[0])

    def _bits(self, encoding: Encoding, known: Conditions) -> dict[str, float]:
        """Count the bits of codes that are not left out."""
        books = [(book, book.grid(encoding)) for book in codebooks(self.bottleneck)]
        present = [(book, grid) for book, grid in books if bool((grid >= 0).all())]
        bits = {"raw": sum(grid.numel() * raw_bits(book) for book, grid in present)}
        grids = tuple(grid for _, grid in present)
        if self.chain is not None and self.chain.covers(grids):
            bits["prior"] = -float(self.chain.log_probs(grids, known).sum()) / math.log(2.0)
        return bits
