"""Residual quantization: several codebooks, each for what the ones before it left over."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from models.quantizers.base import ABSENT, Quantized, Quantizer, full_precision
from models.quantizers.gradients import Gradient, replace
from models.quantizers.vector import VectorQuantizer


class ResidualQuantizer(Quantizer):
    """Z is approximated by a sum of Q code vectors, found one after another (Zeghidour et al. 2021, section III-C).

    Any first q of the codes are an approximation too: the rest is -1, the zero vector.

    Args:
        quantizers: Q codebooks of equal K and D, with no unit length.
        dropout: share of the training examples of which only the first q codebooks count, q uniform in 1 .. Q.
        gradient: how it gets from the sum to z.
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer], *, dropout: float, gradient: Gradient) -> None:
        super().__init__()
        if len({(one.num_embeddings, one.embedding_dim) for one in quantizers}) != 1:
            raise ValueError("the codebooks of a residual quantizer must be alike in num_embeddings and embedding_dim")
        if any(one.unit_length for one in quantizers):
            raise ValueError("what is left over has no unit length; set unit_length = false, or num_codebooks = 1")
        self.quantizers = nn.ModuleList(quantizers)
        self.dropout, self.gradient = dropout, gradient
        self.num_embeddings, self.embedding_dim = quantizers[0].num_embeddings, quantizers[0].embedding_dim
        self.num_codebooks = len(quantizers)

    @property
    def stages(self) -> tuple[VectorQuantizer, ...]:
        """The codebooks, in their order."""
        return tuple(stage for stage in self.quantizers if isinstance(stage, VectorQuantizer))

    def codes(self, z: Float[Tensor, "B *grid D"]) -> Int[Tensor, "B Q *grid"]:
        """Give the nearest code of every codebook to what is left over."""
        with full_precision(z.device.type):
            remainder, found = z.float(), []
            for stage in self.stages:
                found.append(stage.codes(remainder))
                remainder = remainder - stage.embed(found[-1])
            return torch.stack(found, 1)

    def embed(self, codes: Int[Tensor, "B Q *grid"]) -> Float[Tensor, "B *grid D"]:
        """Add up the code vectors of all codebooks; of one that is absent (-1) there is none."""
        return torch.stack([_embed(stage, grid) for stage, grid in zip(self.stages, codes.unbind(1), strict=True)]).sum(
            0
        )

    def margins(self, z: Float[Tensor, "B *grid D"]) -> Float[Tensor, "B Q *grid"]:
        """Give the least margin of each codebook and those before it, since a later one follows from them."""
        remainder, found = z.float(), []
        for stage in self.stages:
            found.append(stage.margins(remainder))
            remainder = remainder - stage.embed(stage.codes(remainder))
        return torch.stack(found, 1).cummin(1).values

    def forward(self, z: Float[Tensor, "B *grid D"]) -> Quantized:
        """Quantize what is left over again and again; every codebook learns from all examples."""
        with full_precision(z.device.type):
            z = z.float()
            present = self._present(z)
            remainder, codes, penalties = z, [], []
            for stage in self.stages:
                part = stage(remainder)
                remainder = remainder - stage.embed(part.codes).detach()
                codes.append(part.codes)
                penalties.append(part.penalty)
            kept = present.reshape(*present.shape, *[1] * (z.dim() - 2))
            found = torch.where(kept, torch.stack(codes, 1), ABSENT)
            weights = present / present.sum(1, keepdim=True)
            penalty = (weights * torch.stack(penalties, 1)).sum(1)
            return Quantized(replace(z, self.embed(found), self.gradient), found, penalty)

    def _present(self, z: Float[Tensor, "B *grid D"]) -> Bool[Tensor, "B Q"]:
        """Choose the codebooks of each example: all, but for those of the examples that dropout meets."""
        batch, Q = len(z), self.num_codebooks
        count = torch.full((batch,), Q, device=z.device)
        if self.training and self.dropout:
            met = torch.rand(batch, device=z.device) < self.dropout
            count = torch.where(met, torch.randint(1, Q + 1, (batch,), device=z.device), count)
        return torch.arange(Q, device=z.device) < count[:, None]


def _embed(stage: VectorQuantizer, codes: Int[Tensor, "B *grid"]) -> Float[Tensor, "B *grid D"]:
    """Give the code vectors of a codebook, zero where it is absent."""
    return stage.embed(codes.clamp(min=0)) * (codes >= 0).unsqueeze(-1)
