"""Corruption of what the encoder sees; the decoder is held to the data as they were (Vincent et al. 2010)."""

from typing import Annotated, Literal

import torch
from jaxtyping import Float, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class _Corruption(BaseModel):
    """What every corruption is; the noise comes from torch's global generator."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Masking(_Corruption):
    """A share of all values become 0: black, or silence."""

    kind: Literal["masking"]
    share: float = Field(default=0.25, gt=0, lt=1)

    def apply(self, x: Shaped[Tensor, "B *data"]) -> Shaped[Tensor, "B *data"]:
        """Corrupt a batch."""
        return x.masked_fill(torch.rand(x.shape, device=x.device) < self.share, 0)


class GaussianNoise(_Corruption):
    """Normal noise on every value, of a standard deviation in the data's unit, such as grey levels."""

    kind: Literal["gaussian"]
    scale: float = Field(default=32.0, gt=0)

    def apply(self, x: Shaped[Tensor, "B *data"]) -> Float[Tensor, "B *data"]:
        """Corrupt a batch; the values are real ones, and may leave the data's range."""
        return x.float() + self.scale * torch.randn(x.shape, device=x.device)


class SaltAndPepper(_Corruption):
    """A share of all values become the least or the greatest that there is, as a coin falls."""

    kind: Literal["salt-and-pepper"]
    share: float = Field(default=0.25, gt=0, lt=1)

    def apply(self, x: Shaped[Tensor, "B *data"]) -> Shaped[Tensor, "B *data"]:
        """Corrupt a batch."""
        least, greatest = (0, 255) if x.dtype == torch.uint8 else (-1, 1)
        chance = torch.rand(x.shape, device=x.device)
        return x.masked_fill(chance < self.share, greatest).masked_fill(chance < self.share / 2, least)


Corruption = Annotated[Masking | GaussianNoise | SaltAndPepper, Field(discriminator="kind")]
