"""A run: the folder of one fit, with its recipe, its checkpoints and what was measured of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from artifact.code_prior import link_role
from artifact.store import file_sha256
from models.chain import Chain
from models.code_priors import CodePrior
from models.families import build
from models.model import LatentVariableModel
from training import checkpoint
from training.data import Splits
from training.errors import RunError
from training.exact.links import attention_free, fresh_exact, read_exact
from training.links import build_link, conditions_of, grids_of
from training.recipe import Recipe, read_recipe, write_recipe
from training.team import leads


def write_text(path: Path, text: str) -> None:
    """Write a file aside and rename it, so that it is never seen half-written."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(text, "utf-8")
    os.replace(aside, path)  # noqa: PTH105  (Path.replace is the same call)


_MOST_LINKS = 64


@dataclass(frozen=True)
class Run:
    """The files of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The recipe as it was last run, defaults and overrides included."""
        return self.path / "recipe.toml"

    @property
    def last(self) -> Path:
        """All that a fit needs to go on."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The averaged weights at the best validation bound."""
        return self.path / "best.safetensors"

    @property
    def exact(self) -> Path:
        """The frozen exact counterpart of the weights."""
        return self.path / "exact.safetensors"

    @property
    def metrics_file(self) -> Path:
        """What `evaluate` measured."""
        return self.path / "metrics.json"

    def link(self, index: int) -> "Run":
        """The files of a link of the prior that was fitted to this run's codes."""
        return Run(self.path / link_role(index))

    @property
    def links(self) -> "tuple[Run, ...]":
        """The links of it that there are, in the order of the chain."""
        found = (self.link(index) for index in range(_MOST_LINKS))
        return tuple(link for link in found if link.best.exists())

    def check_free(self) -> None:
        """Refuse to begin where a run is already.

        Raises:
            RunError: the folder holds a run already.
        """
        if self.recipe_file.exists():
            raise RunError(
                f"{self.path} holds a run already; add --resume to go on with it, or choose another --output"
            )

    def write_recipe(self, recipe: BaseModel) -> None:
        """Put a recipe into the folder, which is made if it is not there; of a team, its leader does so alone."""
        if not leads():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.recipe_file, write_recipe(recipe))

    def weights(self) -> dict[str, str]:
        """Name what is fitted by the sha256 of its files: figures and priors belong to certain weights."""
        files = {"model": self.best} | {link.path.name: link.best for link in self.links}
        return {name: file_sha256(path) for name, path in files.items() if path.exists()}

    def recipe(self, overrides: dict[str, str] | None = None) -> Recipe:
        """Read the run's recipe.

        Args:
            overrides: such as `data.root`, where the data have moved.

        Raises:
            RunError: this is not the folder of a run.
        """
        if not self.recipe_file.exists():
            raise RunError(f"{self.path} is not the folder of a run: it has no recipe.toml; fit a recipe first")
        return read_recipe(self.recipe_file, overrides)

    def model(self, recipe: Recipe, shape: tuple[int, ...]) -> LatentVariableModel:
        """Build the model with its best weights.

        Args:
            recipe: the run's recipe.
            shape: H, W, C of pictures, or the samples of sounds.

        Returns:
            The model in evaluation mode, on the CPU.

        Raises:
            RunError: there is no checkpoint, or it does not fit the recipe.
        """
        model = build(recipe.model, shape)
        checkpoint.load_module(model, checkpoint.read(self.best).part("model"), self.best)
        return model.eval().requires_grad_(False)

    def fitted_prior(self, recipe: Recipe, model: LatentVariableModel, splits: Splits) -> Chain | None:
        """Build the prior with its best weights.

        Args:
            recipe: the run's recipe.
            model: the run's model.
            splits: its data.

        Returns:
            All links in evaluation mode, on the CPU; None where none was fitted.

        Raises:
            RecipeError: the recipe has tables for another number of links than the model has grids.
            RunError: a link is missing, does not fit the recipe, or was fitted to the codes of other weights.
        """
        if recipe.prior is None or not self.links:
            return None
        grids = grids_of(model, splits.train.shape, recipe.prior.crop)
        conditions = conditions_of(recipe.prior, splits)
        chain = Chain([build_link(recipe.prior, i, grids, conditions) for i in range(len(grids))], grids)
        for index, link in enumerate(chain):
            self._load_link(index, link)
        return chain.eval().requires_grad_(False)

    def _load_link(self, index: int, link: CodePrior) -> None:
        """Give a link its best weights."""
        files = self.link(index)
        if not files.best.exists():
            raise RunError(f"link {index} of the prior is not fitted yet; run fit-prior {self.path} --link {index}")
        state = checkpoint.read(files.best)
        if state.counters.get("model_sha256") != file_sha256(self.best):
            raise RunError(
                f"the prior in {files.path} was fitted to the codes of other weights than {self.best} has now; "
                "move it away and fit it again"
            )
        checkpoint.load_module(link, state.part("model"), files.best)

    def exact_chain(self, recipe: Recipe, model: LatentVariableModel, splits: Splits) -> Chain | None:
        """Build the exact counterpart of the prior.

        Args:
            recipe: the run's recipe.
            model: the run's model.
            splits: its data.

        Returns:
            All links, frozen, in evaluation mode, on the CPU; None where there are none.

        Raises:
            RecipeError: the recipe does not fit them.
            RunError: a link is missing, damaged, or was made for other weights.
        """
        if recipe.prior is None or not any(link.exact.exists() for link in self.links):
            return None
        grids = grids_of(model, splits.train.shape, recipe.prior.crop)
        config, conditions = attention_free(recipe, len(grids)), conditions_of(recipe.prior, splits)
        links = [fresh_exact(config, index, grids, conditions) for index in range(len(grids))]
        for index, link in enumerate(links):
            files = self.link(index)
            if not files.exact.exists():
                raise RunError(f"link {index} of the prior has no exact counterpart; run fit-exact {self.path} again")
            read_exact(
                files.exact, link, {"model_sha256": file_sha256(self.best), "prior_sha256": file_sha256(files.best)}
            )
        return Chain(links, grids).eval()
