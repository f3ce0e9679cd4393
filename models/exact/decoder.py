"""An exact decoder of codes to pictures: an integer mean for every value, the same on every machine."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.bottleneck import DiscreteBottleneck, VectorQuantizedBottleneck
from models.exact.arithmetic import WIDE_BITS
from models.exact.canonical import Canonical, canonical_hash, network_form
from models.exact.convert import NotExactError
from models.exact.entries import Narrow
from models.exact.layers import ExactConv, ExactEmbedding, ExactUpsampling, accumulator_bounds
from models.exact.vae_networks import ExactBlock, Mapped
from models.hierarchy import HierarchicalBottleneck
from models.likelihoods.gaussian import GreyLevelGaussian
from models.model import LatentVariableModel
from models.networks.fully_conv import Residual

MEAN_STEPS = 16
"""A mean is in units of 1/16 of a grey level."""
MEAN_LIMIT = MEAN_STEPS * 255
"""The largest; the least is 0."""


class ExactDecoder(nn.Module):
    """codes -> means, the integer counterpart of a decoder of codes; to be calibrated on codes, then frozen.

    Args:
        model: of pictures, with one codebook a level, a fully convolutional decoder and a normal likelihood.

    Raises:
        NotExactError: it is of another kind.
    """

    def __init__(self, model: LatentVariableModel) -> None:
        super().__init__()
        bottleneck = _taken(model)
        self.names = bottleneck.code_names
        tables = [one.embed(torch.arange(one.num_embeddings)).detach() for one in bottleneck.quantizers]
        self.embeddings = nn.ModuleList(ExactEmbedding(table) for table in tables)
        above = bottleneck.ups if isinstance(bottleneck, HierarchicalBottleneck) else ()
        self.ups = nn.ModuleList(_exact(cast("nn.Sequential", up)) for up in above)
        network = cast("nn.Sequential", model.decoder)
        last = cast("nn.ConvTranspose2d", network[-1])
        channels = last.out_channels // model.likelihood.outputs_per_channel
        self.network = _exact(nn.Sequential(*list(network)[:-1], _in_steps(last, channels)))

    def forward(self, *codes: Int[Tensor, "B h w"]) -> Float[Tensor, "B H W C"]:
        """Decode.

        Args:
            codes: of each level, top first.

        Returns:
            Integers 0 .. 4080 that floating-point numbers carry, in units of 1/16 of a grey level.
        """
        joined: Tensor | None = None
        for index, (grid, embedding) in enumerate(zip(codes, self.embeddings, strict=True)):
            own = embedding(grid)
            joined = own if joined is None else torch.cat([self.ups[index - 1](joined), own], dim=-1)
        mean: Tensor = self.network(joined) + MEAN_LIMIT // 2
        return mean.clamp(0, MEAN_LIMIT)

    def canonical(self) -> Canonical:
        """Give all its integers, and what is done with them, as JSON can hold it."""
        return {"kind": "decoder", "levels": len(self.embeddings), "mean_steps": MEAN_STEPS} | network_form(self)

    def canonical_hash(self) -> str:
        """Give the sha256 of `canonical`."""
        return canonical_hash(self.canonical())

    def accumulator_bounds(self) -> dict[str, int]:
        """Prove that every sum is exact; see `models.exact.layers.accumulator_bounds`."""
        return accumulator_bounds(self)


def _taken(model: LatentVariableModel) -> DiscreteBottleneck:
    """Give the bottleneck of a model that has an exact decoder.

    Raises:
        NotExactError: it has none.
    """
    bottleneck = model.bottleneck
    if not isinstance(bottleneck, VectorQuantizedBottleneck | HierarchicalBottleneck):
        raise NotExactError(f"a model with a {type(bottleneck).__name__} has no exact decoder; expected one of codes")
    if any(one.num_codebooks > 1 for one in bottleneck.quantizers):
        raise NotExactError("a model with several codebooks a level has no exact decoder; expected one of them")
    if not isinstance(model.likelihood, GreyLevelGaussian) or model.conditions:
        raise NotExactError(
            f"a decoder to a {type(model.likelihood).__name__} that is told {sorted(model.conditions) or 'nothing'} "
            "has no exact counterpart; expected a normal likelihood of pictures, and nothing told"
        )
    return bottleneck


def _in_steps(last: nn.ConvTranspose2d, channels: int) -> nn.ConvTranspose2d:
    """Give the last layer's locations alone, scaled so that a wide unit is a step of a mean."""
    scaled = nn.ConvTranspose2d(last.in_channels, channels, last.kernel_size[0], last.stride[0], int(last.padding[0]))
    factor = GreyLevelGaussian.half_range * MEAN_STEPS / 2**WIDE_BITS
    with torch.no_grad():
        scaled.weight.copy_(last.weight[:, :channels] * factor)
        cast("Tensor", scaled.bias).copy_(cast("Tensor", last.bias)[:channels] * factor)
    return scaled


def _exact(network: nn.Sequential) -> nn.Sequential:
    """Copy a network of `models.networks.fully_conv`, from wide integers to wide integers.

    Raises:
        NotExactError: it has a layer of another kind.
    """
    exact: list[nn.Module] = []
    rectified = False
    for layer in network:
        entry = Narrow(rectified=rectified)
        if isinstance(layer, nn.ConvTranspose2d):
            exact.append(Mapped(ExactUpsampling(layer, entry)))
        elif isinstance(layer, nn.Conv2d):
            exact.append(Mapped(ExactConv.copy_of(layer, entry)))
        elif isinstance(layer, Residual):
            exact.append(ExactBlock(layer))
        elif not isinstance(layer, nn.ReLU):
            raise NotExactError(f"a decoder with a {type(layer).__name__} has no exact counterpart")
        rectified = isinstance(layer, nn.ReLU)
    return nn.Sequential(*exact)
