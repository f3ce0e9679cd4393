"""Turning the fitted prior of a run into one of exact integers, link after link."""

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from artifact.store import file_sha256
from models.code_priors import CodePrior
from models.exact.layers import calibrating, freeze
from models.exact.prior import ExactPrior
from training import checkpoint
from training.code_sets import CodeSet, code_set
from training.data import load
from training.errors import RunError
from training.exact.bits import bits_per_token, tokens_of
from training.exact.links import attention_free, exact_config, exact_copy, fresh_exact, write_exact
from training.exact.objective import Distillation
from training.fit import Fit, batch_indices
from training.fit_prior import Encoded, LinkTask, encode
from training.links import build_link, codes_of
from training.objectives import CodeLength
from training.recipe import ExactLinkConfig, Recipe
from training.run import Run

_EXACT_FOLDER = "exact"
"""Of the fit of integers, in the folder of a link."""
_FLOAT_FOLDER = "attention_free"
"""Likewise of the fit, in floating point, of another model for it."""
_WHOLE = 1
"""Least places of a grid of the test split, so that no silence is put behind a short sound."""
_CALIBRATED = 64
"""Examples whose numbers decide the steps."""


@dataclass(frozen=True)
class ExactFigures:
    """What a link costs in exact integers, over the codes of the test split, nothing else being known of them.

    Attributes:
        tokens: codes.
        float_bits_per_token: under the prior in floating point that it was made of.
        exact_bits_per_token: under the exact one.
    """

    tokens: int
    float_bits_per_token: float
    exact_bits_per_token: float

    def __str__(self) -> str:
        more = self.exact_bits_per_token / self.float_bits_per_token - 1.0
        return (
            f"{self.exact_bits_per_token:.4f} bits a code in exact integers, {self.float_bits_per_token:.4f} in "
            f"floating point ({more:+.2%}), over {self.tokens} codes of the test split"
        )


class StandInTask(LinkTask):
    """Another model for a link, in floating point; it begins with what it has in common with the fitted prior.

    Args:
        encoded: the codes of all links, with the models that exact ones are made of.
        index: of the link.
        weights: of the fitted prior.
    """

    def __init__(self, encoded: Encoded, index: int, weights: dict[str, Tensor]) -> None:
        super().__init__(encoded, index)
        self.name, self.weights = f"{self.name} without attention", weights

    def objective(self) -> CodeLength:
        """Make the objective with a prior that has the weights of the same names and shapes."""
        objective = super().objective()
        own = objective.model.state_dict()
        common = {n: w for n, w in self.weights.items() if n in own and own[n].shape == w.shape}
        objective.model.load_state_dict(own | common)
        return objective


