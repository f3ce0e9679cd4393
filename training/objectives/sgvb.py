"""Stochastic gradient variational Bayes, the objective of most models."""

from collections.abc import Iterator
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, Float64, Int, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from models.autoregressive import AutoregressiveModel
from models.bottleneck import DiscreteBottleneck, Latent
from models.code_priors import Conditions
from models.likelihoods import Params
from models.model import LatentVariableModel, Pass
from training.codes import codebooks
from training.collapse import CodeWatch
from training.errors import RecipeError
from training.objectives.annealing import Annealing
from training.objectives.base import DataFacts, ModelObjective, ModelObjectiveConfig, Step
from training.objectives.corruption import Corruption
from training.objectives.free_bits import FreeBits
from training.posterior_collapse import RateWatch
from training.spectral import SpectralLoss


class VariationalConfig(ModelObjectiveConfig):
    """What the `[objective]` tables of all kinds that share the loss of SGVB hold.

    Attributes:
        estimator: `analytic` takes the rate in closed form where there is one (SGVB-B), `sampled` from the same noise
            (SGVB-A).
        samples: L, samples of z for each example.
        rate_weight: of the rate in the loss, the beta of a beta-VAE (Higgins et al. 2017, eq. 4).
        annealing: how that weight rises in the course of the fit; `kl_warmup_steps = N` stands for the linear one.
        free_bits: what of the rate costs nothing in the loss.
        corruption: of what the encoder sees in training; the loss is on x as it is, and so is all that is measured.
        spectral_weight: of the spectral loss of sounds (`training.spectral`), in nats a sample: an auxiliary loss.
        unconditional: share of the examples whose condition is hidden from the decoder, so that it also knows none.

    No bound carries the weight, the annealing, the free bits or the auxiliary loss.
    """

    estimator: Literal["analytic", "sampled"] = "analytic"
    samples: int = Field(default=1, gt=0)
    rate_weight: float = Field(default=1.0, ge=0)
    annealing: Annealing | None = None
    free_bits: FreeBits | None = None
    corruption: Corruption | None = None
    spectral_weight: float = Field(default=0.0, ge=0)
    unconditional: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _read_warmup(cls, table: Any) -> Any:
        if not isinstance(table, dict) or "kl_warmup_steps" not in table:
            return table
        rest = {name: value for name, value in table.items() if name != "kl_warmup_steps"}
        steps = table["kl_warmup_steps"]
        if not steps:
            return rest
        if rest.get("annealing") is not None:
            raise ValueError("kl_warmup_steps is a linear annealing: give it or annealing, not both")
        return rest | {"annealing": {"kind": "linear", "steps": steps}}

    @model_validator(mode="after")
    def _check_free_bits(self) -> Self:
        if self.free_bits is not None and self.estimator == "sampled":
            raise ValueError("free_bits count the rate in closed form: set estimator to 'analytic', or leave them out")
        return self

    def check(self, model: LatentVariableModel) -> None:
        """Refuse models that the loss does not fit.

        Raises:
            RecipeError: the spectral loss is of means, which the decoder does not give.
        """
        if self.spectral_weight and isinstance(model, AutoregressiveModel):
            raise RecipeError(
                "objective.spectral_weight compares spectra of means, which a decoder sample by sample has not; set it "
                "to 0"
            )


class SGVBConfig(VariationalConfig):
    """The `[objective]` table of kind `sgvb`, the usual one."""

    kind: Literal["sgvb"] = "sgvb"

    def build(self, model: LatentVariableModel, facts: DataFacts) -> "SGVB":
        """Make the objective; see `ModelObjectiveConfig.build`."""
        self.check(model)
        return SGVB(model, self, facts)


