"""Fitting the links of a prior to the codes of a fitted model."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor, nn

from artifact.store import file_sha256
from models.chain import LinkGrid
from models.code_priors import CodePrior
from models.model import LatentVariableModel
from training import pictures
from training.code_sets import CodeSet, code_set
from training.codes import statistics
from training.data import Recordings, Splits, load
from training.errors import RunError
from training.fit import Fit, Progress, batch_indices
from training.links import build_link, check_links, codes_of, conditions_of, grids_of, labels_of
from training.objectives import CodeLength
from training.recipe import PriorConfig, Recipe
from training.run import Run

_VALIDATION_TOKENS = 2**14
_SHOWN = 8
_COLLAPSED_SHARE = 0.01
_FEWEST_CODES = 1.5
_CROPS = 1
"""Key of the random parts of grids, apart from that of the order of examples."""


@dataclass(frozen=True)
class Encoded:
    """What all links of a prior are fitted to.

    Attributes:
        name: of the model.
        config: the recipe's `[prior]` table.
        model: whose codes they are.
        grids: of each link.
        conditions: names of what is known of the examples, and the names of the classes of each.
        train: the codes of the training split.
        validation: likewise.
        model_sha256: of the file of the model's weights.
    """

    name: str
    config: PriorConfig
    model: LatentVariableModel
    grids: tuple[LinkGrid, ...]
    conditions: dict[str, tuple[str, ...]]
    train: CodeSet
    validation: CodeSet
    model_sha256: str


def encode(name: str, config: PriorConfig, model: LatentVariableModel, splits: Splits, model_sha256: str) -> Encoded:
    """Encode what a prior is fitted to.

    Args:
        name: of the model.
        config: the recipe's `[prior]` table.
        model: in evaluation mode.
        splits: its data.
        model_sha256: of the file of its weights.

    Returns:
        The codes, all in memory.

    Raises:
        RecipeError: the recipe has tables for another number of links than the model has grids, or `prior.shifts` does
            not suit the data.
        RunError: the model has no codes, a codebook has collapsed, or no example has room for `prior.crop`.
    """
    bottleneck, grids = codes_of(model), grids_of(model, splits.train.shape, config.crop)
    check_links(config, grids)
    conditions = conditions_of(config, splits)
    train, validation = (
        code_set(model, bottleneck, examples, labels_of(examples, conditions), config.crop, shifts)
        for examples, shifts in ((splits.train, config.shifts), (splits.validation, 1))
    )
    for index, grid in enumerate(grids):
        _check(train, index, grid.num_embeddings)
    if config.crop is not None:
        train = train.with_room(config.crop, "training")
        validation = validation.with_room(config.crop, "validation")
    return Encoded(name, config, model, grids, conditions, train, validation, model_sha256)


class LinkTask:
    """A link of a prior and the codes that it is fitted to; see `training.fit.Task`.

    Args:
        encoded: the codes of all links.
        index: of the link.
    """

    def __init__(self, encoded: Encoded, index: int) -> None:
        self.encoded, self.index = encoded, index
        self.name = f"{encoded.name} prior" + (f" {index}" if index else "")
        self.config = encoded.config.link(index).fit
        self.origin = {"model_sha256": encoded.model_sha256}

    def objective(self) -> CodeLength:
        """Make the objective with a fresh prior."""
        encoded = self.encoded
        prior = build_link(encoded.config, self.index, encoded.grids, encoded.conditions)
        return CodeLength(prior, encoded.config.unconditional)

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """Give the codes of a step, and before them the classes."""
        config, codes = self.config, self.encoded.train
        indices = batch_indices(config.seed, step, config.batch_size, len(codes))
        random = np.random.Generator(np.random.Philox(key=[config.seed, step], counter=[0, 0, 0, _CROPS]))
        known = codes.conditions(indices)
        return *(known[name] for name in self.encoded.conditions), *self._grids(codes, indices, random)

    def score_nats(self, model: nn.Module) -> float:
        """Give the mean log p of a grid of the validation split, or of its middle, given all that is known."""
        prior, codes = cast("CodePrior", model), self.encoded.validation
        device = next(model.parameters()).device
        size = max(1, _VALIDATION_TOKENS // int(np.prod(self.encoded.grids[self.index].shape)))
        total = 0.0
        with torch.inference_mode():
            for first in range(0, len(codes), size):
                indices = np.arange(first, min(first + size, len(codes)))
                *earlier, own = (grid.to(device) for grid in self._grids(codes, indices))
                conditions = {name: known.to(device) for name, known in codes.conditions(indices).items()}
                total += prior.log_prob(own, prior.given(earlier), conditions).sum().item()
        return total / len(codes)

    def pictures(self, model: nn.Module) -> dict[str, UInt8[np.ndarray, "height width C"]]:
        """Show samples of this link, given grids of the validation split for those before it."""
        prior, shown = deepcopy(cast("CodePrior", model)).cpu(), np.arange(min(_SHOWN, len(self.encoded.validation)))
        *earlier, _ = (grid.numpy() for grid in self._grids(self.encoded.validation, shown))
        picture = pictures.link_samples(self.encoded.model, prior, self.encoded.grids, earlier)
        return {} if picture is None else {"samples": picture}

    def _grids(
        self, codes: CodeSet, indices: Int64[np.ndarray, " B"], random: np.random.Generator | None = None
    ) -> tuple[Tensor, ...]:
        """Give this link's grids of some examples, and before them those of earlier links."""
        crop, grids = self.encoded.config.crop, self.encoded.grids[: self.index + 1]
        if crop is None:
            return codes.whole(indices, len(grids))
        return codes.crops(indices, [crop * grid.factor for grid in grids], random)


