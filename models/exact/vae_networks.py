"""The networks of a VAE as exact ones: sequences of layers, with channels last."""

from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.exact.arithmetic import added
from models.exact.entries import Entry, Narrow
from models.exact.layers import ExactConv, ExactLinear
from models.exact.windows import phases_first, shuffled
from models.networks.conv import ResidualBlock
from models.networks.fully_conv import Residual
from models.networks.ladder import Depth, Start


class ExactBlock(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x)))) of wide integers.

    Args:
        block: the floating-point one.
    """

    def __init__(self, block: ResidualBlock | Residual) -> None:
        super().__init__()
        first, last = (layer for layer in block.layers if isinstance(layer, nn.Conv2d))
        self.first = ExactConv.copy_of(first, Narrow(rectified=True))
        self.last = ExactConv.copy_of(last, Narrow(rectified=True))

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Add the block's change to its input."""
        return added(x, self.last.through(self.first.through(x)))


class Mapped(nn.Module):
    """A linear map behind its entry."""

    def __init__(self, linear: ExactLinear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Narrow, then map."""
        return self.linear.through(x)


class Folded(nn.Module):
    """Space to channels: each square of places becomes one, as `models.networks.ladder.Depth` does it."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w D"]:
        """Gather."""
        batch, height, width, channels = x.shape
        rows, columns = height // self.factor, width // self.factor
        parts = x.reshape(batch, rows, self.factor, columns, self.factor, channels)
        return parts.transpose(2, 3).reshape(batch, rows, columns, self.factor**2 * channels)


class Unfolded(nn.Module):
    """Channels to space, the way back."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w D"]:
        """Spread."""
        return shuffled(x, self.factor)


class Shaped(nn.Module):
    """A vector read as a map with its channels last, or with one axis a map read as a vector.

    Args:
        shape: of an example afterwards.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """Reshape."""
        return x.reshape(-1, *self.shape)


def exact_network(network: nn.Module, entry: Entry | None = None, *, bits: int | None = None) -> nn.Sequential:
    """Copy a floating-point network of a VAE as an exact one, from what its first map takes to wide integers.

    Args:
        network: of `models.networks.ladder` or `models.networks.conv`.
        entry: what gives the first map its inputs, in place of narrowing wide integers.
        bits: of the last map's fraction, where it is not that of wide integers.

    Returns:
        The network, with floating-point shadow weights.

    Raises:
        TypeError: it has a layer that has no exact counterpart.
    """
    layers = list(_layers(network))
    exact: list[nn.Module] = []
    last_map = max((i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d | nn.Linear)), default=-1)
    rectified = False
    channels = 0
    for index, layer in enumerate(layers):
        following = layers[index + 1] if index + 1 < len(layers) else None
        if isinstance(layer, nn.ReLU):
            rectified = True
            continue
        if isinstance(layer, nn.Conv2d | nn.Linear):
            given = entry if entry is not None else Narrow(rectified=rectified)
            options = {"bits": bits} if bits is not None and index == last_map else {}
            flat = index > 0 and isinstance(layers[index - 1], nn.Flatten)
            exact.append(Mapped(_map(layer, given, following, channels if flat else 0, options)))
            entry, rectified = None, False
            channels = layer.out_channels if isinstance(layer, nn.Conv2d) else channels
        elif isinstance(layer, ResidualBlock):
            exact.append(ExactBlock(layer))
        elif isinstance(layer, Depth):
            exact.append(Folded(layer.factor) if layer.inward else Unfolded(layer.factor))
        elif isinstance(layer, nn.PixelShuffle):
            exact.append(Unfolded(layer.upscale_factor))
        elif isinstance(layer, nn.Unflatten):
            depth, height, width = cast("tuple[int, ...]", layer.unflattened_size)
            exact.append(Shaped(height, width, depth))
        elif isinstance(layer, Shaped):
            exact.append(layer)
        elif isinstance(layer, nn.Flatten):
            exact.append(_Flat())
        else:
            raise TypeError(
                f"a network has the layer {type(layer).__name__}, which has no exact counterpart; only residual stages "
                "of convolutions with sub-pixel upsampling have one"
            )
    return nn.Sequential(*exact)


class _Flat(nn.Module):
    """A map read as a vector."""

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B D"]:
        """Reshape."""
        return x.flatten(1)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Give the layers of a network in order, those of sequences inside one by one, without dropout."""
    if isinstance(network, Start):
        channels, height, width = network.shape
        yield from _layers(network.layers)
        yield Shaped(height, width, channels)
    elif isinstance(network, nn.Sequential):
        for layer in network:
            yield from _layers(layer)
    elif not isinstance(network, nn.Dropout | nn.Identity):
        yield network


def _map(
    layer: nn.Conv2d | nn.Linear, entry: Entry, following: nn.Module | None, channels: int, options: dict[str, int]
) -> ExactLinear:
    """Copy a linear map; weights made for channels before places are reordered for channels behind them."""
    if isinstance(layer, nn.Conv2d):
        if isinstance(following, nn.PixelShuffle):
            factor = following.upscale_factor
            weight, bias = phases_first(layer.weight, factor), phases_first(_bias(layer), factor)
            return ExactConv(weight, bias, entry, stride=layer.stride[0], padding=int(layer.padding[0]), **options)
        return ExactConv.copy_of(layer, entry, **options)
    weight, bias = layer.weight, _bias(layer)
    if channels:
        weight = weight.reshape(len(weight), channels, -1).transpose(1, 2).flatten(1)
    if isinstance(following, nn.Unflatten):
        depth = cast("tuple[int, ...]", following.unflattened_size)[0]
        weight = weight.reshape(depth, -1, weight.shape[1]).transpose(0, 1).flatten(0, 1)
        bias = bias.reshape(depth, -1).T.flatten()
    return ExactLinear(weight, bias, entry, **options)


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Give a layer's bias, zeros where it has none."""
    return torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias
