"""Layers of exact networks: linear maps, convolutions as windows and one matrix, embeddings; channels stand last.

A layer begins as the copy of a fitted floating-point one. Its shadow weights are floating-point parameters, and its
forward pass computes with the integers that they round to, so that a fit sees exactly what will be; gradients go
straight through the rounding. `frozen` leaves the integers alone. Each linear map has an `entry`, which turns wide
numbers into the narrow ones that it multiplies; the steps of entries are measured once (`calibrated`), on data.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from models.exact.arithmetic import EXACT_LIMIT, NARROW_LIMIT, WIDE_BITS, WIDE_LIMIT, added, rounded, widened
from models.exact.entries import Entry, Given, Narrow
from models.exact.windows import shuffled, windows

_TRIED = 4
"""Steps of weights that are tried: the one that clips none, and those below it by powers of 2."""


class ExactLinear(nn.Module):
    """y = W x + b of narrow integers, each sum brought to wide integers at once.

    The accumulator of channel c is in units of step[c] * entry.step; it becomes a multiple of 2^-bits by
    `models.exact.arithmetic.widened` with scale[c] = step[c] * entry.step * 2^bits.

    Attributes:
        weight: `[outputs, inputs]`, floating-point shadow in a fit, int8 once frozen.
        bias: `[outputs]`, floating-point in a fit, int32 in units of the accumulator once frozen.
        step: of the weights, a power of 2 for each output channel.

    Args:
        weight: of the floating-point layer.
        bias: likewise; None for none.
        entry: what gives its inputs.
        bits: of the outputs' fraction; 8 for logits.
    """

    weight: Tensor
    bias: Tensor
    step: Tensor

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        entry: Entry,
        *,
        bits: int = WIDE_BITS,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float().clone())
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias.detach().float().clone())
        self.entry, self.bits = entry, bits
        self.register_buffer("step", _weight_steps(self.weight.detach()))

    @property
    def is_frozen(self) -> bool:
        """Whether it holds integers alone."""
        return not self.weight.is_floating_point()

    @property
    def unit(self) -> Float[Tensor, " outputs"]:
        """What 1 of each channel's accumulator stands for."""
        return self.step * self.entry.step

    @property
    def scale(self) -> Float[Tensor, " outputs"]:
        """The powers of 2 that the accumulators are multiplied by."""
        return self.unit * 2.0**self.bits

    def integers(self) -> tuple[Float[Tensor, "outputs inputs"], Float[Tensor, " outputs"]]:
        """Give weights and biases as integers that floating-point tensors carry."""
        if self.is_frozen:
            return self.weight.to(self.step.dtype), self.bias.to(self.step.dtype)
        weight = rounded((self.weight / self.step[:, None]).clamp(-NARROW_LIMIT, NARROW_LIMIT))
        return weight, rounded(self.bias / self.unit)

    def forward(self, x: Float[Tensor, "*places inputs"]) -> Float[Tensor, "*places outputs"]:
        """Map narrow integers, as the entry gives them, to wide ones."""
        weight, bias = self.integers()
        return widened(functional.linear(x, weight, bias), self.scale)

    def through(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Map what the entry takes: the entry, then the map."""
        y: Tensor = self(self.entry(x))
        return y

    def bounds(self) -> Int[Tensor, " outputs"]:
        """Give the most that a partial sum of each channel can be: sum |w| * 127 + |b| + 1 / (2 scale), int64.

        The last term is the half that is added before the floor, in units of the accumulator.
        """
        weight, bias = (integers.detach().double() for integers in self.integers())
        half = (0.5 / self.scale.double()).ceil()
        return (weight.abs().sum(1) * NARROW_LIMIT + bias.abs() + half).long()

    def reach(self) -> Float64[Tensor, " outputs"]:
        """Give the most that each wide integer of the outputs can be before it is clipped, in magnitude."""
        return self.bounds().double() * self.scale.double()

    def fit_bounds(self) -> None:
        """Make the weights' steps coarser in channels whose sums could leave float32's exact integers."""
        while not self.is_frozen and (beyond := self.bounds() >= EXACT_LIMIT).any():
            self.step[beyond] *= 2

    def freeze(self) -> None:
        """Leave the integers alone: int8 weights and int32 biases."""
        if self.is_frozen:
            return
        weight, bias = (integers.detach() for integers in self.integers())
        del self.weight, self.bias
        self.register_buffer("weight", weight.to(torch.int8))
        self.register_buffer("bias", bias.to(torch.int32))


class ExactConv(ExactLinear):
    """A convolution over the axes between batch and channels, as gathered windows and one matrix.

    Args:
        weight: `[outputs, inputs, *kernel]`, of the floating-point convolution.
        bias: likewise; None for none.
        entry: what gives its inputs.
        stride: of all axes.
        padding: zeros on both sides of all axes.
        bits: of the outputs' fraction.
    """

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs *kernel"],
        bias: Float[Tensor, " outputs"] | None,
        entry: Entry,
        *,
        stride: int = 1,
        padding: int = 0,
        bits: int = WIDE_BITS,
    ) -> None:
        super().__init__(weight.movedim(1, -1).flatten(1), bias, entry, bits=bits)
        self.kernel, self.stride, self.padding = tuple(weight.shape[2:]), stride, padding

    @classmethod
    def copy_of(cls, conv: nn.Conv1d | nn.Conv2d, entry: Entry, *, bits: int = WIDE_BITS) -> "ExactConv":
        """Make one of a floating-point convolution of square stride and padding."""
        stride, padding = conv.stride[0], int(conv.padding[0])
        return cls(conv.weight, conv.bias, entry, stride=stride, padding=padding, bits=bits)

    def forward(self, x: Float[Tensor, "B *places inputs"]) -> Float[Tensor, "B *outcome outputs"]:
        """Map narrow integers to wide ones."""
        padded = functional.pad(x, (0, 0, *([self.padding] * 2 * len(self.kernel)))) if self.padding else x
        return self.of_windows(windows(padded, self.kernel, self.stride))

    def of_windows(self, x: Float[Tensor, "*places window"]) -> Float[Tensor, "*places outputs"]:
        """Map windows that were gathered already; see `windows`."""
        return super().forward(x)


class ExactUpsampling(ExactConv):
    """A transposed convolution whose stride divides the output: a convolution of all its phases, then a shuffle.

    Output place s y + a, with stride s and phase a, gathers inputs y + j by the kernel's place a + padding - s j.

    Args:
        conv: of the same stride s, padding and kernel on all axes, kernel - 2 padding = s, so that outputs are s times
            as many.
        entry: what gives its inputs.
        bits: of the outputs' fraction.
    """

    def __init__(self, conv: nn.ConvTranspose1d | nn.ConvTranspose2d, entry: Entry, *, bits: int = WIDE_BITS) -> None:
        size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        if size - 2 * padding != stride:
            raise ValueError(
                f"a transposed convolution of kernel {size}, stride {stride} and padding {padding} is not taken; "
                "expected kernel - 2 padding = stride"
            )
        axes, reach = conv.weight.dim() - 2, -(-padding // stride)
        inputs, outputs = conv.weight.shape[:2]
        weight = torch.zeros(*(stride,) * axes, outputs, inputs, *(2 * reach + 1,) * axes)
        kernel = conv.weight.detach().movedim((0, 1), (-1, -2))
        taps, phases = range(2 * reach + 1), range(stride)
        for phase, place in product(product(phases, repeat=axes), product(taps, repeat=axes)):
            taken = tuple(a + padding - stride * (j - reach) for a, j in zip(phase, place, strict=True))
            if all(0 <= tap < size for tap in taken):
                at: tuple[Any, ...] = (*phase, ..., *place)
                weight[at] = kernel[taken]
        bias = None if conv.bias is None else conv.bias.repeat(stride**axes)
        super().__init__(weight.flatten(0, axes), bias, entry, padding=reach, bits=bits)
        self.factor = stride

    def forward(self, x: Float[Tensor, "B *places inputs"]) -> Float[Tensor, "B *outcome outputs"]:
        """Map narrow integers to wide ones."""
        return shuffled(super().forward(x), self.factor)


class ExactResidual(nn.Module):
    """x + conv(relu(conv(relu(x)))) of wide integers, through fewer channels or as many.

    Args:
        first: floating-point convolution that keeps the number of places.
        second: likewise.
    """

    def __init__(self, first: nn.Conv1d | nn.Conv2d, second: nn.Conv1d | nn.Conv2d) -> None:
        super().__init__()
        self.first = ExactConv.copy_of(first, Narrow(rectified=True))
        self.second = ExactConv.copy_of(second, Narrow(rectified=True))

    def forward(self, x: Float[Tensor, "B *places C"]) -> Float[Tensor, "B *places C"]:
        """Add the change."""
        return added(x, self.second.through(self.first.through(x)))


class ExactEmbedding(nn.Module):
    """Rows of a table of wide integers.

    Attributes:
        weight: `[rows, channels]`, floating-point shadow in a fit, int32 once frozen.

    Args:
        weight: of the floating-point table.
    """

    weight: Tensor
    one: Tensor

    def __init__(self, weight: Float[Tensor, "rows channels"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().float().clone())
        self.register_buffer("one", torch.ones(()), persistent=False)

    @property
    def is_frozen(self) -> bool:
        """Whether it holds integers alone."""
        return not self.weight.is_floating_point()

    def integers(self) -> Float[Tensor, "rows channels"]:
        """Give the table as integers that a floating-point tensor carries."""
        if self.is_frozen:
            return self.weight.to(self.one.dtype)
        return rounded(self.weight * 2.0**WIDE_BITS).clamp(-WIDE_LIMIT, WIDE_LIMIT)

    def forward(self, rows: Int[Tensor, "*places"]) -> Float[Tensor, "*places channels"]:
        """Give rows."""
        if self.is_frozen:
            return functional.embedding(rows, self.weight).to(self.one.dtype)
        return rounded(functional.embedding(rows, self.weight) * 2.0**WIDE_BITS).clamp(-WIDE_LIMIT, WIDE_LIMIT)

    def freeze(self) -> None:
        """Leave the integers alone."""
        if self.is_frozen:
            return
        weight = self.integers().detach()
        del self.weight
        self.register_buffer("weight", weight.to(torch.int32))


@contextmanager
def calibrating(network: nn.Module) -> Iterator[None]:
    """Let the next data decide the steps of all entries, and bound the sums afterwards.

    One batch is run through the network inside: each entry chooses its step by what comes through those before it,
    rounded as they are. Inputs that are `Given` keep theirs.

    Args:
        network: of exact layers, not frozen.
    """
    entries = [module for module in network.modules() if isinstance(module, Entry) and not isinstance(module, Given)]
    for entry in entries:
        entry.calibrating = True
    try:
        yield
    finally:
        for entry in entries:
            entry.calibrating = False
    for layer in linears(network).values():
        layer.fit_bounds()


def linears(network: nn.Module) -> dict[str, ExactLinear]:
    """List the linear maps of a network by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, ExactLinear)}