def _check(codes: CodeSet, link: int, num_embeddings: int) -> None:
    """Refuse codes that tell nothing: a prior would learn them at once, and its samples would all be the same."""
    grids = codes.grids[link]
    found = statistics([grids] if isinstance(grids, np.ndarray) else [grid[None] for grid in grids], num_embeddings)
    least = max(_FEWEST_CODES, _COLLAPSED_SHARE * num_embeddings)
    if found.perplexity < least:
        raise RunError(
            f"the codebook has collapsed: the training split uses {found.usage:.1%} of its {num_embeddings} codes, "
            f"with a perplexity of {found.perplexity:.2f} (at least {least:g} is expected), so a prior has nothing to "
            "learn; fit the model again with quantizer.initialisation = 'kmeans', quantizer.revive_below above 0, or a "
            "smaller learning rate"
        )


def fit_prior(run: Run, recipe: Recipe, *, resume: bool, link: int | None = None) -> dict[Run, Progress]:
    """Fit the prior of a recipe to the codes of its fitted model, one link after the other.

    Args:
        run: whose model is fitted.
        recipe: the run's, with the `[prior]` table that counts from now on; the rest of the run's recipe stays.
        resume: go on from the last checkpoint of each link that has one.
        link: fit this one alone; None for all.

    Returns:
        Where the fit of each link ended, of as many as were begun before it was asked to stop.

    Raises:
        DataError: the data cannot be had.
        RecipeError: the recipe has tables for another number of links, or its prior cannot be of such grids.
        RunError: the model is not fitted or has no codes, a codebook has collapsed, the recipe has no `[prior]`, there
            is no such link, or it is fitted already.
    """
    if recipe.prior is None:
        raise RunError(f"the recipe of {run.path} has no [prior] table; add one, or give --prior.model.kind pixelcnn")
    splits = load(recipe.data)
    if not splits.train.uniform and recipe.prior.crop is None and not isinstance(splits.train, Recordings):
        raise RunError(
            f"the examples of {splits.name} differ in size; set prior.crop, places a side of the parts of their grids "
            "of codes that the prior is to be fitted to, such as --prior.crop 32"
        )
    model = run.model(recipe, splits.train.shape)
    wanted = _wanted(run, len(grids_of(model, splits.train.shape, recipe.prior.crop)), link, resume)
    if recipe.prior.link(0).fit.threads:
        torch.set_num_threads(recipe.prior.link(0).fit.threads)
    encoded = encode(recipe.name, recipe.prior, model, splits, file_sha256(run.best))
    ends: dict[Run, Progress] = {}
    for index in wanted:
        files = run.link(index)
        state = Fit(files, LinkTask(encoded, index))
        if resume and files.last.exists():
            state.resume()
        files.path.mkdir(exist_ok=True)
        run.write_recipe(run.recipe().model_copy(update={"prior": recipe.prior}))
        ends[files] = state.loop()
        if not _is_complete(state):
            break
    return ends


def _wanted(run: Run, links: int, link: int | None, resume: bool) -> Sequence[int]:
    """Say which links are to be fitted."""
    if link is not None and not 0 <= link < links:
        raise RunError(f"the model has {links} grids of codes, so its prior has no link {link}, only 0 .. {links - 1}")
    wanted = range(links) if link is None else [link]
    for index in wanted:
        if run.link(index).last.exists() and not resume:
            raise RunError(
                f"{run.link(index).path} holds a prior already; add --resume to go on with it, or move it away"
            )
    return wanted


def _is_complete(state: Fit) -> bool:
    """Tell whether a fit has come to its end, and was not asked to stop before."""
    progress, config = state.progress, state.config
    return progress.step >= config.steps or progress.stale >= config.patience
