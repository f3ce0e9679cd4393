"""Objectives: what a fit minimises, as steps over groups of parameters; nothing of it is exported."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, Shaped
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.bottleneck import DiscreteBottleneck, Latent
from models.code_priors import CodePrior
from models.likelihoods import Params
from models.model import LatentVariableModel, Pass
from training.codes import codebooks
from training.collapse import CodeWatch
from training.spectral import SpectralLoss


class SGVBConfig(BaseModel):
    """The `[objective]` table.

    Attributes:
        estimator: `analytic` takes the rate in closed form where there is one (SGVB-B), `sampled` from the same noise
            (SGVB-A).
        samples: L, samples of z for each example.
        spectral_weight: of the spectral loss of sounds (`training.spectral`), in nats a sample: an auxiliary loss,
            which no bound carries.
        unconditional: share of the examples whose condition is hidden from the decoder, so that it also knows none.
        kl_warmup_steps: steps over which the weight of the rate in the loss rises from 0 to 1; bounds never carry it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sgvb"] = "sgvb"
    estimator: Literal["analytic", "sampled"] = "analytic"
    samples: int = Field(default=1, gt=0)
    kl_warmup_steps: int = Field(default=0, ge=0)
    spectral_weight: float = Field(default=0.0, ge=0)
    unconditional: float = Field(default=0.2, gt=0, le=1)


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

    def warnings(self) -> tuple[str, ...]:
        """Say what is going wrong, each with what to do about it."""
        return ()


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
        self.spectral = SpectralLoss() if config.spectral_weight else None
        self.watch = CodeWatch()
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    def warnings(self) -> tuple[str, ...]:
        """Warn of collapsed codebooks."""
        return self.watch.warnings()

    def steps(self, *batch: Shaped[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch: data, and their class for each condition; see `Objective.steps`."""
        x, *known = batch
        conditions = {
            name: torch.where(torch.rand(len(x), device=x.device) < self.config.unconditional, count, classes)
            for (name, count), classes in zip(self.model.conditions.items(), known, strict=True)
        }
        samples = self.config.samples if self.model.bottleneck.noise_dimensions else 1
        noise = torch.randn(len(x), samples, self.model.bottleneck.noise_dimensions, device=x.device)
        found = self.model(x, noise, conditions)
        bound = found.bound
        rate = bound.rate if self.config.estimator == "analytic" else bound.sampled_rate
        loss = (self._rate_weight() * rate - bound.reconstruction).mean()
        for level in found.latent:
            if level.penalty is not None:
                loss = loss + 0.5 * x[0].numel() * level.penalty.mean()
        auxiliary = self.auxiliary_nats(x, found.params)
        figures = self._figures(x, found)
        if auxiliary is not None:
            loss = loss + auxiliary.mean()
            figures["spectral_nats"] = auxiliary.detach().mean()
        self.steps_done += 1
        yield Step("model", loss, bound.elbo.detach().mean(), figures)

    def auxiliary_nats(self, x: Shaped[Tensor, "B T"], params: Params) -> Float[Tensor, " B"] | None:
        """Give the spectral loss of sounds times its weight; None where the recipe gives it none."""
        if self.spectral is None:
            return None
        distance = self.spectral(self.model.likelihood.mean(params).mean(1), x)
        return self.config.spectral_weight * x[0].numel() * distance

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
        return figures | self._code_figures(found.latent)

    def _code_figures(self, latent: Latent) -> dict[str, Float[Tensor, ""]]:
        """Measure the codes of the last batches, and what they cost in the loss, where there are some."""
        if not isinstance(self.model.bottleneck, DiscreteBottleneck):
            return {}
        levels = zip(self.model.bottleneck.code_names, latent, strict=True)
        encoding = {name: level.codes for name, level in levels if level.codes is not None}
        figures = {
            "penalty": torch.stack([level.penalty.mean() for level in latent if level.penalty is not None]).sum()
        }
        for book in codebooks(self.model.bottleneck):
            name = f"perplexity_{book.label}" if book.label else "perplexity"
            figures[name] = self.watch.add(book.label, book.grid(encoding), book.num_embeddings)
        return figures


class CodeLength(Objective):
    """Least code length of a grid of codes: loss = -log p(codes given the grids before it and what is known).

    Args:
        model: the prior of the grid.
        unconditional: share of the examples of which each condition is hidden, so that the prior also knows codes of
            which nothing, or not everything, is known.
    """

    model: CodePrior

    def __init__(self, model: CodePrior, unconditional: float) -> None:
        super().__init__()
        self.model = model
        self.unconditional = unconditional

    def steps(self, *batch: Int[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch: a class of each example for each condition, the earlier grids, the grid."""
        known = len(self.model.conditions)
        *earlier, codes = batch[known:]
        conditions = {
            name: torch.where(torch.rand(len(codes), device=codes.device) < self.unconditional, classes, found)
            for (name, classes), found in zip(self.model.conditions.items(), batch[:known], strict=True)
        }
        log_p = self.model.log_prob(codes, self.model.given(earlier), conditions)
        bits = -log_p.detach().mean() / (codes[0].numel() * torch.log(torch.tensor(2.0)))
        yield Step("model", -log_p.mean(), log_p.detach().mean(), {"bits_per_token": bits})
