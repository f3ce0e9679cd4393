"""The exact counterparts of a prior's links: what they are made of, and the files that hold them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.chain import LinkGrid
from models.code_priors import CodePrior
from models.exact.convert import NotExactError, exact_prior
from models.exact.layers import InexactError, leave_integers
from models.exact.prior import ExactPrior
from training import checkpoint
from training.errors import RecipeError, RunError
from training.links import build_link
from training.recipe import ExactConfig, LinkFitConfig, PriorConfig, Recipe


def exact_config(recipe: Recipe) -> ExactConfig:
    """Give the recipe's `[exact]` table, or the usual one."""
    return recipe.exact or ExactConfig()


def attention_free(recipe: Recipe, links: int) -> PriorConfig:
    """Give the recipe's prior with the models that its exact links are made of.

    Args:
        recipe: with a `[prior]` table.
        links: how many grids of codes there are.

    Returns:
        The table, one for each link.

    Raises:
        RecipeError: there are as many `[[exact.links]]` as there are no grids.
    """
    config, prior = exact_config(recipe), recipe.prior
    if prior is None:
        raise RecipeError(f"the recipe {recipe.name} has no [prior] table, so there is nothing to make exact; add one")
    if config.links and len(config.links) != links:
        raise RecipeError(
            f"the recipe has {len(config.links)} [[exact.links]], the model has {links} grids of codes; give one for "
            "each, or none, so that [exact] holds for all"
        )
    found = []
    for index in range(links):
        own, other = prior.link(index), config.link(index)
        found.append(
            LinkFitConfig(model=own.model, fit=own.fit)
            if other.model is None
            else LinkFitConfig(model=other.model, fit=other.model_fit)
        )
    return prior.model_copy(update={"links": tuple(found)})


def fresh_exact(
    config: PriorConfig, index: int, grids: Sequence[LinkGrid], conditions: Mapping[str, Sequence[str]]
) -> ExactPrior:
    """Build an exact link of a recipe whose integers are to come; see `training.links.build_link` and `exact_copy`."""
    return exact_copy(build_link(config, index, grids, conditions), index)


def exact_copy(prior: CodePrior, index: int) -> ExactPrior:
    """Copy a link into exact layers.

    Args:
        prior: the link.
        index: which it is, for the message.

    Raises:
        RecipeError: it has no exact counterpart.
    """
    try:
        return exact_prior(prior)
    except NotExactError as error:
        raise RecipeError(
            f"link {index} of the prior: {error}. Name another model for it in the recipe, in [exact.model] or in one "
            "of as many [[exact.links]] as there are grids of codes"
        ) from error


def write_exact(path: Path, prior: ExactPrior, counters: dict[str, Any]) -> None:
    """Write a frozen exact link.

    Args:
        path: the file.
        prior: frozen.
        counters: what it was made of, and its figures.
    """
    checkpoint.write(path, {"model": prior.state_dict()}, counters | {"canonical_sha256": prior.canonical_hash()})


def read_exact(path: Path, prior: ExactPrior, origin: dict[str, str]) -> None:
    """Give an exact link its integers.

    Args:
        path: the file.
        prior: of the same recipe, whose own weights go.
        origin: names and sha256 of the files that it has to be made of.

    Raises:
        RunError: it is missing, damaged, or made of something else.
    """
    state = checkpoint.read(path)
    for name, digest in origin.items():
        if state.counters.get(name) != digest:
            raise RunError(f"{path} was made for other weights ({name} differs); run fit-exact again")
    leave_integers(prior)
    checkpoint.load_module(prior, state.part("model"), path)
    if prior.canonical_hash() != state.counters.get("canonical_sha256"):
        raise RunError(f"{path} does not hold the integers that were written; run fit-exact again")
    try:
        prior.accumulator_bounds()
    except InexactError as error:
        raise RunError(f"{path}: {error}") from error
