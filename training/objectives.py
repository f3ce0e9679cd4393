"""Objectives: what a fit minimises, as steps over groups of parameters; nothing of it is exported."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.bottleneck import Level
from models.code_priors import CodePrior
from models.model import LatentVariableModel, Pass


class SGVBConfig(BaseModel):
    """The `[objective]` table.

    Attributes:
        estimator: `analytic` takes the rate in closed form where there is one (SGVB-B), `sampled` from the same noise
            (SGVB-A).
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
    """One loss for one group of parameters.

    Attributes:
        group: of parameters.
        loss: to be minimised.
        log_p_nats: the batch's mean bound on log p, for the progress bar.
        figures: what else is worth following, by name with unit.
    """

    group: str
    loss: Float[Tensor, ""]
    log_p_nats: Float[Tensor, ""]
    figures: dict[str, Float[Tensor, ""]]


class Objective(nn.Module, ABC):
    """What a fit minimises; a module, so that what it remembers is in the checkpoint."""

    model: nn.Module
    """What is fitted."""

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Name the groups of parameters, each of which gets an optimiser of its own."""
        return {"model": list(self.model.parameters())}

    @abstractmethod
    def steps(self, *batch: Tensor) -> Iterator[Step]:
        """Give the losses of one training step, in order; the noise comes from torch's global generator.

        Args:
            batch: a batch of data.

        Yields:
            A step for each group.
        """


class SGVB(Objective):
    """Stochastic gradient variational Bayes (Kingma & Welling 2014, eqs. 6 and 7): loss = -(reconstruction - w rate).

    A quantizer's penalty (van den Oord et al. 2017, eq. 3) is added half as many times as x has elements: with the
    data's own variance in a Gaussian likelihood, the loss is that many times MSE / variance + penalty, the form in
    which commitment costs are usually given.

    Args:
        model: what is fitted.
        config: the estimator and its schedule.
        variance: of the data, in squared units of theirs, for figures alone.
    """

    model: LatentVariableModel
    steps_done: Tensor

    def __init__(self, model: LatentVariableModel, config: SGVBConfig, variance: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.variance = variance
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    def steps(self, *batch: Shaped[Tensor, "B H W C"]) -> Iterator[Step]:
        """Give the one step of a batch of images; see `Objective.steps`."""
        (x,) = batch
        samples = self.config.samples if self.model.bottleneck.noise_dimensions else 1
        noise = torch.randn(len(x), samples, self.model.bottleneck.noise_dimensions, device=x.device)
        found = self.model(x, noise)
        bound = found.bound
        rate = bound.rate if self.config.estimator == "analytic" else bound.sampled_rate
        loss = (self._rate_weight() * rate - bound.reconstruction).mean()
        for level in found.latent:
            if level.penalty is not None:
                loss = loss + 0.5 * x[0].numel() * level.penalty.mean()
        self.steps_done += 1
        yield Step("model", loss, bound.elbo.detach().mean(), self._figures(x, found))

    def _rate_weight(self) -> float:
        """Give the weight of the rate in this step's loss, 0 .. 1."""
        warmup = self.config.kl_warmup_steps
        return min(1.0, int(self.steps_done) / warmup) if warmup else 1.0

    @torch.no_grad()
    def _figures(self, x: Shaped[Tensor, "B H W C"], found: Pass) -> dict[str, Float[Tensor, ""]]:
        """Measure a batch."""
        error = (self.model.likelihood.mean(found.params) - x.unsqueeze(1)).square().mean()
        figures = {
            "reconstruction_nats": found.bound.reconstruction.mean(),
            "rate_nats": found.bound.rate.mean(),
            "mse_over_variance": error / self.variance,
        }
        return figures | {
            f"{name}{index or ''}": value
            for index, level in enumerate(found.latent)
            for name, value in _code_figures(level).items()
        }


def _code_figures(level: Level) -> dict[str, Float[Tensor, ""]]:
    """Measure the codes of a batch, where there are some."""
    if level.codes is None or level.penalty is None:
        return {}
    shares = torch.bincount(level.codes.flatten()).double() / level.codes.numel()
    return {"perplexity": torch.special.entr(shares).sum().exp(), "penalty": level.penalty.mean()}


class CodeLength(Objective):
    """Least code length of a prior over codes: loss = -log p(codes given class).

    Args:
        model: the prior.
        num_classes: of the labels; 0 where it takes none.
        unconditional: share of the examples whose class is hidden, so that the prior also knows codes of no class.
    """

    model: CodePrior

    def __init__(self, model: CodePrior, num_classes: int, unconditional: float) -> None:
        super().__init__()
        self.model = model
        self.num_classes = num_classes
        self.unconditional = unconditional

    def steps(self, *batch: Int[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch of grids and, where the prior takes them, their classes."""
        codes, *labels = batch
        condition = None
        if labels:
            hidden = torch.rand(len(codes), device=codes.device) < self.unconditional
            condition = torch.where(hidden, self.num_classes, labels[0])
        log_p = self.model.log_prob(codes, condition)
        bits = -log_p.detach().mean() / (codes[0].numel() * torch.log(torch.tensor(2.0)))
        yield Step("model", -log_p.mean(), log_p.detach().mean(), {"bits_per_token": bits})
