"""Fitting a model to pictures or sounds."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor, nn

from models.families import build as build_family
from models.model import LatentVariableModel
from training import checkpoint, pictures, spectrograms
from training.data import Recordings, Splits, load
from training.data.splits import Labels
from training.errors import RecipeError, RunError
from training.fit import Fit, Progress, batch_indices
from training.objectives import DataFacts, ModelObjective
from training.objectives.ppca import MomentsConfig
from training.ppca import fit_moments
from training.recipe import Recipe
from training.run import Run

_VALIDATION_BATCH = 500
_VALIDATION_NUMBERS = 2**20
_FEW_OUTPUTS = 16
"""Numbers for a pixel or sample from which on fewer of them are validated at a time."""
_PICTURE_EXAMPLES = 32
_PICTURE_SOUNDS = 8
_CROPS = 1
"""Key of the random crops and flips, apart from that of the order of examples."""


class ModelTask:
    """A recipe's model and its data; see `training.fit.Task`.

    Args:
        recipe: what is fitted.
        splits: the data.
    """

    def __init__(self, recipe: Recipe, splits: Splits) -> None:
        self.name, self.config = recipe.name, recipe.fit
        self.recipe, self.splits = recipe, splits
        self.origin: dict[str, str] = {}
        self.validation = splits.validation.fixed()

    def objective(self) -> ModelObjective:
        """Make the objective with a fresh model, or with one that another run has fitted."""
        model = build(self.recipe, self.splits)
        if self.recipe.start_from is not None:
            best = Run(self.recipe.start_from).best
            checkpoint.load_module(model, checkpoint.read(best).part("model"), best)
        facts = DataFacts(len(self.splits.train), variance(self.splits), self.splits.train.shape)
        self.fitted = self.recipe.objective.build(model, facts)
        return self.fitted

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Give the examples of a step, and what is known of them that the decoder takes."""
        examples, config = self.splits.train, self.config
        indices = batch_indices(config.seed, step, config.batch_size, len(examples))
        random = np.random.Generator(np.random.Philox(key=[config.seed, step], counter=[0, 0, 0, _CROPS]))
        known = (torch.from_numpy(examples.conditions[name][indices]) for name in self.fitted.model.conditions)
        return torch.from_numpy(examples.batch(indices, random)), *known

    def score_nats(self, model: nn.Module) -> float:
        """Give the objective's mean score over the validation split."""
        examples = self.splits.validation
        return validation_score(cast("LatentVariableModel", model), self.validation, examples.conditions, self.fitted)

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show reconstructions of the validation split, and samples where the model can draw them."""
        fitted = cast("LatentVariableModel", model)
        if self.validation.dtype == np.float32:
            return {"reconstructions": spectrograms.sheet(spectrograms.both(fitted, self.validation[:_PICTURE_SOUNDS]))}
        shown = {"reconstructions": pictures.reconstructions(fitted, self.validation[:_PICTURE_EXAMPLES])}
        samples = pictures.samples(fitted, 64)
        return shown if samples is None else shown | {"samples": samples}


def variance(splits: Splits) -> float:
    """Give the variance of the training split's values around their common mean, in squared units of theirs."""
    if isinstance(splits.train, Recordings):
        return float(np.concatenate(splits.train.sounds).astype(np.float64).var())
    counts = np.zeros(256, dtype=np.int64)
    for index in range(len(splits.train)):
        counts += np.bincount(splits.train[index].ravel(), minlength=256)
    values, shares = np.arange(256.0), counts / counts.sum()
    return float(shares @ values**2 - (shares @ values) ** 2)


@torch.no_grad()
def validation_score(
    model: LatentVariableModel, x: NDArray[np.generic], conditions: Mapping[str, Labels], objective: ModelObjective
) -> float:
    """Give an objective's mean score over a split.

    Args:
        model: in evaluation mode.
        x: the split.
        conditions: what is known of each example.
        objective: what is minimised.

    Returns:
        Nats.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    shape = (objective.score_samples, model.bottleneck.noise_dimensions)
    numbers = shape[0] * x[0].size * max(1, model.likelihood.outputs_per_channel // _FEW_OUTPUTS)
    size = max(1, min(_VALIDATION_BATCH, _VALIDATION_NUMBERS // numbers))
    total = 0.0
    for first in range(0, len(x), size):
        part = slice(first, first + size)
        batch = torch.from_numpy(x[part]).to(device)
        known = {name: torch.from_numpy(conditions[name][part]).to(device) for name in model.conditions}
        noise = torch.randn(len(batch), *shape, generator=generator).to(device)
        total += objective.score(model, batch, noise, known).double().sum().item()
    return total / len(x)


def build(recipe: Recipe, splits: Splits) -> LatentVariableModel:
    """Make a recipe's model for its data.

    Raises:
        RecipeError: it does not fit them.
    """
    try:
        model = build_family(recipe.model, splits.train.shape)
    except ValueError as error:
        raise RecipeError(f"the model does not fit the data: {error}") from error
    if recipe.objective.weighs != model.bottleneck.bounds_log_p:
        has, kind = ("a", "sgvb") if model.bottleneck.bounds_log_p else ("no", "reconstruction")
        raise RecipeError(
            f"a model of family {recipe.model.family!r} has {has} bound on log p(x), which objective.kind "
            f"{recipe.objective.kind!r} does not fit; set it to {kind!r}"
        )
    for name, count in model.conditions.items():
        found = len(splits.conditions.get(name, ()))
        if found != count:
            raise RecipeError(
                f"the decoder tells {count} classes of {name!r} apart, {splits.name} has {found}; set "
                f"model.num_{name}s to {found}"
            )
    return model


def fit(run: Run, recipe: Recipe, *, resume: bool) -> Progress:
    """Fit a recipe, from the start or from the run's last checkpoint.

    Args:
        run: the folder; made if it is not there.
        recipe: what is fitted.
        resume: go on with the run in the folder, whose recipe is then `recipe`.

    Returns:
        Where the fit ended.

    Raises:
        DataError: the data cannot be had.
        RecipeError: the model does not fit the data.
        RunError: there is a run already, or none to resume.
    """
    splits = load(recipe.data)
    _check(recipe, splits)
    if not resume:
        run.check_free()
    if isinstance(recipe.objective, MomentsConfig):
        torch.manual_seed(recipe.fit.seed)
        return fit_moments(run, recipe, build(recipe, splits), recipe.objective, splits)
    state = Fit(run, ModelTask(recipe, splits))
    if resume and run.last.exists():
        state.resume()
    run.write_recipe(recipe)
    return state.loop()


def _check(recipe: Recipe, splits: Splits) -> None:
    """Refuse data that the likelihood gives no probability to, before any time is spent on them."""
    values = recipe.model.likelihood.build().values
    for name in ("train", "validation", "test"):
        examples = getattr(splits, name)
        if len(examples) == 0:
            raise RunError(f"the {name} split of {splits.name} is empty; give it examples or larger fractions")
        if values is not None and not np.isin(examples.fixed(256), values).all():
            raise RunError(
                f"the {recipe.model.likelihood.kind} likelihood takes pixels of {values} alone, "
                f"{splits.name} has others; choose model.likelihood.kind = 'gaussian' or binarised data"
            )
