"""Fitting a prior over codes to the codes of a fitted model."""

from copy import deepcopy
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from artifact.store import file_sha256
from models.model import LatentVariableModel
from models.pixelcnn import GatedPixelCNN
from training import pictures
from training.codes import Codes, encode, statistics
from training.data import Splits, load
from training.errors import RunError
from training.fit import Fit, Progress, batch_indices
from training.objectives import CodeLength
from training.recipe import PriorConfig, Recipe
from training.run import Run, build_prior, codes_of

_VALIDATION_BATCH = 100
_COLLAPSED_SHARE = 0.01
_FEWEST_CODES = 1.5

Labels = Int64[np.ndarray, " N"]


class PriorTask:
    """A prior and the codes that it is fitted to; see `training.fit.Task`.

    Args:
        name: of the model.
        prior: the recipe's `[prior]` table.
        model: whose codes they are.
        splits: its data.
        model_sha256: of the file of its weights.
    """

    def __init__(
        self, name: str, prior: PriorConfig, model: LatentVariableModel, splits: Splits, model_sha256: str
    ) -> None:
        self.name, self.config, self.prior = f"{name} prior", prior.fit, prior
        self.model, self.origin = model, {"model_sha256": model_sha256}
        self.num_classes = len(splits.classes) if prior.classes else 0
        self.train, self.validation = (
            encode(model, examples.fixed(), progress=True) for examples in (splits.train, splits.validation)
        )
        self.labels = [examples.labels if self.num_classes else None for examples in (splits.train, splits.validation)]
        _check(self.train, codes_of(model).num_embeddings)

    def objective(self) -> CodeLength:
        """Make the objective with a fresh prior."""
        prior = build_prior(self.prior, self.model, self.num_classes)
        return CodeLength(prior, self.num_classes, self.prior.unconditional)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Give the codes of a step, and their classes."""
        indices = batch_indices(self.config.seed, step, self.config.batch_size, len(self.train))
        return _tensors(self.train, self.labels[0], indices)

    def score_nats(self, model: nn.Module) -> float:
        """Give the mean log p of a grid of the validation split, given its class."""
        prior = cast("GatedPixelCNN", model)
        device = next(model.parameters()).device
        total = 0.0
        with torch.inference_mode():
            for first in range(0, len(self.validation), _VALIDATION_BATCH):
                indices = np.arange(first, min(first + _VALIDATION_BATCH, len(self.validation)))
                batch = _tensors(self.validation, self.labels[1], indices)
                total += prior.log_prob(*(tensor.to(device) for tensor in batch)).sum().item()
        return total / len(self.validation)

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show samples, a row a class."""
        _, height, width = self.train.shape
        prior = deepcopy(cast("GatedPixelCNN", model)).cpu()
        return {"samples": pictures.prior_samples(self.model, prior, (height, width))}


def _tensors(codes: Codes, labels: Labels | None, indices: Int64[np.ndarray, " B"]) -> tuple[Tensor, ...]:
    """Pick grids and their classes."""
    picked = torch.from_numpy(codes[indices])
    return (picked,) if labels is None else (picked, torch.from_numpy(labels[indices]))


def _check(codes: Codes, num_embeddings: int) -> None:
    """Refuse codes that tell nothing: a prior would learn them at once, and its samples would all be the same."""
    found = statistics([codes], num_embeddings)
    least = max(_FEWEST_CODES, _COLLAPSED_SHARE * num_embeddings)
    if found.perplexity < least:
        raise RunError(
            f"the codebook has collapsed: the training split uses {found.usage:.1%} of its {num_embeddings} codes, "
            f"with a perplexity of {found.perplexity:.2f} (at least {least:g} is expected), so a prior has nothing to "
            "learn; fit the model again with quantizer.initialisation = 'kmeans', quantizer.revive_below above 0, or a "
            "smaller learning rate"
        )


def fit_prior(run: Run, recipe: Recipe, *, resume: bool) -> Progress:
    """Fit the prior of a recipe to the codes of its fitted model.

    Args:
        run: whose model is fitted.
        recipe: the run's, with the `[prior]` table that counts from now on; the rest of the run's recipe stays.
        resume: go on from the prior's last checkpoint.

    Returns:
        Where the fit ended.

    Raises:
        DataError: the data cannot be had.
        RunError: the model is not fitted or has no codes, its codebook has collapsed, the recipe has no `[prior]`, or
            there is a fitted prior already.
    """
    if recipe.prior is None:
        raise RunError(f"the recipe of {run.path} has no [prior] table; add one, or give --prior.model.kind pixelcnn")
    if run.prior.last.exists() and not resume:
        raise RunError(f"{run.prior.path} holds a prior already; add --resume to go on with it, or move it away")
    splits = load(recipe.data)
    if not splits.train.uniform:
        raise RunError(
            f"the pictures of {splits.name} differ in size, but a prior is fitted to grids of one size; "
            "set data.size instead of data.crop"
        )
    model = run.model(recipe, splits.train.shape)
    codes_of(model)
    state = Fit(run.prior, PriorTask(recipe.name, recipe.prior, model, splits, file_sha256(run.best)))
    if resume and run.prior.last.exists():
        state.resume()
    run.prior.path.mkdir(exist_ok=True)
    run.write_recipe(run.recipe().model_copy(update={"prior": recipe.prior}))
    return state.loop()
