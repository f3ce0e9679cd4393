"""Objectives: what a fit minimises, as steps over groups of parameters; nothing of it is exported."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.bound import Bound
from models.model import LatentVariableModel


class SGVBConfig(BaseModel):
    """The `[objective]` table.

    Attributes:
        estimator: `analytic` takes the rate in closed form (SGVB-B), `sampled` from the same noise (SGVB-A).
        samples: L, samples of z for each example.
        kl_warmup_steps: steps over which the weight of the rate in the loss rises from 0 to 1; bounds never carry it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sgvb"] = "sgvb"
    estimator: Literal["analytic", "sampled"] = "analytic"
    samples: int = Field(default=1, gt=0)
    kl_warmup_steps: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Step:
    """One loss for one group of parameters, with the bound that it was made from."""

    group: str
    loss: Float64[Tensor, ""]
    bound: Bound


class SGVB(nn.Module):
    """Stochastic gradient variational Bayes (Kingma & Welling 2014, eqs. 6 and 7): loss = -(reconstruction - w rate).

    Args:
        model: what is fitted.
        config: the estimator and its schedule.
    """

    steps_done: Tensor

    def __init__(self, model: LatentVariableModel, config: SGVBConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Name the groups of parameters, each of which gets an optimiser of its own."""
        return {"model": list(self.model.parameters())}

    def steps(self, x: Shaped[Tensor, "B H W C"]) -> Iterator[Step]:
        """Give the losses of one training step, in order; the noise comes from torch's global generator.

        Args:
            x: a batch of data.

        Yields:
            One step, for the group `model`.
        """
        noise = torch.randn(len(x), self.config.samples, self.model.bottleneck.dimensions, device=x.device)
        bound = self.model.bound(x, noise)
        rate = bound.rate if self.config.estimator == "analytic" else bound.sampled_rate
        weight = self._rate_weight()
        self.steps_done += 1
        yield Step("model", (weight * rate - bound.reconstruction).mean(), bound)

    def _rate_weight(self) -> float:
        """Give the weight of the rate in this step's loss, 0 .. 1."""
        warmup = self.config.kl_warmup_steps
        return min(1.0, int(self.steps_done) / warmup) if warmup else 1.0
