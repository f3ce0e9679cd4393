"""The `[objective]` tables of probabilistic PCA, which is solved from the moments of the data and not in steps."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal, NoReturn

from jaxtyping import Float64
from pydantic import Field
from torch import Tensor

from models.model import LatentVariableModel
from models.ppca import LinearGaussian, closed_form, em_step
from training.errors import RecipeError
from training.objectives.base import DataFacts, ModelObjectiveConfig


class MomentsConfig(ModelObjectiveConfig):
    """A way from the mean and the covariance of the training split to pPCA's parameters."""

    @abstractmethod
    def solve(self, start: LinearGaussian, covariance: Float64[Tensor, "P P"]) -> Iterator[LinearGaussian]:
        """Give the parameters after each step; the last are the answer.

        Args:
            start: where an iteration begins: fresh weights, with the mean of the data.
            covariance: S of the data.

        Yields:
            Parameters, in the units of the data.

        Raises:
            ValueError: the data leave no noise beside so many dimensions.
        """

    def build(self, model: LatentVariableModel, facts: DataFacts) -> NoReturn:
        """Refuse: there are no steps over batches.

        Raises:
            RecipeError: always.
        """
        del model, facts
        raise RecipeError(
            f"objective {self.kind!r} fits family 'ppca' alone, from the moments of its data; choose 'sgvb' here"
        )


class ClosedFormConfig(MomentsConfig):
    """The most probable parameters at once; see `models.ppca.closed_form`."""

    kind: Literal["ppca-closed-form"]

    def solve(self, start: LinearGaussian, covariance: Float64[Tensor, "P P"]) -> Iterator[LinearGaussian]:
        """Solve for them."""
        yield closed_form(start.location, covariance, start.weight.shape[1])


class EMConfig(MomentsConfig):
    """Exact EM; see `models.ppca.em_step`.

    Attributes:
        iterations: at most so many steps.
        tolerance_nats: a step that adds less to the mean log p of an example is the last.
    """

    kind: Literal["ppca-em"]
    iterations: int = Field(default=20_000, gt=0)
    tolerance_nats: float = Field(default=1e-8, ge=0.0)

    def solve(self, start: LinearGaussian, covariance: Float64[Tensor, "P P"]) -> Iterator[LinearGaussian]:
        """Iterate."""
        now, reached = start, start.mean_log_prob(covariance)
        for _ in range(self.iterations):
            now, before = em_step(now, covariance), reached
            yield now
            reached = now.mean_log_prob(covariance)
            if reached - before < self.tolerance_nats:
                return
