"""What gives linear maps their narrow integers: rounded and clipped wide ones, gates, or inputs as they are."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.exact.arithmetic import WIDE_BITS, narrowed
from models.exact.tables import SIGMOID_BITS, TANH_BITS, Tables

_LEAST_EXPONENT, _LARGEST_EXPONENT = -16, 6
"""Of the step of narrow numbers."""
_MEASURED = 2**16
"""Numbers that decide a step, drawn from those that there are."""


class Entry(nn.Module):
    """What gives a linear map its narrow integers; each of them stands for so many steps.

    Attributes:
        step: a power of 2, measured while `calibrating`.
        calibrating: whether the next data decide the step.
    """

    step: Tensor
    calibrating = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("step", torch.ones(()))

    def measure(self, x: Tensor, unit: float, *, rectified: bool = False) -> None:
        """Choose the step whose rounding and clipping changes the data least, by the mean square.

        Args:
            x: data, in units.
            unit: of them.
            rectified: whether numbers below 0 become 0.
        """
        values = _drawn(x.detach().flatten()).double()
        values = values.clamp(min=0) if rectified else values
        losses = {}
        for exponent in range(_LEAST_EXPONENT, _LARGEST_EXPONENT + 1):
            scale = torch.tensor(unit / 2.0**exponent, dtype=torch.float64, device=x.device)
            again = narrowed(values, scale, rectified=rectified) / scale
            losses[exponent] = float((again - values).square().mean())
        self.step.fill_(2.0 ** min(losses, key=losses.__getitem__))


class Narrow(Entry):
    """Wide integers to narrow ones.

    Args:
        rectified: whether a rectifier comes first.
    """

    def __init__(self, *, rectified: bool = False) -> None:
        super().__init__()
        self.rectified = rectified

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Round and clip; see `models.exact.arithmetic.narrowed`."""
        if self.calibrating:
            self.measure(x, 2.0**-WIDE_BITS, rectified=self.rectified)
        return narrowed(x, 2.0**-WIDE_BITS / self.step, rectified=self.rectified)


class Gate(Entry):
    """tanh(first half) * sigmoid(second half) of the last axis of wide integers, as narrow ones.

    Args:
        tables: shared by all gates.
    """

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.tables = tables

    def forward(self, x: Float[Tensor, "*places C2"]) -> Float[Tensor, "*places C"]:
        """Look up, multiply, round and clip."""
        gated: Tensor = self.tables(x)
        unit = 2.0 ** -(TANH_BITS + SIGMOID_BITS)
        if self.calibrating:
            self.measure(gated, unit)
        return narrowed(gated, unit / self.step)


class Given(Entry):
    """Numbers that are narrow integers already, such as pixels.

    Args:
        step: what 1 stands for, a power of 2.
    """

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step.fill_(step)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Give them as they are."""
        return x


def _drawn(x: Float[Tensor, " N"]) -> Float[Tensor, " n"]:
    """Draw some of many numbers, the same each time."""
    if len(x) <= _MEASURED:
        return x
    return x[torch.randint(len(x), (_MEASURED,), generator=torch.Generator().manual_seed(0)).to(x.device)]
