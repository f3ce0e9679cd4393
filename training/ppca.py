"""Fitting probabilistic PCA from the moments of the training split: in closed form, or by exact EM."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from models.model import LatentVariableModel
from models.ppca import PPCA
from training import checkpoint
from training.data import Examples, Splits
from training.errors import RecipeError
from training.fit import Progress
from training.objectives.ppca import MomentsConfig
from training.recipe import Recipe
from training.run import Run

_MOST_VALUES = 4096
_BATCH = 1000


def moments(model: PPCA, examples: Examples) -> tuple[Float64[Tensor, " P"], Float64[Tensor, "P P"]]:
    """Give the mean and the covariance of pictures in network units.

    Args:
        model: whose units.
        examples: of one size.

    Returns:
        Mean and covariance, around that mean and over N.
    """
    x = examples.fixed()
    size = math.prod(x.shape[1:])
    total, squares = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for first in range(0, len(x), _BATCH):
        batch = model.flat(torch.from_numpy(x[first : first + _BATCH]))
        total += batch.sum(0)
        squares += batch.T @ batch
    mean = total / len(x)
    return mean, squares / len(x) - torch.outer(mean, mean)


def mean_exact_nats(model: PPCA, examples: Examples) -> float:
    """Give the mean log p(x) of pictures, a density over grey levels.

    Args:
        model: of them.
        examples: of one size.

    Returns:
        Nats an example.
    """
    x = torch.from_numpy(examples.fixed())
    return torch.cat([model.exact_log_prob(batch) for batch in torch.split(x, _BATCH)]).mean().item()


@torch.no_grad()
def fit_moments(
    run: Run, recipe: Recipe, model: LatentVariableModel, objective: MomentsConfig, splits: Splits
) -> Progress:
    """Solve for pPCA's parameters, and keep them as a fit in steps would.

    Args:
        run: the folder; made if it is not there.
        recipe: what is fitted.
        model: fresh.
        objective: the recipe's.
        splits: the data.

    Returns:
        Where it ended.

    Raises:
        RecipeError: the data or the objective do not fit the model.
    """
    model = _solvable(model, objective, splits)
    mean, covariance = moments(model, splits.train)
    count, found = 0, replace(model.parameters_of_x(), location=mean)
    try:
        for step in objective.solve(found, covariance):
            count, found = count + 1, step
    except ValueError as error:
        raise RecipeError(f"the model does not fit the data: {error}; lower model.latent") from error
    model.put(found)
    train, validation = (mean_exact_nats(model, part) for part in (splits.train, splits.validation))
    run.write_recipe(recipe)
    checkpoint.write(run.best, {"model": model.state_dict()}, {"step": count, "validation_nats": validation})
    return Progress(step=count, best_nats=validation, best_step=count, figures={"training_exact_nats": train})


def _solvable(model: LatentVariableModel, objective: MomentsConfig, splits: Splits) -> PPCA:
    """Give the model by its own type.

    Raises:
        RecipeError: it is another one, learns its posterior, or has too many values.
    """
    if not (isinstance(model, PPCA) and model.is_exact):
        raise RecipeError(
            f"objective {objective.kind!r} solves family 'ppca' with posterior 'exact'; choose these, or 'sgvb'"
        )
    values = math.prod(splits.train.shape)
    if values > _MOST_VALUES:
        raise RecipeError(
            f"objective {objective.kind!r} takes a matrix of all pairs of a picture's {values} values, and goes up to "
            f"{_MOST_VALUES}; set data.size to smaller pictures, or objective.kind to 'sgvb'"
        )
    return model
