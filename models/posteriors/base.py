"""What every posterior does."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from models.distributions import Distribution


class Quantity(NamedTuple):
    """One tensor of what `encode` answers.

    Attributes:
        name: of the tensor.
        shape: for one example.
        unit: what its values mean.
    """

    name: str
    shape: tuple[int, ...]
    unit: str


class Posterior(nn.Module, ABC):
    """q(z given x); its parameters are what `encode` answers, and all that a bound needs besides x and noise.

    Args:
        dimensions: D of z.

    Attributes:
        outputs: how many numbers the encoder gives.
        quantities: what it makes of them, in order; the first is the one z that stands for x.
    """

    outputs: int
    quantities: tuple[Quantity, ...]

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.dimensions = dimensions

    @property
    def drawn_from(self) -> tuple[str, ...]:
        """The names of the parameters that `distribution` needs: all of them."""
        return tuple(quantity.name for quantity in self.quantities)

    @abstractmethod
    def params(self, h: Float[Tensor, "B K"]) -> dict[str, Float[Tensor, "B ..."]]:
        """Read the encoder's output as the posterior's parameters, by name."""

    @abstractmethod
    def distribution(self, params: dict[str, Float[Tensor, "B ..."]]) -> Distribution:
        """Give q(z given x) from its parameters."""
