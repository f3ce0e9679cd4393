"""What every objective does: it gives the steps of a fit over groups of parameters; nothing of it is exported."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from jaxtyping import Float, Float64, Int, Shaped
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from models.bound import Bound
from models.code_priors import Conditions
from models.continuous import VectorBottleneck
from models.model import LatentVariableModel, Pass
from training.errors import RecipeError
from training.objectives.minibatch import dataset_bound


class DataFacts(NamedTuple):
    """What an objective knows of the training split.

    Attributes:
        examples: N.
        variance: of their values, in squared units of theirs.
        shape: of one: H, W, C of a picture, or T of a sound.
    """

    examples: int = 1
    variance: float = 1.0
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Step:
    """One loss, to be minimised over one group of parameters alone.

    Attributes:
        group: of parameters.
        loss: to be minimised.
        log_p_nats: the batch's mean score, by `Objective.score_name`, for the progress bar.
        figures: what else is worth following, by name with unit.
        shares_graph: a later step's loss comes from the same pass, which must be kept for it.
    """

    group: str
    loss: Float[Tensor, ""]
    log_p_nats: Float[Tensor, ""]
    figures: dict[str, Float[Tensor, ""]]
    shares_graph: bool = False


class Objective(nn.Module, ABC):
    """What a fit minimises; a module, so that what it remembers is in the checkpoint."""

    model: nn.Module
    """What is fitted."""
    score_name: str = "bound"
    """What is measured in nats on the batch and on the validation split, where more is better."""
    keeps: Literal["best", "last"] = "best"
    """Which weights a fit keeps: those of the best validation score, or those of the last look."""

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Name the groups of parameters, each of which gets an optimiser of its own."""
        return {"model": list(self.model.parameters())}

    @abstractmethod
    def steps(self, *batch: Tensor) -> Iterator[Step]:
        """Give the losses of one training step, in order; the noise comes from torch's global generator.

        Args:
            batch: a batch of data.

        Yields:
            A step for each group that is to move.
        """

    def warnings(self) -> tuple[str, ...]:
        """Say what is going wrong, each with what to do about it."""
        return ()


class ModelObjective(Objective):
    """What a latent-variable model is fitted by.

    Args:
        model: what is fitted.
        facts: of the training split.
        samples: S of z for each example of a batch.
        unconditional: share of the examples whose condition is hidden from the decoder, so that it also knows none.
    """

    model: LatentVariableModel

    score_samples: int = 1
    """S of z for each example of the validation split."""

    def __init__(self, model: LatentVariableModel, facts: DataFacts, samples: int, unconditional: float) -> None:
        super().__init__()
        self.model, self.facts, self.samples, self.unconditional = model, facts, samples, unconditional

    @torch.no_grad()
    def score(
        self, model: LatentVariableModel, x: Shaped[Tensor, "B *data"], noise: Tensor, conditions: Conditions
    ) -> Float64[Tensor, " B"]:
        """Measure a model as the weights that are kept are chosen by: the ELBO, at x as it is.

        Args:
            model: in evaluation mode; the one that is fitted, or its average.
            x: data.
            noise: standard normal, `score_samples` draws of each example.
            conditions: what is known of them.

        Returns:
            Nats, more is better.
        """
        return model.bound(x, noise, conditions).elbo

    def draw_noise(self, x: Shaped[Tensor, "B *data"]) -> Float[Tensor, "B S D"]:
        """Draw the noise of a batch; one sample is enough where the posterior is certain."""
        dimensions = self.model.bottleneck.noise_dimensions
        return torch.randn(len(x), self.samples if dimensions else 1, dimensions, device=x.device)

    def weigh(
        self,
        x: Shaped[Tensor, "B *data"],
        seen: Shaped[Tensor, "B *data"],
        noise: Float[Tensor, "B S D"],
        conditions: Conditions,
    ) -> Pass:
        """Bound log p(x) from samples of q(z given what the encoder sees); see `LatentVariableModel.forward`."""
        if seen is x:
            return cast("Pass", self.model(x, noise, conditions))
        return self.model.weigh(x, self.model.bottleneck(self.model.hidden(seen), noise), conditions)

    def hide(self, x: Shaped[Tensor, "B *data"], known: tuple[Int[Tensor, " B"], ...]) -> dict[str, Int[Tensor, " B"]]:
        """Give each condition of the decoder, hidden from it for a random part of the batch."""
        return {
            name: torch.where(torch.rand(len(x), device=x.device) < self.unconditional, count, classes)
            for (name, count), classes in zip(self.model.conditions.items(), known, strict=True)
        }

    @torch.no_grad()
    def bound_figures(self, bound: Bound) -> dict[str, Float[Tensor, ""]]:
        """Give the parts of the bound of a batch, and the bound of the whole training split that it estimates."""
        return {
            "reconstruction_nats": bound.reconstruction.mean(),
            "rate_nats": bound.rate.mean(),
            "dataset_bound_nats": dataset_bound(bound.elbo, self.facts.examples),
        }


class ModelObjectiveConfig(BaseModel):
    """An `[objective]` table for a latent-variable model; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    weighs: ClassVar[bool] = True
    """Whether it fits models that bound log p(x), or those that do not."""

    @abstractmethod
    def build(self, model: LatentVariableModel, facts: DataFacts) -> ModelObjective:
        """Make the objective.

        Args:
            model: what is fitted.
            facts: of the training split.

        Returns:
            The objective.

        Raises:
            RecipeError: the model cannot be fitted by it.
        """


def vector_bottleneck(model: LatentVariableModel) -> VectorBottleneck:
    """Give the bottleneck of a model of one level of real-valued latents.

    Raises:
        RecipeError: it is of another kind.
    """
    if not isinstance(model.bottleneck, VectorBottleneck):
        raise RecipeError(
            f"this objective needs one level of real-valued latents, found a {type(model.bottleneck).__name__}; choose "
            "objective.kind = 'sgvb'"
        )
    return model.bottleneck
