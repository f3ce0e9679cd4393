"""Free bits: a rate below a threshold costs nothing in a loss, so that it pays to use the latents at all."""

from typing import Literal

import torch
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.bottleneck import Latent, Level
from training.errors import RecipeError


class FreeBits(BaseModel):
    """The `[objective.free_bits]` table: sum_j max(nats, mean over the batch of KL_j) (Kingma et al. 2016, eq. 15).

    Attributes:
        nats: that each group has for nothing.
        per: what a group is: one dimension of z, which needs a rate in closed form, or all of a level.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    nats: float = Field(gt=0)
    per: Literal["dimension", "level"] = "dimension"

    def rate(self, latent: Latent) -> Float64[Tensor, ""]:
        """Give what the loss takes for the mean rate of a batch.

        Args:
            latent: what the bottleneck drew for it.

        Returns:
            Nats.

        Raises:
            RecipeError: the rate of a dimension is not known.
        """
        return torch.cat([self._groups(level) for level in latent]).clamp(min=self.nats).sum()

    def _groups(self, level: Level) -> Float64[Tensor, " G"]:
        """Give the mean rates of a level's groups."""
        if self.per == "level":
            sampled = (level.log_q - level.log_p).double().mean(1)
            return (sampled if level.kl is None else level.kl.double().sum(1)).mean(0, keepdim=True)
        if level.kl is None or level.kl.shape[1] < level.z.shape[-1]:
            raise RecipeError(
                "objective.free_bits.per is 'dimension', but this posterior and prior have no rate in closed form for "
                "each dimension; set it to 'level'"
            )
        return level.kl.double().mean(0)