def freeze(network: nn.Module) -> None:
    """Leave a network its integers alone, in place, after every sum was proven to be exact.

    Args:
        network: of exact layers.

    Raises:
        InexactError: a sum could leave the integers that float32 has.
    """
    accumulator_bounds(network)
    leave_integers(network)


def leave_integers(network: nn.Module) -> None:
    """Leave a network its integers alone, unproven: to load the integers of another one into it."""
    for module in network.modules():
        if isinstance(module, ExactLinear | ExactEmbedding):
            module.freeze()


class InexactError(ValueError):
    """A sum could leave the integers that float32 has, so that its value would depend on the order."""


def accumulator_bounds(network: nn.Module) -> dict[str, int]:
    """Prove from the weights that every partial sum is exact in float32, in any order.

    Args:
        network: of exact layers.

    Returns:
        The most that a sum of each linear map can be, over its channels; all below 2^24.

    Raises:
        InexactError: one is not.
    """
    found = {name: int(layer.bounds().max()) for name, layer in linears(network).items()}
    for name, bound in found.items():
        if bound >= EXACT_LIMIT:
            raise InexactError(
                f"sums of layer {name!r} can reach {bound}, expected less than {EXACT_LIMIT} (2^24), the integers that "
                "float32 has; calibrate it again, fit with more weight decay, or give it fewer inputs"
            )
    return found


@torch.no_grad()
def _weight_steps(weight: Float[Tensor, "outputs inputs"]) -> Float[Tensor, " outputs"]:
    """Choose the power of 2 for each channel whose rounding and clipping changes the weights least, by the square."""
    exact = weight.double()
    largest = exact.abs().amax(1).clamp(min=2.0**-20) / NARROW_LIMIT
    _, exponents = torch.frexp(largest)  # largest <= 2^exponent
    best, least = torch.zeros_like(largest), torch.full_like(largest, torch.inf)
    for lower in range(_TRIED):
        step = torch.tensor([2.0 ** (int(e) - lower) for e in exponents], dtype=torch.float64, device=weight.device)
        again = ((exact / step[:, None]) + 0.5).floor().clamp(-NARROW_LIMIT, NARROW_LIMIT) * step[:, None]
        loss = (again - exact).square().sum(1)
        best, least = torch.where(loss < least, step, best), torch.minimum(loss, least)
    return best.float()
