"""The links that a recipe's prior has: for which grids of codes, given what, and freshly built."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Int64

from models.bottleneck import DiscreteBottleneck
from models.chain import LinkGrid, link_grids
from models.code_priors import CodePrior
from models.model import LatentVariableModel
from training.data import Examples, Splits
from training.errors import RecipeError, RunError
from training.recipe import PriorConfig


def codes_of(model: LatentVariableModel) -> DiscreteBottleneck:
    """Give a model's bottleneck.

    Raises:
        RunError: the model has no codes.
    """
    if not isinstance(model.bottleneck, DiscreteBottleneck):
        raise RunError("the model has real-valued latents, no codes; a prior over codes needs a family such as 'vqvae'")
    return model.bottleneck


@torch.inference_mode()
def grids_of(model: LatentVariableModel, shape: tuple[int, ...], crop: int | None) -> tuple[LinkGrid, ...]:
    """List the grids of codes that a chain of priors is over.

    Args:
        model: in evaluation mode.
        shape: of an example, as the model was fitted to it.
        crop: places a side of the coarsest grid, where the prior is fitted to such parts of grids of any size.

    Returns:
        A grid for each link, of the size of a draw.

    Raises:
        RunError: the model has no codes.
    """
    bottleneck = codes_of(model)
    if crop is not None:
        return link_grids(bottleneck, (crop,) * bottleneck.grid_axes)
    x = torch.zeros(1, *shape, dtype=torch.uint8 if len(shape) == 3 else torch.float32)
    top = model.encode(x)[bottleneck.code_names[0]]
    return link_grids(bottleneck, tuple(top.shape[-bottleneck.grid_axes :]))


def check_links(config: PriorConfig, grids: Sequence[LinkGrid]) -> None:
    """Refuse a table for each link where they are not as many as the model has grids.

    Raises:
        RecipeError: so it is.
    """
    if config.links and len(config.links) != len(grids):
        raise RecipeError(
            f"the recipe has {len(config.links)} [[prior.links]], the model has {len(grids)} grids of codes; give one "
            "for each, or none, so that [prior] holds for all"
        )


def build_link(
    config: PriorConfig, index: int, grids: Sequence[LinkGrid], conditions: Mapping[str, Sequence[str]]
) -> CodePrior:
    """Build a fresh link.

    Args:
        config: the recipe's `[prior]` table.
        index: which.
        grids: of all links.
        conditions: what the data say of an example, and the names of the classes of each.

    Returns:
        The prior of its grid given those before it.

    Raises:
        RecipeError: the recipe has tables for another number of links, or the prior cannot be of such grids.
    """
    check_links(config, grids)
    prior = config.link(index).model.build(
        grids[index], grids[:index], {name: len(classes) for name, classes in conditions.items()}
    )
    if config.crop is not None and not prior.any_size:
        of_sounds = len(grids[index].shape) == 1
        cure = "kind 'wavenet', or leave prior.crop out to fit it to data.length" if of_sounds else "kind 'pixelcnn'"
        raise RecipeError(
            f"a prior of kind {config.link(index).model.kind!r} knows grids of one size alone, but prior.crop is for "
            f"examples that differ in size; choose {cure}"
        )
    return prior


def conditions_of(config: PriorConfig, splits: Splits) -> dict[str, tuple[str, ...]]:
    """Give what a prior is conditioned on: names, and the names of the classes of each."""
    return dict(splits.conditions) if config.classes else {}


def labels_of(examples: Examples, conditions: Collection[str]) -> dict[str, Int64[np.ndarray, " N"]]:
    """Give the class of each example, by the name of the condition, of those conditions."""
    return {name: labels for name, labels in examples.conditions.items() if name in conditions}