class SGVB(ModelObjective):
    """Stochastic gradient variational Bayes (Kingma & Welling 2014, eqs. 6 and 7): loss = w rate - reconstruction.

    A quantizer's penalty (van den Oord et al. 2017, eq. 3) is added half as many times as x has elements: with the
    data's own variance in a Gaussian likelihood, the loss is that many times MSE / variance + penalty, the form in
    which commitment costs are usually given.

    Args:
        model: what is fitted.
        config: the estimator, and how the rate is weighed.
        facts: of the training split, for figures alone.
    """

    steps_done: Tensor

    def __init__(self, model: LatentVariableModel, config: VariationalConfig, facts: DataFacts = DataFacts()) -> None:
        super().__init__(model, facts, config.samples, config.unconditional)
        self.config = config
        self.spectral = SpectralLoss() if config.spectral_weight else None
        self.watch = CodeWatch()
        self.rates = RateWatch()
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    def warnings(self) -> tuple[str, ...]:
        """Warn of collapsed codebooks and posteriors."""
        return self.watch.warnings() + self.rates.warnings()

    def steps(self, *batch: Shaped[Tensor, "B ..."]) -> Iterator[Step]:
        """Give the one step of a batch: data, and their class for each condition; see `Objective.steps`."""
        yield self.step("model", *batch)

    def step(self, group: str, x: Shaped[Tensor, "B *data"], *known: Int[Tensor, " B"]) -> Step:
        """Give the loss of a batch for a group of parameters.

        Args:
            group: of parameters.
            x: data.
            known: the class of each example for each condition.

        Returns:
            The step.
        """
        conditions, noise = self.hide(x, known), self.draw_noise(x)
        seen = x if self.config.corruption is None else self.config.corruption.apply(x)
        found = self.weigh(x, seen, noise, conditions)
        if found.bound.kl is not None:
            self.rates.add(found.bound.kl)
        loss = self._rate_weight() * self._rate(found) - found.bound.reconstruction.mean()
        for level in found.latent:
            if level.penalty is not None:
                loss = loss + 0.5 * x[0].numel() * level.penalty.mean()
        auxiliary = self.auxiliary_nats(x, found.params)
        figures = self._figures(x, found)
        if auxiliary is not None:
            loss = loss + auxiliary.mean()
            figures["spectral_nats"] = auxiliary.detach().mean()
        self.steps_done += 1
        return Step(group, loss, found.bound.elbo.detach().mean(), figures)

    @torch.no_grad()
    def score(
        self, model: LatentVariableModel, x: Shaped[Tensor, "B *data"], noise: Tensor, conditions: Conditions
    ) -> Float64[Tensor, " B"]:
        """Give the ELBO, less the auxiliary loss where there is one; see `ModelObjective.score`."""
        found = model(x, noise, conditions)
        auxiliary = self.auxiliary_nats(x, found.params)
        return found.bound.elbo if auxiliary is None else found.bound.elbo - auxiliary

    def auxiliary_nats(self, x: Shaped[Tensor, "B T"], params: Params) -> Float[Tensor, " B"] | None:
        """Give the spectral loss of sounds times its weight; None where the recipe gives it none."""
        if self.spectral is None:
            return None
        distance = self.spectral(self.model.likelihood.mean(params).mean(1), x)
        return self.config.spectral_weight * x[0].numel() * distance

    def _rate_weight(self) -> float:
        """Give the weight of the rate in this step's loss."""
        annealing = self.config.annealing
        return self.config.rate_weight * (1.0 if annealing is None else annealing.weight(int(self.steps_done)))

    def _rate(self, found: Pass) -> Float64[Tensor, ""]:
        """Give the mean rate of a batch, as the loss counts it."""
        if self.config.free_bits is not None:
            return self.config.free_bits.rate(found.latent)
        bound = found.bound
        return (bound.rate if self.config.estimator == "analytic" else bound.sampled_rate).mean()

    @torch.no_grad()
    def _figures(self, x: Shaped[Tensor, "B H W C"], found: Pass) -> dict[str, Float[Tensor, ""]]:
        """Measure a batch."""
        error = (self.model.likelihood.mean(found.params) - x.unsqueeze(1)).square().mean()
        figures = self.bound_figures(found.bound) | {"mse_over_variance": error / self.facts.variance}
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