class ExactTask(LinkTask):
    """An exact link and the codes that it is fitted to; see `training.fit.Task`.

    Args:
        encoded: the codes of all links, with the models that exact ones are made of.
        index: of the link.
        teacher: the fitted prior in floating point, in evaluation mode.
        config: how.
    """

    def __init__(self, encoded: Encoded, index: int, teacher: CodePrior, config: ExactLinkConfig) -> None:
        super().__init__(encoded, index)
        self.name, self.config = f"{self.name} exact", config.fit
        self.teacher, self.distillation = teacher, config.distillation

    def objective(self) -> Distillation:
        """Make the objective with a calibrated copy of the prior."""
        return Distillation(self.calibrated(), self.teacher, self.encoded.config.unconditional, self.distillation)

    def calibrated(self) -> ExactPrior:
        """Copy the prior, and measure the steps of its integers on some training codes."""
        encoded = self.encoded
        prior = exact_copy(self.teacher, self.index).eval()
        count = min(_CALIBRATED, len(encoded.train))
        *earlier, codes = self._grids(encoded.train, batch_indices(self.config.seed, 0, count, len(encoded.train)))
        with torch.no_grad(), calibrating(prior):
            prior(codes, prior.given(earlier))
        return prior

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show nothing: samples of the exact prior are those of the one that it is a copy of."""
        del model
        return {}


def fit_exact(run: Run, recipe: Recipe, *, resume: bool) -> dict[Run, ExactFigures]:
    """Make the exact counterpart of a run's prior.

    Each link is copied into integers and fitted for a while with them. Where the recipe names another model for it, as
    it must for attention, that one is fitted in floating point first.

    Args:
        run: whose prior is fitted.
        recipe: the run's, with the `[exact]` table that counts from now on; the rest of the run's recipe stays.
        resume: go on from the last checkpoints of these fits.

    Returns:
        The figures of each link, of as many as were begun before it was asked to stop.

    Raises:
        DataError: the data cannot be had.
        RecipeError: a link's prior has no exact counterpart.
        RunError: the prior is not fitted, was fitted to other codes, or has an exact counterpart already.
    """
    splits = load(recipe.data)
    model = run.model(recipe, splits.train.shape)
    chain = run.fitted_prior(recipe, model, splits)
    if recipe.prior is None or chain is None:
        raise RunError(f"{run.path} has no fitted prior, so there is nothing to make exact; run fit-prior {run.path}")
    config = attention_free(recipe, len(chain))
    if threads := exact_config(recipe).link(0).fit.threads:
        torch.set_num_threads(threads)
    _check_begun(run, recipe, len(chain), resume=resume)
    encoded = replace(
        encode(recipe.name, recipe.prior, model, splits, file_sha256(run.best)), config=config, grids=chain.grids
    )
    for index in range(len(chain)):  # before any long fit
        fresh_exact(config, index, encoded.grids, encoded.conditions)
    run.write_recipe(run.recipe().model_copy(update={"exact": exact_config(recipe)}))
    test = code_set(model, codes_of(model), splits.test, {}, None if recipe.prior.crop is None else _WHOLE)
    found: dict[Run, ExactFigures] = {}
    for index in range(len(chain)):
        figures = _fit_link(run, recipe, encoded, index, test, resume=resume)
        if figures is None:
            break
        found[run.link(index)] = figures
    return found


def _source(run: Run, recipe: Recipe, index: int) -> Run:
    """Name the fit in floating point that an exact link is made of: the prior's own, or that of another model."""
    own = run.link(index)
    return own if exact_config(recipe).link(index).model is None else Run(own.path / _FLOAT_FOLDER)


def _check_begun(run: Run, recipe: Recipe, links: int, *, resume: bool) -> None:
    """Refuse to begin where fits have begun already."""
    for index in range(links):
        begun = [Run(run.link(index).path / _EXACT_FOLDER)]
        begun += [_source(run, recipe, index)] if exact_config(recipe).link(index).model else []
        for files in begun:
            if files.last.exists() and not resume:
                raise RunError(f"{files.path} holds a fit already; add --resume to go on with it, or move it away")


def _fit_link(
    run: Run, recipe: Recipe, encoded: Encoded, index: int, test: CodeSet, *, resume: bool
) -> ExactFigures | None:
    """Make one link exact; None where it was asked to stop."""
    source, own = _source(run, recipe, index), run.link(index)
    if source != own:
        task = StandInTask(encoded, index, checkpoint.read(own.best).part("model"))
        if not _fitted(source, task, resume=resume):
            return None
    teacher = build_link(encoded.config, index, encoded.grids, encoded.conditions).eval().requires_grad_(False)
    checkpoint.load_module(teacher, checkpoint.read(source.best).part("model"), source.best)
    exact, files = ExactTask(encoded, index, teacher, exact_config(recipe).link(index)), Run(own.path / _EXACT_FOLDER)
    if not _fitted(files, exact, resume=resume):
        return None
    prior = best_of(exact, files)
    figures = ExactFigures(
        tokens_of(test, index),
        bits_per_token(teacher, test, index, desc="bits in floating point"),
        bits_per_token(prior, test, index, desc="bits in exact integers"),
    )
    origin = exact.origin | {"prior_sha256": file_sha256(own.best)}
    write_exact(own.exact, prior, origin | vars(figures))
    return figures


def best_of(task: ExactTask, files: Run) -> ExactPrior:
    """Give the frozen integers that score best on the validation split: those of the fit, or those that it began with.

    Args:
        task: that was fitted.
        files: of the fit.
    """
    prior = task.calibrated().eval()
    fitted = deepcopy(prior)
    checkpoint.load_module(fitted, checkpoint.read(files.best).part("model"), files.best)
    prior = max((prior, fitted), key=task.score_nats)
    freeze(prior)
    return prior


def _fitted(files: Run, task: LinkTask, *, resume: bool) -> bool:
    """Fit a task to its end; False where it was asked to stop before."""
    files.path.mkdir(exist_ok=True, parents=True)
    state = Fit(files, task)
    if resume and files.last.exists():
        state.resume()
    progress = state.loop()
    return progress.step >= task.config.steps or progress.stale >= task.config.patience
